//! Who is online, what is watched, and what nodes are told.

use ::presence::{Boot, Presence as _, RegisterError, Session, SessionId};
use broker::PublisherId;
use cluster::Inlet;
use proto::v1::presence_server::Presence as _;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::config::Config;
use crate::fixture::{Fixture, letter};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn users(of: &[&str]) -> Option<Targets> {
    Some(Targets { users: names(of), ..Targets::default() })
}

fn disconnect(targets: Option<Targets>) -> DisconnectSessionsRequest {
    DisconnectSessionsRequest { targets, reason: "spam".to_owned(), ban_for: None }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test(start_paused = true)]
async fn sessions_are_told_with_all_that_is_known_of_them() {
    let fixture = Fixture::new();
    let presence = Presence::new(fixture.node.clone());
    let attributes = [("plan", json!("gold")), ("team", json!({"ids": [1, true, null]}))];
    let id = fixture.session_with("ann", &attributes).await;
    fixture.session("ann").await;
    fixture.store.ban_for(&user("eve"), Duration::from_secs(60)).await.unwrap();
    let request = GetUsersRequest { users: names(&["ann", "eve", "nobody"]) };
    let told = presence.get_users(Request::new(request)).await.unwrap().into_inner().users;
    let counts: Vec<_> = told
        .iter()
        .map(|told| (&*told.user, told.sessions.len(), told.banned_for.is_some()))
        .collect();
    assert_eq!(counts, [("ann", 2, false), ("eve", 0, true), ("nobody", 0, false)]);

    let request = GetSessionRequest { session: id.to_string() };
    let told = presence.get_session(Request::new(request)).await.unwrap().into_inner();
    let told = told.session.unwrap();
    assert_eq!((&*told.id, &*told.user), (id.as_str(), "ann"));
    assert_eq!(told.node, fixture.boot.to_string());
    assert!(told.since.is_some());
    let text = format!("{:?}", told.attributes.unwrap().fields);
    for part in ["StringValue(\"gold\")", "NumberValue(1.0)", "BoolValue(true)", "NullValue"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(
        !presence
            .get_users(Request::new(GetUsersRequest { users: names(&["ann"]) }))
            .await
            .unwrap()
            .into_inner()
            .users[0]
            .sessions
            .is_empty()
    );

    let gone = SessionId::generate(Boot::generate());
    let request = GetSessionRequest { session: gone.to_string() };
    let status = presence.get_session(Request::new(request)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, &*format!("there is no session {gone}"))
    );
}

#[tokio::test(start_paused = true)]
async fn users_are_listed_by_pages_and_counted() {
    let fixture = Fixture::new();
    let presence = Presence::new(fixture.node.clone());
    for name in ["ann", "ann", "bob", "cid"] {
        fixture.session(name).await;
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListUsersRequest { page_size: 2, page_token };
        let page = presence.list_users(Request::new(request)).await.unwrap().into_inner();
        seen.extend(page.users.into_iter().map(|told| (told.user, told.sessions)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected = [("ann", 2), ("bob", 1), ("cid", 1)];
    assert_eq!(seen, expected.map(|(name, sessions)| (name.to_owned(), sessions)));
    let count = presence.count(Request::new(CountOnlineRequest {})).await.unwrap().into_inner();
    assert_eq!((count.users, count.sessions, count.nodes.len()), (3, 4, 1));
    assert_eq!(count.nodes[0].node, fixture.boot.to_string());
}

#[tokio::test(start_paused = true)]
async fn disconnect_bans_first_then_tells_the_nodes() {
    let fixture = Fixture::new();
    let presence = Presence::new(fixture.node.clone());
    let mut inlet: Inlet = fixture.inlet().await;
    let ann = fixture.session("ann").await;
    fixture.session("ann").await;
    let targets = Targets { sessions: vec![ann.to_string()], ..users(&["ann", "ann"]).unwrap() };
    let answer = presence.disconnect(Request::new(disconnect(Some(targets)))).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!((answer.sessions, answer.uncounted), (2, false), "each once");
    let of = vec![Target::User(user("ann")), Target::Session(ann)];
    assert_eq!(letter(&mut inlet).await, Letter::Disconnect { of, reason: "spam".into() });

    let request = DisconnectSessionsRequest {
        ban_for: seconds(60),
        reason: String::new(),
        ..disconnect(users(&["ann"]))
    };
    presence.disconnect(Request::new(request)).await.unwrap();
    let of = vec![Target::User(user("ann"))];
    assert_eq!(letter(&mut inlet).await, Letter::Disconnect { of, reason: NO_REASON.into() });
    let again = Session::new(SessionId::generate(fixture.boot), user("ann"), fixture.boot);
    let refused = fixture.store.register(again.clone()).await;
    assert!(matches!(refused, Err(RegisterError::Banned { .. })), "{refused:?}");
    let lift = || Request::new(LiftBanRequest { users: names(&["ann", "nobody", "ann"]) });
    assert_eq!(presence.lift_ban(lift()).await.unwrap().into_inner().lifted, 1);
    assert_eq!(presence.lift_ban(lift()).await.unwrap().into_inner().lifted, 0);
    fixture.store.register(again).await.unwrap();

    let all = Targets { all: true, ..Targets::default() };
    let answer = presence.disconnect(Request::new(disconnect(Some(all)))).await.unwrap();
    assert_eq!(answer.into_inner().sessions, 3);
    let reason = "spam".into();
    assert_eq!(letter(&mut inlet).await, Letter::Disconnect { of: vec![Target::All], reason });
}

#[tokio::test(start_paused = true)]
async fn unsubscribe_tells_the_nodes() {
    let fixture = Fixture::new();
    let presence = Presence::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    for destination in ["/topic/a.*", "/user/queue/news", "/group/dev"] {
        let (targets, destination) = (users(&["ann"]), destination.to_owned());
        let request = UnsubscribeSessionsRequest { targets, destination: destination.clone() };
        presence.unsubscribe(Request::new(request)).await.unwrap();
        let of = vec![Target::User(user("ann"))];
        let destination = destination.into();
        assert_eq!(letter(&mut inlet).await, Letter::Unsubscribe { of, destination });
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_it_is_asked_for_and_ends_with_the_node() {
    let fixture = Fixture::with_config(Config { max_watches: 2, ..Config::default() });
    let presence = Presence::new(fixture.node.clone());
    let telling = cluster::events::publish(
        fixture.broker.clone(),
        fixture.store.clone(),
        PublisherId(u64::MAX - 1),
        fixture.stopping.clone(),
    );
    tokio::spawn(telling);
    let open = async |of: &[&str], kinds: &[Kind]| {
        let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
        let request = WatchOnlineRequest { users: names(of), kinds };
        presence.watch(Request::new(request)).await.map(Response::into_inner)
    };
    let mut all = open(&[], &[]).await.unwrap();
    let mut online = open(&["bob"], &[Kind::UserOnline]).await.unwrap();
    let refused = open(&[], &[]).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let ann = fixture.session("ann").await;
    fixture.session("bob").await;
    fixture.store.unregister(&ann).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..6 {
        told.push(all.next().await.unwrap().unwrap());
    }
    let kinds: Vec<_> = told.iter().map(|told| (told.kind(), &*told.user)).collect();
    assert_eq!(
        kinds,
        [
            (Kind::SessionOpened, "ann"),
            (Kind::UserOnline, "ann"),
            (Kind::SessionOpened, "bob"),
            (Kind::UserOnline, "bob"),
            (Kind::SessionClosed, "ann"),
            (Kind::UserOffline, "ann"),
        ]
    );
    assert_eq!((&*told[4].session, told[4].ending()), (ann.as_str(), Why::Left));
    assert_eq!(told[0].node, fixture.boot.to_string());
    let event = online.next().await.unwrap().unwrap();
    assert_eq!((event.kind(), &*event.user), (Kind::UserOnline, "bob"));
    assert!(fixture.metrics().contains("notifier_watches 2\n"));
    fixture.stopping.cancel();
    for watch in [&mut all, &mut online] {
        let status = watch.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(watch.next().await.is_none());
    }
    drop((all, online));
    assert!(fixture.metrics().contains("notifier_watches 0\n"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_request_is_told_its_field() {
    let fixture = Fixture::new();
    let presence = Presence::new(fixture.node.clone());
    let field = |status: Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        status.get_details_bad_request().unwrap().field_violations[0].field.clone()
    };
    let long = "x".repeat(1_000);
    let many: Vec<_> = (0..1_001).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let id = SessionId::generate(fixture.boot).to_string();
    let sessions = |ids: &[&str]| Some(Targets { sessions: names(ids), ..Targets::default() });
    for (request, expected) in [
        (disconnect(None), "targets"),
        (disconnect(Some(Targets { all: true, ..users(&["ann"]).unwrap() })), "targets.all"),
        (disconnect(users(&[&long])), "targets.users[0]"),
        (disconnect(users(&["ann", "a\tb"])), "targets.users[1]"),
        (disconnect(users(&many)), "targets.users"),
        (disconnect(sessions(&["ann"])), "targets.sessions[0]"),
        (
            DisconnectSessionsRequest { reason: long.clone(), ..disconnect(users(&["ann"])) },
            "reason",
        ),
        (
            DisconnectSessionsRequest { reason: "a\nb".to_owned(), ..disconnect(users(&["ann"])) },
            "reason",
        ),
        (
            DisconnectSessionsRequest { ban_for: seconds(9), ..disconnect(sessions(&[&id])) },
            "ban_for",
        ),
        (
            DisconnectSessionsRequest { ban_for: seconds(-9), ..disconnect(users(&["ann"])) },
            "ban_for",
        ),
    ] {
        let status = presence.disconnect(Request::new(request)).await.unwrap_err();
        assert_eq!(field(status), expected);
    }
    for destination in ["", "/nowhere/a", "/user/ann/queue/a", "/topic/"] {
        let (targets, destination) = (users(&["ann"]), destination.to_owned());
        let request = UnsubscribeSessionsRequest { targets, destination };
        let status = presence.unsubscribe(Request::new(request)).await.unwrap_err();
        assert_eq!(field(status), "destination");
    }
    let request = GetUsersRequest::default();
    assert_eq!(field(presence.get_users(Request::new(request)).await.unwrap_err()), "users");
    let request = GetSessionRequest { session: long };
    assert_eq!(field(presence.get_session(Request::new(request)).await.unwrap_err()), "session");
    let request = ListUsersRequest { page_size: 1_001, ..Default::default() };
    assert_eq!(field(presence.list_users(Request::new(request)).await.unwrap_err()), "page_size");
    let request = WatchOnlineRequest { kinds: vec![1, 99], ..Default::default() };
    assert_eq!(field(presence.watch(Request::new(request)).await.err().unwrap()), "kinds[1]");
}
