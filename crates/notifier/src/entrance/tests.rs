//! What comes by AMQP and is stored.

use ::inbox::{Error, Inbox};
use broker::{Link, Message};
use presence::{Groups, Member, PageRequest};

use super::*;
use crate::fake_broker::{FakeBroker, OnPublish};
use crate::fake_inbox::{FakeInbox, OnAppend};
use crate::fixture::Fixture;

fn addressed(key: &str, more: &[(&'static str, &'static str)]) -> Addressed {
    let topic = Topic::exact("/~to".into(), key.to_owned().into());
    let mut message = Message::new(Destination::Topic(topic), "hello");
    let headers = [("destination", "/queue/news"), ("durable", "true"), ("idempotency-key", "k")];
    let headers = headers.iter().chain(more);
    message.headers = headers.map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Addressed::read(&message, &Destinations::default()).unwrap()
}

/// What the store said, as it is answered.
fn told(stored: Result<Handed, Unsent>) -> [u64; 4] {
    match stored.unwrap() {
        Handed::Stored(Answer::Stored { stored, scheduled, known, full, .. }) => {
            [stored, scheduled, known, full]
        }
        _ => panic!("it was not stored"),
    }
}

#[tokio::test]
async fn what_says_that_it_is_durable_is_stored_while_the_broker_is_away() {
    let away = OnPublish::Fail(PublishError::Unavailable("away".to_owned()));
    let broker = Arc::new(FakeBroker::new(Link::Down("away".to_owned()), away));
    let config = ::inbox::Config { durable: vec!["/queue/kept".to_owned()], ..Default::default() };
    let inbox = Arc::new(FakeInbox::new(config.clone()));
    let fixture = Fixture::keeping(broker.clone(), inbox.clone(), config);
    let (group, bob) = (GroupName::new("dev").unwrap(), UserName::new("bob").unwrap());
    fixture.store.add(&group, &[Member::User(bob)], None).await.unwrap();
    inbox.know(&[UserName::new("cid").unwrap()]).await.unwrap();
    let (router, destinations) = (fixture.node.router.clone(), Destinations::default());
    let without = Entrance::new(broker, router, destinations, PublisherId(1));
    assert!(matches!(without.store(addressed("all", &[])).await, Err(Unsent::Refused(_))));
    let entrance = without.with_keeper(fixture.node.keeper.clone());

    assert!(entrance.is_durable(&addressed("user.ann", &[])));
    assert_eq!(told(entrance.store(addressed("user.ann", &[])).await), [1, 0, 0, 0]);
    assert_eq!(told(entrance.store(addressed("user.ann", &[])).await), [0, 0, 1, 0]);
    assert_eq!(told(entrance.store(addressed("group.dev", &[])).await), [1, 0, 0, 0]);
    // Ann and bob have it by this key already, and are known by now.
    assert_eq!(told(entrance.store(addressed("all", &[])).await), [1, 0, 2, 0]);
    let known = inbox.known(&PageRequest::first(10)).await.unwrap();
    assert_eq!(known.items.len(), 3);

    let refused = entrance.store(addressed("user.ann", &[("ttl", "9000days")])).await;
    assert!(matches!(refused, Err(Unsent::Refused(why)) if why.contains("too long")));
    inbox.on_append([OnAppend::Fail(Error::Unavailable("away".to_owned()))]);
    let later = entrance.store(addressed("user.dan", &[])).await;
    assert!(matches!(later, Err(Unsent::Later(_))), "it comes again");

    let mut kept = addressed("user.ann", &[]);
    (kept.durable, kept.outbound.path) = (None, "/queue/kept".into());
    assert!(entrance.is_durable(&kept), "by the configuration");
    kept.outbound.path = "/queue/other".into();
    assert!(!entrance.is_durable(&kept));
}
