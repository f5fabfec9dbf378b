//! Whom sends reach, and what their callers are told.

mod seen;

use std::collections::HashMap;

use ::presence::{GroupName, Groups, Member, MemoryPresence, Presence, UserName};
use async_trait::async_trait;
use broker::Broker;
use cluster::{Addressed, Letter, Target};
use proto::v1::send_request::To;
use proto::v1::{Audience, Message};
use serde_json::json;

use self::seen::seen;
use super::*;
use crate::fixture::{Fixture, letter};

fn message(text: &str) -> Option<Message> {
    Some(Message { body: Some(Body::Text(text.to_owned())), ..Message::default() })
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn to_users(users: &[&str]) -> SendToUserRequest {
    let (destination, message) = ("/queue/news".to_owned(), message("hello"));
    SendToUserRequest { users: names(users), destination, message, ..Default::default() }
}

fn to_group(groups: &[&str], destination: &str) -> SendToGroupRequest {
    let (destination, message) = (destination.to_owned(), message("hello"));
    SendToGroupRequest { groups: names(groups), destination, message, ..Default::default() }
}

fn audience(attributes: &[(&str, &str)]) -> Option<Audience> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Some(Audience { attributes: attributes.iter().map(pair).collect() })
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn counts(response: &SendResponse) -> Vec<(&str, u64)> {
    response.reached.iter().map(|reached| (&*reached.target, reached.sessions)).collect()
}

fn addressed(letter: Letter) -> Addressed {
    match letter {
        Letter::Message(addressed) => addressed,
        other => panic!("{other:?}"),
    }
}

async fn in_group(fixture: &Fixture, group: &str, members: &[Member]) {
    fixture.store.add(&GroupName::new(group).unwrap(), members, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_send_to_users_goes_to_their_node_and_says_how_many_sessions_they_have() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    for name in ["ann", "ann", "bob"] {
        fixture.session(name).await;
    }
    let request = to_users(&["ann", "nobody", "bob", "ann"]);
    let sent = notifications.send_to_user(Request::new(request)).await.unwrap().into_inner();
    assert_eq!(counts(&sent), [("ann", 2), ("nobody", 0), ("bob", 1), ("ann", 2)]);
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain_nodes, sent.uncounted), (3, 1, 0, false));
    let addressed = addressed(letter(&mut inlet).await);
    assert_eq!(addressed.to, [Target::User(user("ann")), Target::User(user("bob"))]);
    assert_eq!((&*addressed.path, &addressed.content.body[..]), ("/queue/news", &b"hello"[..]));
    assert_eq!(addressed.content.id.to_string(), sent.message_id);
    assert_eq!(addressed.content.headers, [("content-type".into(), "text/plain".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_user_without_a_session_is_no_error_and_no_letter() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let request = to_users(&["nobody"]);
    let sent = notifications.send_to_user(Request::new(request)).await.unwrap().into_inner();
    assert_eq!((counts(&sent), sent.sessions, sent.nodes), (vec![("nobody", 0)], 0, 0));
    fixture.session("ann").await;
    notifications.send_to_user(Request::new(to_users(&["ann"]))).await.unwrap();
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::User(user("ann"))], "the first");
}

#[tokio::test(start_paused = true)]
async fn a_send_to_sessions_counts_those_that_are_known() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let ann = fixture.session("ann").await;
    let ended = ::presence::SessionId::generate(fixture.boot);
    let elsewhere = ::presence::SessionId::generate(::presence::Boot::generate());
    let sessions = [&ann, &ended, &elsewhere, &ann].map(ToString::to_string).to_vec();
    let (destination, message) = ("/queue/news".to_owned(), message("hello"));
    let request = SendToSessionRequest { sessions, destination, message, audience: None };
    let sent = notifications.send_to_session(Request::new(request)).await.unwrap().into_inner();
    let (ann_text, ended_text, elsewhere_text) =
        (ann.to_string(), ended.to_string(), elsewhere.to_string());
    let expected = [(&*ann_text, 1), (&*ended_text, 0), (&*elsewhere_text, 0), (&*ann_text, 1)];
    assert_eq!(counts(&sent), expected);
    assert_eq!((sent.sessions, sent.nodes, sent.uncertain_nodes), (1, 1, 0));
    // The node knows better than the store which sessions it has; no node has the last one.
    let to = addressed(letter(&mut inlet).await).to;
    assert_eq!(to, [Target::Session(ann), Target::Session(ended)]);
}

#[tokio::test(start_paused = true)]
async fn an_audience_is_counted_and_told_to_the_node() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let gold = [("plan", json!("gold")), ("team", json!(["a", "b"]))];
    fixture.session_with("ann", &gold).await;
    fixture.session("ann").await;
    for (wanted, sessions) in [
        (&[("plan", "gold")][..], 1),
        (&[("plan", "gold"), ("team", "b")], 1),
        (&[("plan", "gold"), ("team", "c")], 0),
        (&[("plan", "silver")], 0),
    ] {
        let request = SendToUserRequest { audience: audience(wanted), ..to_users(&["ann"]) };
        let sent = notifications.send_to_user(Request::new(request)).await.unwrap().into_inner();
        assert_eq!(sent.sessions, sessions, "{wanted:?}");
        let told: HashMap<_, _> =
            addressed(letter(&mut inlet).await).audience.into_iter().collect();
        let wanted: HashMap<_, _> =
            wanted.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(told, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_to_a_group_goes_to_its_subscribers_or_to_its_members() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let topic =
        broker::Destination::Topic(cluster::group(&GroupName::new("dev").unwrap()).unwrap());
    let request = broker::SubscribeRequest::new(topic, 10);
    let mut subscribed = fixture.broker.subscribe(request).await.unwrap();
    let (first, guest) = (fixture.session("ann").await, fixture.session("guest").await);
    fixture.session("ann").await;
    let members =
        [Member::User(user("ann")), Member::Session(first), Member::Session(guest.clone())];
    in_group(&fixture, "dev", &members).await;
    in_group(&fixture, "ops", &members[..1]).await;

    let request = to_group(&["dev", "nobody's"], "");
    let sent = notifications.send_to_group(Request::new(request)).await.unwrap().into_inner();
    assert_eq!(counts(&sent), [("dev", 3), ("nobody's", 0)]);
    assert_eq!((sent.sessions, sent.nodes, sent.uncounted), (3, 1, false));
    let delivery = subscribed.next().await.unwrap();
    let to_subscribers = addressed(cluster::read(&delivery).unwrap().letter);
    assert_eq!((to_subscribers.to.len(), &*to_subscribers.path), (0, ""));
    assert_eq!(to_subscribers.content.id.to_string(), sent.message_id);

    let request = to_group(&["dev", "ops", "nobody's"], "/queue/news");
    let sent = notifications.send_to_group(Request::new(request)).await.unwrap().into_inner();
    assert_eq!(counts(&sent), [("dev", 3), ("ops", 2), ("nobody's", 0)]);
    assert_eq!((sent.sessions, sent.nodes), (3, 1), "each session counts once");
    // Ann's own session is reached as hers; nobody gets it twice.
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::User(user("ann"))]);
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::Session(guest)]);
}

#[tokio::test(start_paused = true)]
async fn a_send_to_all_says_how_many_there_are() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    for name in ["ann", "ann", "bob"] {
        fixture.session(name).await;
    }
    let request = |audience| SendToAllRequest {
        destination: "/topic/news".to_owned(),
        message: message("hello"),
        audience,
        durable: None,
    };
    let sent = notifications.send_to_all(Request::new(request(None))).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.nodes, sent.reached.len(), sent.uncounted), (3, 1, 0, false));
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::All]);
    let gold = request(audience(&[("plan", "gold")]));
    let sent = notifications.send_to_all(Request::new(gold)).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.uncounted), (0, true));
    assert_eq!(addressed(letter(&mut inlet).await).audience, [("plan".into(), "gold".into())]);
}

#[tokio::test(start_paused = true)]
async fn publish_takes_users_sessions_and_groups_by_their_destinations() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let (dev, a_b) = (GroupName::new("dev").unwrap(), user("a/b"));
    let topic = broker::Destination::Topic(cluster::group(&dev).unwrap());
    let request = broker::SubscribeRequest::new(topic, 10);
    let mut subscribed = fixture.broker.subscribe(request).await.unwrap();
    let ann = fixture.session("a/b").await;
    let publish = async |destination: &str| {
        let destination = destination.to_owned();
        let request =
            PublishRequest { destination, message: message("hello"), ..Default::default() };
        notifications.publish(Request::new(request)).await.unwrap().into_inner().message_id
    };
    // The very first: no node has been heard of when it comes.
    publish(&format!("/user/{ann}/queue/news")).await;
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::Session(ann)]);
    let id = publish("/user/a%2Fb/queue/news").await;
    let to_user = addressed(letter(&mut inlet).await);
    assert_eq!((to_user.to, &*to_user.path), (vec![Target::User(a_b)], "/queue/news"));
    assert_eq!(to_user.content.id.to_string(), id);
    let named_so = ::presence::SessionId::generate(::presence::Boot::generate());
    fixture.session(named_so.as_str()).await;
    publish(&format!("/user/{named_so}/queue/news")).await;
    let named_so = Target::User(user(named_so.as_str()));
    assert_eq!(addressed(letter(&mut inlet).await).to, [named_so], "no node has such sessions");
    let id = publish("/group/dev").await;
    let delivery = subscribed.next().await.unwrap();
    let to_group = addressed(cluster::read(&delivery).unwrap().letter);
    assert_eq!(to_group.content.id.to_string(), id);
}

fn open(
    notifications: &Notifications,
    requests: Vec<To>,
) -> BoxStream<'static, Result<SendStreamResponse, Status>> {
    let requests = requests.into_iter().map(|to| Ok(SendRequest { to: Some(to) }));
    let day = Instant::now() + Duration::from_secs(24 * 60 * 60);
    let stopping = tokio_util::sync::CancellationToken::new();
    let ending = Ending { stopping, aged: day, deadline: None, expires: None };
    notifications.sent(stream::iter(requests), ending)
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_sends_is_answered_in_order_whatever_they_are_to() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let ann = fixture.session("ann").await;
    in_group(&fixture, "dev", &[Member::User(user("ann"))]).await;
    let to_session = SendToSessionRequest {
        sessions: vec![ann.to_string()],
        destination: "/queue/news".to_owned(),
        message: message("hello"),
        audience: None,
    };
    let wrong = SendToUserRequest { destination: "news".to_owned(), ..to_users(&["ann"]) };
    let requests = vec![
        To::Users(to_users(&["ann"])),
        To::Users(wrong),
        To::Sessions(to_session),
        To::Groups(to_group(&["dev"], "/queue/news")),
        To::Users(to_users(&["nobody"])),
        To::Users(to_users(&["ann"])),
    ];
    let answers: Vec<_> = open(&notifications, requests).collect().await;
    let told: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer.unwrap().outcome.unwrap() {
            Sent::Sent(sent) => Ok(sent.sessions),
            Sent::Failure(failure) => Err((Code::from(failure.code), failure.field)),
        })
        .collect();
    let wrong = (Code::InvalidArgument, "users.destination".to_owned());
    assert_eq!(told, [Ok(1), Err(wrong), Ok(1), Ok(1), Ok(0), Ok(1)]);
    let ann_user = || vec![Target::User(user("ann"))];
    for expected in [ann_user(), vec![Target::Session(ann)], ann_user(), ann_user()] {
        assert_eq!(addressed(letter(&mut inlet).await).to, expected);
    }
    let text = fixture.metrics();
    assert!(text.contains("notifier_sends_total{outcome=\"confirmed\"} 5\n"), "{text}");
    assert!(text.contains("notifier_sends_total{outcome=\"invalid\"} 1\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_there_together_are_looked_up_together() {
    let (fixture, seen) = seen(false);
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let people: Vec<_> = (0..1_000).map(|n| format!("user {n}")).collect();
    for name in &people {
        fixture.session(name).await;
    }
    let requests = people.iter().map(|name| To::Users(to_users(&[name]))).collect();
    let answers: Vec<_> = open(&notifications, requests).collect().await;
    assert_eq!(answers.len(), people.len());
    for name in &people {
        assert_eq!(addressed(letter(&mut inlet).await).to, [Target::User(user(name))]);
    }
    let lookups = seen.lookups.load(std::sync::atomic::Ordering::Relaxed);
    assert!(lookups <= 8, "{lookups} lookups for {} requests", people.len());
}

#[tokio::test(start_paused = true)]
async fn without_the_store_users_get_it_by_every_node_and_members_do_not() {
    let (fixture, _) = seen(true);
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let ann = fixture.session("ann").await;
    let sent = notifications.send_to_user(Request::new(to_users(&["ann"]))).await.unwrap();
    let sent = sent.into_inner();
    assert_eq!((sent.sessions, sent.uncertain_nodes, sent.uncounted), (0, 1, true));
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::User(user("ann"))]);
    let request = SendToSessionRequest {
        sessions: vec![ann.to_string()],
        destination: "/queue/news".to_owned(),
        message: message("hello"),
        audience: None,
    };
    let sent = notifications.send_to_session(Request::new(request)).await.unwrap().into_inner();
    assert_eq!((sent.sessions, sent.uncertain_nodes, sent.uncounted), (0, 1, true));
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::Session(ann)]);
    let request = to_group(&["dev"], "");
    let sent = notifications.send_to_group(Request::new(request)).await.unwrap().into_inner();
    assert!(sent.uncounted, "it goes to whoever is subscribed");
    let request = to_group(&["dev"], "/queue/news");
    let status = notifications.send_to_group(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "presence is unavailable: connection refused");
    assert!(status.get_details_retry_info().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_member_by_user_and_by_session_gets_it_once_though_the_store_fails_between() {
    let (fixture, seen) = seen(false);
    let notifications = Notifications::new(fixture.node.clone());
    let mut inlet = fixture.inlet().await;
    let session = fixture.session("ann").await;
    in_group(&fixture, "both", &[Member::User(user("ann")), Member::Session(session.clone())])
        .await;
    in_group(&fixture, "apart", &[Member::Session(session.clone())]).await;
    seen.no_sessions.store(true, std::sync::atomic::Ordering::Relaxed);
    let to = |group| Request::new(to_group(&[group], "/queue/news"));
    let status = notifications.send_to_group(to("both")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "nobody knows whose session it is: {status:?}");
    // Without users there is nothing to confuse it with.
    let sent = notifications.send_to_group(to("apart")).await.unwrap().into_inner();
    assert!(sent.uncounted);
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::Session(session)]);
    seen.no_sessions.store(false, std::sync::atomic::Ordering::Relaxed);
    notifications.send_to_group(to("both")).await.unwrap();
    assert_eq!(addressed(letter(&mut inlet).await).to, [Target::User(user("ann"))]);
}

#[tokio::test(start_paused = true)]
async fn before_all_nodes_are_heard_of_a_send_waits_and_no_longer_than_its_deadline() {
    let broker = Arc::new(FakeBroker::new(down(), unavailable()));
    let fixture = Fixture::over(broker, Config::default());
    let notifications = Notifications::new(fixture.node.clone());
    let mut request = Request::new(to_users(&["ann"]));
    request.metadata_mut().insert("grpc-timeout", "4S".parse().unwrap());
    let start = Instant::now();
    let status = notifications.send_to_user(request).await.unwrap_err();
    assert_eq!((status.code(), start.elapsed()), (Code::Unavailable, Duration::from_millis(3_600)));
    let text = "the broker is away: connection refused: the message was not published";
    assert_eq!(status.message(), text);
    assert!(status.get_details_error_info().is_none(), "nothing was published for certain");
}

#[tokio::test(start_paused = true)]
async fn a_group_of_more_members_than_are_sent_to_one_by_one_is_refused() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let people: Vec<_> = (0..=100_000).map(|n| Member::User(user(&n.to_string()))).collect();
    for some in people.chunks(::presence::MAX_MEMBERS) {
        in_group(&fixture, "all", some).await;
    }
    let request = to_group(&["all"], "/queue/news");
    let status = notifications.send_to_group(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    notifications.send_to_group(Request::new(to_group(&["all"], ""))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wrong_request_is_told_its_field() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let many: Vec<_> = (0..1_001).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(1_000);
    let within = |destination: &str| SendToUserRequest {
        destination: destination.to_owned(),
        ..to_users(&["ann"])
    };
    let with_audience = |audience| SendToUserRequest { audience, ..to_users(&["ann"]) };
    let session = |id: &str| SendToSessionRequest {
        sessions: names(&[id]),
        destination: "/queue/a".to_owned(),
        message: message("x"),
        audience: None,
    };
    let group_audience =
        SendToGroupRequest { audience: audience(&[("plan", "gold")]), ..to_group(&["dev"], "") };
    let attributes: Vec<_> = many.iter().take(17).map(|name| (*name, "x")).collect();
    for (to, field) in [
        (To::Users(to_users(&[])), "users"),
        (To::Users(to_users(&many)), "users"),
        (To::Users(to_users(&["ann", ""])), "users[1]"),
        (To::Users(to_users(&[&long])), "users[0]"),
        (To::Users(to_users(&["an\nn"])), "users[0]"),
        (To::Users(within("")), "destination"),
        (To::Users(within("queue/a")), "destination"),
        (To::Users(within("/user/queue/a")), "destination"),
        (To::Users(within("/queue/*")), "destination"),
        (To::Users(within("/app/a")), "destination"),
        (To::Users(within("/queue/a\0")), "destination"),
        (To::Users(SendToUserRequest { message: None, ..within("/queue/a") }), "message"),
        (To::Users(with_audience(audience(&[]))), "audience.attributes"),
        (To::Users(with_audience(audience(&attributes))), "audience.attributes"),
        (To::Users(with_audience(audience(&[("plan", &long)]))), "audience.attributes[\"plan\"]"),
        (To::Sessions(session("")), "sessions[0]"),
        (To::Sessions(session("ann")), "sessions[0]"),
        (To::Sessions(session(&long)), "sessions[0]"),
        (To::Groups(to_group(&[], "")), "groups"),
        (To::Groups(to_group(&[&long], "")), "groups[0]"),
        (To::Groups(to_group(&[&"*".repeat(100)], "")), "groups[0]"),
        (To::Groups(to_group(&["a\u{7f}"], "")), "groups[0]"),
        (To::Groups(group_audience), "destination"),
        (To::All(SendToAllRequest::default()), "destination"),
    ] {
        let asked = format!("{to:?}").chars().take(120).collect::<String>();
        let answer = open(&notifications, vec![to.clone()]).next().await.unwrap().unwrap();
        let Some(Sent::Failure(failure)) = answer.outcome else { panic!("{asked}: {answer:?}") };
        assert_eq!(Code::from(failure.code), Code::InvalidArgument, "{asked}: {failure:?}");
        let alone = match to {
            To::Users(request) => notifications.send_to_user(Request::new(request)).await,
            To::Sessions(request) => notifications.send_to_session(Request::new(request)).await,
            To::Groups(request) => notifications.send_to_group(Request::new(request)).await,
            To::All(request) => notifications.send_to_all(Request::new(request)).await,
        };
        let status = alone.unwrap_err();
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field, "{asked}: {status:?}");
        assert!(failure.field.ends_with(&format!(".{field}")), "{asked}: {failure:?}");
    }
    let mut nothing = notifications.sent(
        stream::iter([Ok(SendRequest { to: None })]),
        Ending {
            stopping: tokio_util::sync::CancellationToken::new(),
            aged: Instant::now() + Duration::from_secs(60),
            deadline: None,
            expires: None,
        },
    );
    let answer = nothing.next().await.unwrap().unwrap();
    let Some(Sent::Failure(failure)) = answer.outcome else { panic!("{answer:?}") };
    assert_eq!(failure.field, "to");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_token_expires() {
    let fixture = Fixture::new();
    let notifications = Notifications::new(fixture.node.clone());
    let (stopping, now) = (tokio_util::sync::CancellationToken::new(), Instant::now());
    let minute = Duration::from_secs(60);
    let ending =
        Ending { stopping, aged: now + 10 * minute, deadline: None, expires: Some(now + minute) };
    let mut answers = notifications.sent(stream::pending(), ending);
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!((status.code(), now.elapsed()), (Code::Unauthenticated, minute));
    assert!(status.message().starts_with("the token has expired"), "{status:?}");
    assert!(answers.next().await.is_none());
}
