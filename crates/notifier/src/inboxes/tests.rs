//! What may be seen of inboxes, and taken out of them.

use broker::{Link, PublishError};
use presence::UserName;
use proto::v1::inbox_server::Inbox as _;
use proto::v1::{Delivery, DeliveryState};
use tonic::Code;

use super::*;
use crate::fake_broker::{FakeBroker, OnPublish};
use crate::fake_inbox::FakeInbox;
use crate::fixture::Fixture;

const DESTINATION: &str = "/queue/news";

struct Rig {
    fixture: Fixture,
    inboxes: Inboxes,
}

impl Rig {
    fn new() -> Self {
        let away = OnPublish::Fail(PublishError::Unavailable("away".to_owned()));
        let broker = FakeBroker::new(Link::Down("away".to_owned()), away);
        let config = ::inbox::Config::default();
        let inbox = Arc::new(FakeInbox::new(config.clone()));
        let fixture = Fixture::keeping(Arc::new(broker), inbox, config);
        let inboxes = Inboxes::new(fixture.node.clone());
        Self { fixture, inboxes }
    }

    /// Puts some messages into ann's inbox, and says which.
    async fn put(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        let of = Address::of_user(UserName::new("ann").unwrap(), DESTINATION.into());
        for _ in 0..count {
            let draft = ::inbox::Draft::new(self.fixture.boot, "body");
            let dispatcher = self.fixture.node.keeper().unwrap().dispatcher();
            dispatcher.append(std::slice::from_ref(&of), &draft).await.unwrap();
            ids.push(draft.id.to_string());
        }
        ids
    }

    async fn list(&self, page_size: u32, page_token: String) -> ListInboxResponse {
        let (user, destination) = ("ann".to_owned(), DESTINATION.to_owned());
        let request = ListInboxRequest { user, destination, page_size, page_token };
        self.inboxes.list(Request::new(request)).await.unwrap().into_inner()
    }

    async fn states(&self, message_ids: &[String]) -> Vec<DeliveryState> {
        let (user, destination) = ("ann".to_owned(), DESTINATION.to_owned());
        let message_ids = message_ids.to_vec();
        let request = InboxStatusRequest { user, destination, message_ids };
        let status = self.inboxes.status(Request::new(request)).await.unwrap().into_inner();
        status.deliveries.iter().map(Delivery::state).collect()
    }

    async fn settle(&self, message_ids: &[String], settlement: Said) -> u64 {
        let request = SettleInboxRequest {
            user: "ann".to_owned(),
            destination: DESTINATION.to_owned(),
            message_ids: message_ids.to_vec(),
            settlement: settlement.into(),
        };
        self.inboxes.settle(Request::new(request)).await.unwrap().into_inner().settled
    }

    async fn purge(&self, message_ids: &[String], all: bool) -> Result<u64, Status> {
        let (user, destination) = ("ann".to_owned(), DESTINATION.to_owned());
        let message_ids = message_ids.to_vec();
        let request = PurgeInboxRequest { user, destination, message_ids, all };
        let purged = self.inboxes.purge(Request::new(request)).await?;
        Ok(purged.into_inner().dropped)
    }

    async fn count(&self) -> CountInboxResponse {
        let (user, destination) = ("ann".to_owned(), DESTINATION.to_owned());
        let request = Request::new(CountInboxRequest { user, destination });
        self.inboxes.count(request).await.unwrap().into_inner()
    }

    async fn paths(&self) -> Vec<String> {
        let request = Request::new(InboxPathsRequest { user: "ann".to_owned() });
        self.inboxes.paths(request).await.unwrap().into_inner().destinations
    }
}

#[tokio::test]
async fn an_inbox_is_listed_in_pages_and_counted() {
    let rig = Rig::new();
    assert_eq!((rig.paths().await.len(), rig.count().await.oldest), (0, None));
    let ids = rig.put(5).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = rig.list(2, token).await;
        assert!(page.messages.len() <= 2);
        seen.extend(page.messages);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(
        seen.iter().map(|waiting| &waiting.message_id).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );
    let first = &seen[0];
    assert_eq!((first.sequence, first.bytes, first.deliver_at), (1, 132, None));
    assert_eq!(first.delivery.unwrap().state(), DeliveryState::Pending);
    let count = rig.count().await;
    assert_eq!((count.pending, count.scheduled, count.bytes), (5, 0, 5 * 132));
    assert!(count.oldest.is_some());
    assert_eq!(rig.paths().await, [DESTINATION]);
}

#[tokio::test]
async fn a_service_settles_in_place_of_a_client() {
    let rig = Rig::new();
    let ids = rig.put(4).await;
    assert_eq!(rig.settle(&ids[1..2], Said::Ack).await, 1);
    assert_eq!(rig.settle(&ids[2..4], Said::Reject).await, 2);
    // What is gone already, or never was, is left out.
    let unknown = [ids[1].clone(), MessageId::new().to_string()];
    assert_eq!(rig.settle(&unknown, Said::Ack).await, 0);
    let expected = [
        DeliveryState::Pending,
        DeliveryState::Acked,
        DeliveryState::Failed,
        DeliveryState::Failed,
    ];
    assert_eq!(rig.states(&ids).await, expected);
    assert_eq!(rig.states(&unknown[1..]).await, [DeliveryState::Unknown]);
    assert_eq!(rig.count().await.pending, 1);
}

#[tokio::test]
async fn a_purge_drops_what_is_named_or_all() {
    let rig = Rig::new();
    let ids = rig.put(3).await;
    assert_eq!(rig.purge(&ids[..1], false).await.unwrap(), 1);
    assert_eq!(rig.purge(&[], true).await.unwrap(), 2);
    assert_eq!(rig.purge(&[], true).await.unwrap(), 0);
    assert_eq!(rig.states(&ids).await, [DeliveryState::Dropped; 3]);
    for (ids, all) in [(&ids[..], true), (&[], false)] {
        let status = rig.purge(ids, all).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
}

#[tokio::test]
async fn a_user_who_is_forgotten_has_no_inbox() {
    let rig = Rig::new();
    rig.put(2).await;
    let request = Request::new(ForgetUserRequest { user: "ann".to_owned() });
    rig.inboxes.forget(request).await.unwrap();
    assert_eq!((rig.paths().await.len(), rig.count().await.pending), (0, 0));
    let known = rig.fixture.node.keeper().unwrap().inbox().known(&PageRequest::first(10)).await;
    assert!(known.unwrap().items.is_empty());
}

#[tokio::test]
async fn what_has_failed_in_many_inboxes_stays_in_the_store_while_the_broker_is_slow() {
    let broker = Arc::new(FakeBroker::new(Link::Up, OnPublish::Hold));
    let dead_letter = "/queue/dead".to_owned();
    let config = ::inbox::Config { dead_letter, keeps_failed: true, ..Default::default() };
    let inbox = Arc::new(FakeInbox::new(config.clone()));
    let fixture = Fixture::keeping(broker.clone(), inbox, config);
    let keeper = fixture.node.keeper().unwrap();
    let of = |n: usize| Address::of_user(UserName::new(n.to_string()).unwrap(), DESTINATION.into());
    for n in 0..200 {
        let draft = ::inbox::Draft::new(fixture.boot, "body");
        keeper.inbox().append(&[of(n)], &draft).await.unwrap();
        let epoch = keeper.inbox().epoch(&of(n)).await.unwrap();
        let settled = keeper.inbox().settle(&of(n), epoch, &[(1, Settlement::Reject)]).await;
        keeper.dispatcher().settled(&of(n), settled.unwrap());
    }
    // It is published behind all that was begun before it.
    let later = Address::Outbox { destination: "/queue/later".into() };
    let draft = ::inbox::Draft::new(fixture.boot, "later");
    keeper.dispatcher().append(&[later], &draft).await.unwrap();
    while broker.taken().last().is_none_or(|(_, message)| message.body != *"later") {
        tokio::task::yield_now().await;
    }
    assert_eq!(broker.taken().len(), 64 + 1);
    let mut failed = 0;
    for n in 0..200 {
        failed += keeper.inbox().count(&of(n)).await.unwrap().failed;
    }
    assert_eq!(failed, 200, "nothing leaves before the broker has it");
    // They make room for others as they are confirmed.
    broker.confirm(0);
    while keeper.inbox().count(&of(0)).await.unwrap().failed > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_names_no_inbox_is_refused_by_its_field() {
    let rig = Rig::new();
    let long = format!("/queue/{}", "x".repeat(600));
    for (user, destination, field) in [
        ("", DESTINATION, "user"),
        ("ann", "", "destination"),
        ("ann", "news", "destination"),
        ("ann", "/user/queue/news", "destination"),
        ("ann", &long, "destination"),
    ] {
        let (user, destination) = (user.to_owned(), destination.to_owned());
        let request = Request::new(CountInboxRequest { user, destination });
        let status = rig.inboxes.count(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with(field), "{status:?}");
    }
    let fixture = Fixture::new();
    let request = CountInboxRequest { user: "ann".to_owned(), destination: DESTINATION.to_owned() };
    let status = Inboxes::new(fixture.node.clone()).count(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}
