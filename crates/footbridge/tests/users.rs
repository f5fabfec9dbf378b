//! Users, sessions and groups over three `footbridge gateway` and one `footbridge notifier`, with a real
//! RabbitMQ and a real Redis: who is reached, by what, and what services learn of it.
//!
//! That something came once, or not at all, is seen by what is sent behind it and comes next.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::time::Duration;

use proto::v1::online_event::{Ending, Kind};
use proto::v1::{
    AddToGroupRequest, DisconnectSessionsRequest, GetSessionRequest, LiftBanRequest,
    RemoveFromGroupRequest, SendToAllRequest, Targets, UnsubscribeSessionsRequest,
    WatchOnlineRequest,
};
use support::PATIENCE;
use support::cluster::{
    Cluster, Place, Service, certain, ids_of, owned, reach, sessions_on, sorted_ids, text, told,
};
use support::session::Session;
use testkit::checker::ClientError;
use tokio::time::Instant;

#[tokio::test]
async fn each_session_of_a_user_gets_a_message_once_wherever_it_is() {
    let mut cluster = Cluster::start(&Place::shared("everywhere").await).await;
    let mut ann = cluster.everywhere("ann").await;
    let mut bob = Session::subscribed(&cluster.urls[1], "bob").await;
    let service = &mut cluster.service;

    // What presence says.
    let found = service.sessions_of(&["ann", "bob", "eve"]).await.unwrap();
    assert_eq!(found, [sorted_ids(&ann), vec![bob.id()], Vec::new()]);
    let count = service.count().await;
    assert_eq!((count.users, count.sessions, sessions_on(&count)), (2, 4, vec![1, 1, 2]));
    let session = service.presence.get_session(GetSessionRequest { session: bob.id() }).await;
    assert_eq!(session.unwrap().into_inner().session.unwrap().user, "bob");

    // To one user, to several, of whom one is named twice and one is not there, to a session, to all.
    let sent = service.send_to_users(&["ann"], "/queue/x", "to ann").await;
    assert_eq!(sent, certain(&[3], 3));
    let sent = service.send_to_users(&["bob", "eve", "bob", "ann"], "/queue/x", "to both").await;
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain), (4, 3, 0));
    assert_eq!(sent.reached, [1, 0, 1, 3]);
    let sent = service.send_to_sessions(&[&ann[2].id()], "/queue/x", "to one").await;
    assert_eq!(sent, certain(&[1], 1));
    let to_all = SendToAllRequest {
        destination: "/queue/x".to_owned(),
        message: Some(text("to all")),
        ..SendToAllRequest::default()
    };
    let sent = reach(service.notifications.send_to_all(to_all).await.unwrap().into_inner());
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain), (4, 3, 0));
    // To all goes by another way, which may be the faster one.
    for (n, session) in ann.iter_mut().enumerate() {
        let mut bodies = vec!["to ann", "to both", "to all"];
        bodies.extend((n == 2).then_some("to one"));
        let mut heard = Vec::new();
        for _ in &bodies {
            heard.push(session.next().await.1);
        }
        let mut straight = heard.clone();
        straight.retain(|body| body != "to all");
        assert_eq!(straight[..2], ["to ann", "to both"]);
        heard.sort();
        bodies.sort_unstable();
        assert_eq!(heard, bodies);
    }

    // From a client at another node: by name, and by the session's id.
    bob.send("/user/ann/queue/x", "from bob").await;
    bob.send(&format!("/user/{}/queue/x", ann[0].id()), "for one of you").await;
    for session in &mut ann {
        session.hears("x", "from bob").await;
    }
    ann[0].hears("x", "for one of you").await;

    // What nobody listens to goes nowhere, and what has ended is not counted.
    let sent = service.send_to_users(&["ann"], "/queue/other", "unheard").await;
    assert_eq!(sent, certain(&[3], 3));
    ann.remove(1).disconnect().await;
    cluster
        .wait("the session is gone", async |cluster| {
            match cluster.service.send_to_users(&["ann"], "/queue/other", "unheard").await {
                sent if sent == certain(&[2], 2) => Ok(()),
                sent => Err(sent),
            }
        })
        .await;
    let service = &mut cluster.service;
    assert_eq!(service.send_to_users(&["ann"], "/queue/x", "last").await, certain(&[2], 2));
    for session in &mut ann {
        session.hears("x", "last").await;
    }
    let mut heard = vec![bob.next().await.1, bob.next().await.1];
    heard.sort();
    assert_eq!(heard, ["to all", "to both"]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_removal_from_a_group_is_in_force_on_every_node_once_it_is_answered() {
    let mut cluster = Cluster::start(&Place::shared("groups").await).await;
    let (mut ann, mut bob) = (cluster.everywhere("ann").await, cluster.everywhere("bob").await);
    let mut carl = cluster.everywhere("carl").await;
    let service = &mut cluster.service;
    // Two users and one session of a third.
    let add = AddToGroupRequest {
        group: "g".to_owned(),
        users: owned(&["ann", "bob"]),
        sessions: vec![carl[0].id()],
        lifetime: None,
    };
    assert_eq!(service.groups.add(add).await.unwrap().into_inner().added, 3);
    for session in ann.iter_mut().chain(&mut bob).chain(&mut carl[..1]) {
        session.subscribe("g", "/group/g").await;
    }
    let sent = service.send_to_group("g", "", "hello").await;
    assert_eq!(sent, certain(&[7], 3));
    let sent = service.send_to_group("g", "/queue/x", "each once").await;
    assert_eq!(sent, certain(&[7], 3));
    for session in ann.iter_mut().chain(&mut bob).chain(&mut carl[..1]) {
        let mut heard = [session.next().await, session.next().await];
        heard.sort();
        let pair = |subscription: &str, body: &str| (subscription.to_owned(), body.to_owned());
        assert_eq!(heard, [pair("g", "hello"), pair("x", "each once")]);
    }

    // Again and again, with no pause between the answer and what may not arrive. While the others are
    // there, what was sent has been fanned out when they have it.
    for round in 0..20 {
        let members = |users: &[&str], sessions: Vec<String>| {
            (owned(users), if round % 2 == 0 { sessions } else { Vec::new() })
        };
        let (users, sessions) = members(&["bob"], vec![carl[0].id()]);
        let remove = RemoveFromGroupRequest {
            group: "g".to_owned(),
            users: users.clone(),
            sessions: sessions.clone(),
        };
        service.groups.remove(remove).await.unwrap();
        let body = format!("without bob {round}");
        service.send_to_group("g", "", &body).await;
        for session in &mut ann {
            session.hears("g", &body).await;
        }
        service.send_to_users(&["bob"], "/queue/x", "still there").await;
        for session in &mut bob {
            session.hears("x", "still there").await;
        }
        match sessions.is_empty() {
            true => carl[0].hears("g", &body).await,
            false => {
                service.send_to_sessions(&[&carl[0].id()], "/queue/x", "you too").await;
                carl[0].hears("x", "you too").await;
            }
        }
        let add = AddToGroupRequest { group: "g".to_owned(), users, sessions, lifetime: None };
        service.groups.add(add).await.unwrap();
        // Their subscriptions have ended; they may subscribe again, by the same id.
        for session in &mut bob {
            session.subscribe("g", "/group/g").await;
        }
        if round % 2 == 0 {
            carl[0].subscribe("g", "/group/g").await;
        }
    }
    service.send_to_group("g", "", "all of you").await;
    for session in ann.iter_mut().chain(&mut bob).chain(&mut carl[..1]) {
        session.hears("g", "all of you").await;
    }
    // The other sessions of carl's never heard of any of it, and may not.
    service.send_to_users(&["carl"], "/queue/x", "by the way").await;
    for session in &mut carl {
        session.hears("x", "by the way").await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn services_end_sessions_and_subscriptions_on_every_node_and_see_who_comes_and_goes() {
    let mut place = Place::shared("orders").await;
    place.settings.push(("presence.linger", "1s"));
    let mut cluster = Cluster::start(&place).await;
    let service = &mut cluster.service;
    let watch = WatchOnlineRequest { users: owned(&["ann"]), kinds: Vec::new() };
    let mut events = service.presence.watch(watch).await.unwrap().into_inner();
    let (mut ann, mut bob) = (cluster.everywhere("ann").await, cluster.everywhere("bob").await);
    let mut opened = told(&mut events, 4).await;
    assert_eq!(opened.iter().filter(|event| event.kind() == Kind::UserOnline).count(), 1);
    opened.retain(|event| event.kind() == Kind::SessionOpened);
    assert_eq!(ids_of(&opened), sorted_ids(&ann));

    // Subscriptions.
    let service = &mut cluster.service;
    for session in ann.iter_mut().chain(&mut bob) {
        session.subscribe("y", "/user/queue/y").await;
    }
    let targets = Targets { users: owned(&["ann"]), ..Targets::default() };
    let unsubscribe = UnsubscribeSessionsRequest {
        targets: Some(targets.clone()),
        destination: "/user/queue/y".to_owned(),
    };
    service.presence.unsubscribe(unsubscribe).await.unwrap();
    // The order goes to all nodes, by a way of its own.
    for session in &mut ann {
        ended_subscription(service, session).await;
    }
    service.send_to_users(&["bob"], "/queue/y", "goes on").await;
    for session in &mut bob {
        session.hears("y", "goes on").await;
    }

    // Sessions, and a ban.
    let disconnect = DisconnectSessionsRequest {
        targets: Some(targets),
        reason: "spam".to_owned(),
        ban_for: Some(Duration::from_secs(3_600).try_into().unwrap()),
    };
    let answer = service.presence.disconnect(disconnect).await.unwrap().into_inner();
    assert_eq!((answer.sessions, answer.uncounted), (3, false));
    let ids = sorted_ids(&ann);
    for session in ann {
        let why = session.ended().await.to_string();
        assert!(why.contains("spam"), "{why}");
    }
    for url in &cluster.urls {
        match Session::try_connect(url, "ann").await {
            Err(ClientError::Refused(why)) => assert!(why.contains("banned"), "{why}"),
            other => panic!("a banned user is let in: {:?}", other.map(|it| it.id())),
        }
    }
    let mut closed = told(&mut events, 4).await;
    assert_eq!(closed.pop().unwrap().kind(), Kind::UserOffline);
    assert_eq!(ids_of(&closed), ids);
    for event in &closed {
        assert_eq!((event.kind(), event.ending()), (Kind::SessionClosed, Ending::Left));
    }
    let service = &mut cluster.service;
    assert_eq!(service.send_to_users(&["ann"], "/queue/x", "gone").await, certain(&[0], 0));
    let lifted = service.presence.lift_ban(LiftBanRequest { users: owned(&["ann"]) }).await;
    assert_eq!(lifted.unwrap().into_inner().lifted, 1);
    let back = Session::connect(&cluster.urls[2], "ann").await;
    assert!(told(&mut events, 2).await.iter().any(|event| event.session == back.id()));

    // One session of a user, and it alone.
    let service = &mut cluster.service;
    let targets = Targets { sessions: vec![bob[0].id()], ..Targets::default() };
    let disconnect = DisconnectSessionsRequest { targets: Some(targets), ..Default::default() };
    let answer = service.presence.disconnect(disconnect).await.unwrap().into_inner();
    assert_eq!(answer.sessions, 1);
    assert!(matches!(bob.remove(0).ended().await, ClientError::Refused(_)));
    service.send_to_users(&["bob"], "/queue/x", "still here").await;
    for session in &mut bob {
        session.hears("x", "still here").await;
    }
    cluster.stop().await;
}

/// Waits until `/user/queue/y` is heard no more, while `/user/queue/x` is.
async fn ended_subscription(service: &mut Service, session: &mut Session) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let id = session.id();
        service.send_to_sessions(&[&id], "/queue/y", "heard?").await;
        service.send_to_sessions(&[&id], "/queue/x", "fence").await;
        match session.next().await.1.as_str() {
            "fence" => return,
            _ => session.hears("x", "fence").await,
        }
        assert!(Instant::now() < deadline, "the subscription goes on");
    }
}
