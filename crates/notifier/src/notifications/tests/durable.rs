//! What is stored for users, and what callers are told of it.

mod refusals;
mod watch;

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
