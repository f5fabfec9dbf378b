//! What is stored for users, and what callers are told of it.

use std::time::SystemTime;

use ::inbox::{Address, Error, Inbox, Settlement, Take};
use ::presence::{GroupName, Groups, Member, PageRequest, SessionId, UserName};
use broker::destination::Verb;
use broker::{Broker, Destinations, MessageId, SubscribeRequest};
use broker_embedded::EmbeddedBroker;
use bytesize::ByteSize;
use cluster::{Letter, Target};
use proto::v1::send_request::To;
use proto::v1::stored_for_user::Outcome;
use proto::v1::{Audience, DeliveryRef, DeliveryState, Durable, Message, Stored};

use super::*;
use crate::fake_inbox::{FakeInbox, OnAppend};
use crate::fixture::letter;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A notifier with a store of inboxes, whose broker is away.
struct Keeping {
    inbox: Arc<FakeInbox>,
    inner: crate::fixture::Fixture,
    notifications: Notifications,
}

impl Keeping {
    fn new() -> Self {
        Self::with(::inbox::Config::default())
    }

    fn with(config: ::inbox::Config) -> Self {
        Self::over(Arc::new(FakeBroker::new(down(), unavailable())), config)
    }

    fn over(broker: Arc<dyn Broker>, config: ::inbox::Config) -> Self {
        let inbox = Arc::new(FakeInbox::new(config.clone()));
        let inner = crate::fixture::Fixture::keeping(broker, inbox.clone(), config);
        let notifications = Notifications::new(inner.node.clone());
        Self { inbox, inner, notifications }
    }

    async fn to_users(&self, users: &[&str], durable: Durable) -> Result<SendResponse, Status> {
        let request = Request::new(to_users(users, durable));
        self.notifications.send_to_user(request).await.map(Response::into_inner)
    }

    async fn to_all(&self, durable: Durable) -> Result<SendResponse, Status> {
        let (destination, message) = ("/queue/news".to_owned(), message("all"));
        let durable = Some(durable);
        let request = SendToAllRequest { destination, message, durable, ..Default::default() };
        self.notifications.send_to_all(Request::new(request)).await.map(Response::into_inner)
    }

    async fn publish(&self, request: PublishRequest) -> Result<PublishResponse, Status> {
        self.notifications.publish(Request::new(request)).await.map(Response::into_inner)
    }

    /// The bodies in an inbox, in its order; and how many are scheduled.
    async fn ids_of(&self, user: &str) -> Vec<String> {
        let page = self.inbox.list(&inbox_of(user), &PageRequest::first(1_000)).await.unwrap();
        page.items.iter().map(|listed| listed.id.to_string()).collect()
    }

    async fn know(&self, count: usize) {
        let users: Vec<_> = (0..count).map(|n| user(&format!("u{n}"))).collect();
        for users in users.chunks(1_000) {
            self.inbox.know(users).await.unwrap();
        }
    }

    async fn watch(
        &self,
        deliveries: Vec<DeliveryRef>,
        until_final: bool,
    ) -> Result<BoxStream<'static, Result<DeliveryEvent, Status>>, Status> {
        let request = WatchDeliveryRequest { deliveries, until_final };
        let watch = self.notifications.watch_delivery(Request::new(request)).await;
        watch.map(Response::into_inner)
    }
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn inbox_of(name: &str) -> Address {
    Address::of_user(user(name), "/queue/news".into())
}

fn message(text: &str) -> Option<Message> {
    Some(Message { body: Some(Body::Text(text.to_owned())), ..Message::default() })
}

fn to_users(users: &[&str], durable: Durable) -> SendToUserRequest {
    SendToUserRequest {
        users: users.iter().map(|name| (*name).to_owned()).collect(),
        destination: "/queue/news".to_owned(),
        message: message("hello"),
        audience: None,
        durable: Some(durable),
    }
}

fn key(key: &str) -> Durable {
    Durable { idempotency_key: key.to_owned(), ..Durable::default() }
}

fn later(seconds: u64) -> Option<prost_types::Timestamp> {
    Some((SystemTime::now() + Duration::from_secs(seconds)).into())
}

fn outcomes(sent: &SendResponse) -> Vec<(&str, Outcome, &str)> {
    let users = &sent.stored.as_ref().unwrap().users;
    users.iter().map(|one| (&*one.user, one.outcome(), &*one.message_id)).collect()
}

fn counts(sent: &SendResponse) -> [u64; 4] {
    let Stored { stored, scheduled, known, full, .. } = sent.stored.clone().unwrap();
    [stored, scheduled, known, full]
}

fn reason(status: &Status) -> Option<(String, String)> {
    let info = status.get_details_error_info()?;
    Some((info.reason, info.metadata.get("message_id").cloned().unwrap_or_default()))
}

fn audience() -> Option<Audience> {
    let attributes = [("plan".to_owned(), "gold".to_owned())].into();
    Some(Audience { attributes })
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("what was waited for did not come")
}

#[tokio::test]
async fn what_is_durable_is_answered_while_the_broker_is_away() {
    let keeping = Keeping::new();
    let sent = keeping.to_users(&["ann", "bob", "ann"], Durable::default()).await.unwrap();
    let id = &*sent.message_id;
    let stored = |name| (name, Outcome::Stored, id);
    assert_eq!(outcomes(&sent), [stored("ann"), stored("bob"), stored("ann")]);
    assert_eq!((counts(&sent), sent.uncounted), ([2, 0, 0, 0], true));
    assert_eq!(keeping.ids_of("ann").await, [id]);
    let scheduled = Durable { deliver_at: later(3600), ..Durable::default() };
    let sent = keeping.to_users(&["ann"], scheduled).await.unwrap();
    assert_eq!(outcomes(&sent), [("ann", Outcome::Scheduled, &*sent.message_id)]);
    let metrics = keeping.inner.metrics();
    for line in [
        "notifier_appends_total{outcome=\"stored\"} 2",
        "notifier_appends_total{outcome=\"scheduled\"} 1",
        "notifier_sends_total{outcome=\"confirmed\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_key_that_came_before_is_answered_with_the_first_id() {
    let keeping = Keeping::new();
    let first = keeping.to_users(&["ann"], key("k")).await.unwrap();
    let again = keeping.to_users(&["ann"], key("k")).await.unwrap();
    assert_eq!(again.message_id, first.message_id);
    assert_eq!(outcomes(&again), [("ann", Outcome::Known, &*first.message_id)]);
    let both = keeping.to_users(&["ann", "bob"], key("k")).await.unwrap();
    assert_ne!(both.message_id, first.message_id);
    let expected =
        [("ann", Outcome::Known, &*first.message_id), ("bob", Outcome::Stored, &*both.message_id)];
    assert_eq!(outcomes(&both), expected);
    assert_eq!(keeping.ids_of("ann").await, [first.message_id]);
}

#[tokio::test]
async fn an_inbox_that_is_full_refuses_and_loses_nothing() {
    let config = ::inbox::Config { max_messages: 1, ..Default::default() };
    let keeping = Keeping::with(config);
    let first = keeping.to_users(&["ann"], Durable::default()).await.unwrap();
    let sent = keeping.to_users(&["ann", "bob"], Durable::default()).await.unwrap();
    let expected = [("ann", Outcome::Full, ""), ("bob", Outcome::Stored, &*sent.message_id)];
    assert_eq!((outcomes(&sent), counts(&sent)), (expected.to_vec(), [1, 0, 0, 1]));
    for (users, text) in [(&["ann"][..], "the inbox is full"), (&["ann", "bob"], "all 2 inboxes")] {
        let status = keeping.to_users(users, Durable::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    assert_eq!(keeping.ids_of("ann").await, [first.message_id]);
    let small = ::inbox::Config { max_bytes: ByteSize::kib(1), ..Default::default() };
    let keeping = Keeping::with(small);
    let request = SendToUserRequest {
        message: message(&"x".repeat(2_000)),
        ..to_users(&["ann"], Durable::default())
    };
    let status = keeping.notifications.send_to_user(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn each_failure_of_the_store_has_a_status_of_its_own() {
    let why = || "gone".to_owned();
    for (error, code, retries, is_unconfirmed) in [
        (Error::Unavailable(why()), Code::Unavailable, true, false),
        (Error::Unknown(why()), Code::Unavailable, true, true),
        (Error::NoSpace(why()), Code::ResourceExhausted, false, false),
        (Error::NotDurable(why()), Code::FailedPrecondition, false, false),
        (Error::Corrupt(why()), Code::FailedPrecondition, false, false),
    ] {
        let keeping = Keeping::new();
        keeping.inbox.on_append([OnAppend::Fail(error.clone())]);
        let status = keeping.to_users(&["ann"], Durable::default()).await.unwrap_err();
        assert_eq!(status.code(), code, "{error}: {status:?}");
        assert_eq!(status.get_details_retry_info().is_some(), retries, "{error}");
        let unconfirmed = reason(&status).filter(|(reason, _)| reason == "UNCONFIRMED");
        assert_eq!(unconfirmed.is_some(), is_unconfirmed, "{error}");
        assert!(status.message().contains("gone"), "{status:?}");
        assert!(keeping.inner.metrics().contains("appends_total{outcome=\"failed\"} 1"));
    }
    let nowhere = crate::fixture::Fixture::over(
        Arc::new(FakeBroker::new(Link::Up, OnPublish::Answer(Ok(())))),
        Config::default(),
    );
    let notifications = Notifications::new(nowhere.node.clone());
    let request = Request::new(to_users(&["ann"], Durable::default()));
    let status = notifications.send_to_user(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("no inbox is configured"), "{status:?}");
}

#[tokio::test]
async fn an_answer_of_the_store_that_got_lost_is_asked_for_again_by_the_key() {
    let keeping = Keeping::new();
    let lost = || OnAppend::DoAndFail(Error::Unknown("timed out".to_owned()));
    keeping.inbox.on_append([lost(), lost()]);
    let sent = keeping.to_users(&["ann"], key("k")).await.unwrap();
    assert_eq!(keeping.ids_of("ann").await, [&*sent.message_id]);
    // Without one the caller is told the id.
    keeping.inbox.on_append([lost()]);
    let status = keeping.to_users(&["bob"], Durable::default()).await.unwrap_err();
    let (_, id) = reason(&status).unwrap();
    assert_eq!(keeping.ids_of("bob").await, [id]);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_given_up_at_the_deadline() {
    let keeping = Keeping::new();
    keeping.inbox.on_append([OnAppend::Hang]);
    let mut request = Request::new(to_users(&["ann"], Durable::default()));
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let status = soon(keeping.notifications.send_to_user(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(reason(&status).unwrap().0, "UNCONFIRMED");
}

#[tokio::test]
async fn a_message_for_all_is_never_left_half_done_unsaid() {
    let keeping = Keeping::new();
    keeping.know(2_500).await;
    let away = || OnAppend::Fail(Error::Unavailable("refused".to_owned()));
    // Nothing is done yet: told at once.
    keeping.inbox.on_append([away()]);
    let status = keeping.to_all(Durable::default()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, None));
    // In the middle: tried again.
    keeping.inbox.on_append([OnAppend::Do, away(), away()]);
    let sent = keeping.to_all(key("first")).await.unwrap();
    assert_eq!(counts(&sent), [2_500, 0, 0, 0]);
    // Given up in the middle, and gone on with by its key.
    keeping.inbox.on_append([OnAppend::Do, OnAppend::Fail(Error::NoSpace("full".to_owned()))]);
    let status = keeping.to_all(key("second")).await.unwrap_err();
    let (reason, first) = reason(&status).unwrap();
    assert_eq!((status.code(), &*reason), (Code::Unavailable, "UNCONFIRMED"));
    assert!(status.message().contains("1000 inboxes have the message"), "{status:?}");
    let sent = keeping.to_all(key("second")).await.unwrap();
    assert_eq!(counts(&sent), [1_500, 0, 1_000, 0]);
    let mut ids = vec![first, sent.message_id];
    ids.dedup();
    assert_eq!(ids.len(), 2);
    for name in ["u0", "u999", "u1234", "u2499"] {
        assert_eq!(keeping.ids_of(name).await.len(), 2, "{name}");
    }
    let again = keeping.to_all(key("second")).await.unwrap();
    assert_eq!(counts(&again), [0, 0, 2_500, 0]);
}

#[tokio::test]
async fn members_who_are_users_have_it_stored_and_sessions_get_it_live() {
    let keeping =
        Keeping::over(Arc::new(EmbeddedBroker::new(Default::default())), Default::default());
    keeping.inner.announce();
    let mut inlet = keeping.inner.inlet().await;
    let (guest, of_member) =
        (keeping.inner.session("guest").await, keeping.inner.session("u7").await);
    let group = GroupName::new("dev").unwrap();
    let users: Vec<_> = (0..3_000).map(|n| Member::User(user(&format!("u{n}")))).collect();
    for members in users.chunks(1_000) {
        keeping.inner.store.add(&group, members, None).await.unwrap();
    }
    let sessions = [guest.clone(), of_member].map(Member::Session);
    keeping.inner.store.add(&group, &sessions, None).await.unwrap();
    let request = SendToGroupRequest {
        groups: vec!["dev".to_owned(), "dev".to_owned(), "nobody".to_owned()],
        destination: "/queue/news".to_owned(),
        message: message("hello"),
        durable: Some(Durable::default()),
        ..Default::default()
    };
    let sent = soon(keeping.notifications.send_to_group(Request::new(request))).await.unwrap();
    let sent = sent.into_inner();
    assert_eq!(counts(&sent), [3_000, 0, 0, 0]);
    assert!(sent.stored.unwrap().users.is_empty());
    let live = soon(async {
        loop {
            if let Letter::Message(addressed) = letter(&mut inlet).await {
                return addressed;
            }
        }
    });
    let live = live.await;
    // The other session's user has it in its inbox.
    assert_eq!(live.to, [Target::Session(guest)]);
    assert_eq!(live.content.id.to_string(), sent.message_id);
    // Nobody at all is no error.
    let request = SendToGroupRequest {
        groups: vec!["nobody".to_owned()],
        destination: "/queue/news".to_owned(),
        message: message("hello"),
        durable: Some(Durable::default()),
        ..Default::default()
    };
    let sent = keeping.notifications.send_to_group(Request::new(request)).await.unwrap();
    assert_eq!(counts(&sent.into_inner()), [0; 4]);
}

#[tokio::test]
async fn destinations_of_the_configuration_are_durable_unasked() {
    let durable = vec!["/queue/news".to_owned()];
    let keeping = Keeping::with(::inbox::Config { durable, ..Default::default() });
    let unasked = SendToUserRequest { durable: None, ..to_users(&["ann"], Durable::default()) };
    let asked = Request::new(unasked.clone());
    let sent = keeping.notifications.send_to_user(asked).await.unwrap().into_inner();
    assert_eq!(counts(&sent), [1, 0, 0, 0]);
    let publish = |key: &str| PublishRequest {
        destination: "/user/ann/queue/news".to_owned(),
        idempotency_key: key.to_owned(),
        ..request("hello")
    };
    let first = keeping.publish(publish("k")).await.unwrap();
    let again = keeping.publish(publish("k")).await.unwrap();
    assert_eq!((again.message_id, again.known), (first.message_id, true));
    assert_eq!(keeping.ids_of("ann").await.len(), 2);
    let asked = Request::new(SendToUserRequest { audience: audience(), ..unasked });
    let status = keeping.notifications.send_to_user(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let keeping = Keeping::new();
    let session = SessionId::generate(keeping.inner.boot);
    let durable = |durable| To::Users(to_users(&["ann"], durable));
    let ttl = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let group = |destination: &str| {
        To::Groups(SendToGroupRequest {
            groups: vec!["dev".to_owned()],
            destination: destination.to_owned(),
            message: message("x"),
            durable: Some(Durable::default()),
            ..Default::default()
        })
    };
    let cases = [
        (
            To::Users(SendToUserRequest {
                audience: audience(),
                ..to_users(&["ann"], Durable::default())
            }),
            "users.audience",
        ),
        (
            To::Users(SendToUserRequest {
                destination: format!("/queue/{}", "x".repeat(600)),
                ..to_users(&["ann"], Durable::default())
            }),
            "users.destination",
        ),
        (durable(Durable { ttl: ttl(-1), ..Durable::default() }), "users.durable.ttl"),
        (durable(Durable { ttl: ttl(8 * 86_400), ..Durable::default() }), "users.durable.ttl"),
        (
            durable(Durable { ttl: ttl(5), deliver_at: later(60), ..Durable::default() }),
            "users.durable.ttl",
        ),
        (
            durable(Durable { deliver_at: later(3651 * 86_400), ..Durable::default() }),
            "users.durable.deliver_at",
        ),
        (durable(key(&"x".repeat(256))), "users.durable.idempotency_key"),
        (group(""), "groups.destination"),
    ];
    for (to, field) in cases {
        let request = SendRequest { to: Some(to) };
        let refused = crate::sends::of_stream(request, &keeping.inner.node).unwrap_err();
        assert!(matches!(&refused, Refusal::Invalid { field: of, .. } if of == field), "{refused}");
    }
    let publish = |destination: &str| PublishRequest {
        destination: destination.to_owned(),
        deliver_at: later(60),
        ..request("x")
    };
    for (request, field) in [
        (publish("/reply-queue/r"), "deliver_at"),
        (PublishRequest { deliver_at: later(3651 * 86_400), ..publish("/topic/a") }, "deliver_at"),
        (
            PublishRequest {
                deliver_at: None,
                idempotency_key: "k".to_owned(),
                ..publish("/topic/a")
            },
            "idempotency_key",
        ),
        (
            PublishRequest {
                deliver_at: None,
                idempotency_key: "k".to_owned(),
                ..publish(&format!("/user/{session}/queue/news"))
            },
            "idempotency_key",
        ),
    ] {
        let refused = crate::publishes::publish(request.clone(), &keeping.inner.node).unwrap_err();
        let is = matches!(&refused, Refusal::Invalid { field: of, .. } if of == field);
        assert!(is, "{refused}: {request:?}");
    }
}

#[tokio::test]
async fn what_is_published_later_is_stored_and_then_published_once() {
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(Default::default()));
    let keeping = Keeping::over(broker.clone(), Default::default());
    let dispatcher = keeping.inner.node.keeper().unwrap().dispatcher().clone();
    let stopping = keeping.inner.stopping.clone();
    tokio::spawn(async move { dispatcher.run(stopping).await });
    let destination = Destinations::default().parse("/topic/a", Verb::Subscribe).unwrap();
    let mut topic = broker.subscribe(SubscribeRequest::new(destination, 10)).await.unwrap();
    let soon_due = Some(prost_types::Timestamp::from(SystemTime::now() + Duration::from_secs(1)));
    let later = |key: &str, text: &str, deliver_at| PublishRequest {
        deliver_at,
        idempotency_key: key.to_owned(),
        ..request(text)
    };
    let first = keeping.publish(later("k", "due", soon_due)).await.unwrap();
    let again = keeping.publish(later("k", "due", soon_due)).await.unwrap();
    assert_eq!((again.message_id, again.known), (first.message_id.clone(), true));
    let past = Some(prost_types::Timestamp::from(SystemTime::now() - Duration::from_secs(60)));
    let at_once = keeping.publish(later("l", "past", past)).await.unwrap();
    let delivery = soon(topic.next()).await.unwrap();
    assert_eq!(delivery.message.id.to_string(), at_once.message_id);
    let delivery = soon(topic.next()).await.unwrap();
    assert_eq!(
        (&*delivery.message.body, delivery.message.id.to_string()),
        (&b"due"[..], first.message_id.clone())
    );
    let of = DeliveryRef {
        users: Vec::new(),
        destination: "/topic/a".to_owned(),
        message_id: first.message_id,
    };
    let mut watch = keeping.watch(vec![of], true).await.unwrap();
    let mut last = DeliveryState::Unspecified;
    while let Some(event) = soon(watch.next()).await {
        last = event.unwrap().delivery.unwrap().state();
    }
    assert_eq!(last, DeliveryState::Acked);
}

#[tokio::test]
async fn a_stream_stores_in_its_order_and_answers_in_it() {
    let keeping = Keeping::new();
    let names: Vec<_> = (0..300).map(|n| ["ann", "bob", "cid"][n % 3]).collect();
    let requests: Vec<_> = names
        .iter()
        .map(|name| {
            let to = To::Users(to_users(&[name], Durable::default()));
            Ok::<_, Status>(SendRequest { to: Some(to) })
        })
        .collect();
    let now = Instant::now();
    let ending = Ending {
        stopping: keeping.inner.stopping.clone(),
        aged: now + PATIENCE * 10,
        deadline: None,
        expires: None,
    };
    let answers = keeping.notifications.sent(stream::iter(requests), ending);
    let answers: Vec<_> = soon(answers.collect::<Vec<_>>()).await;
    let mut by_user = std::collections::HashMap::<&str, Vec<String>>::new();
    for (name, answer) in names.iter().zip(answers) {
        match answer.unwrap().outcome.unwrap() {
            Sent::Sent(sent) => by_user.entry(name).or_default().push(sent.message_id),
            Sent::Failure(failure) => panic!("{failure:?}"),
        }
    }
    for (name, ids) in by_user {
        assert_eq!(keeping.ids_of(name).await, ids, "{name}");
    }
}

#[tokio::test]
async fn a_watch_tells_each_state_once_and_ends_with_the_last() {
    let keeping = Keeping::new();
    let dispatcher = keeping.inner.node.keeper().unwrap().dispatcher().clone();
    let (running, stopping) = (dispatcher.clone(), keeping.inner.stopping.clone());
    tokio::spawn(async move { running.run(stopping).await });
    let sent = keeping.to_users(&["ann", "bob"], Durable::default()).await.unwrap();
    let of = DeliveryRef {
        users: ["ann", "bob", "nobody"].map(str::to_owned).to_vec(),
        destination: "/queue/news".to_owned(),
        message_id: sent.message_id.clone(),
    };
    let mut watch = keeping.watch(vec![of], true).await.unwrap();
    assert!(keeping.inner.metrics().contains("notifier_delivery_watches 1"));
    let mut next = async || {
        let event = soon(watch.next()).await?.unwrap();
        assert_eq!((&*event.destination, &event.message_id), ("/queue/news", &sent.message_id));
        Some((event.user, event.delivery.unwrap().state()))
    };
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(next().await.unwrap());
    }
    let told = |name: &str, state| (name.to_owned(), state);
    let expected = [
        told("ann", DeliveryState::Pending),
        told("bob", DeliveryState::Pending),
        told("nobody", DeliveryState::Unknown),
    ];
    assert_eq!(first, expected);
    for (name, settlement, state) in [
        ("bob", Settlement::Reject, DeliveryState::Failed),
        ("ann", Settlement::Ack, DeliveryState::Acked),
    ] {
        let of = inbox_of(name);
        let take = Take { of: &of, after: None, limit: 1, max_bytes: 1_000 };
        let taken = keeping.inbox.take(&take).await.unwrap();
        dispatcher.settled(&of, ::inbox::Settled { changes: taken.changes, ..Default::default() });
        assert_eq!(next().await, Some(told(name, DeliveryState::Delivered)));
        let seq = taken.entries[0].seq;
        let settled = keeping.inbox.settle(&of, taken.epoch, &[(seq, settlement)]).await.unwrap();
        // Of the last nobody tells: the store is read again.
        if name == "bob" {
            dispatcher.settled(&of, settled);
        }
        assert_eq!(next().await, Some(told(name, state)));
    }
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn watches_are_bounded_and_name_what_can_be() {
    let keeping = Keeping::new();
    let of = |users: usize, destination: &str, id: &str| DeliveryRef {
        users: (0..users).map(|n| format!("u{n}")).collect(),
        destination: destination.to_owned(),
        message_id: id.to_owned(),
    };
    let id = MessageId::new().to_string();
    for (deliveries, field) in [
        (vec![], "deliveries"),
        (vec![of(600, "/queue/a", &id), of(401, "/queue/b", &id)], "deliveries"),
        (vec![of(1, "/queue/a", "x")], "deliveries[0].message_id"),
        (vec![of(1, "/queue/a", &id), of(1, "/queue/a", &id)], "deliveries[1].message_id"),
        (vec![of(1, "queue", &id)], "deliveries[0].destination"),
        (vec![of(0, "", &id)], "deliveries[0].destination"),
    ] {
        let status = keeping.watch(deliveries, false).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field);
    }
    let mut open = Vec::new();
    for _ in 0..keeping.inner.node.config.max_watches {
        open.push(keeping.watch(vec![of(1, "/queue/a", &id)], false).await.unwrap());
    }
    let status = keeping.watch(vec![of(1, "/queue/a", &id)], false).await.err().unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    open.pop();
    assert!(keeping.watch(vec![of(1, "/queue/a", &id)], false).await.is_ok());
}
