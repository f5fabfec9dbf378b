//! Removals and additions that overtake each other.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use async_trait::async_trait;
use broker::{Broker, Message, MessageId, PublisherId};
use broker_embedded::EmbeddedBroker;
use bytestring::ByteString;
use cluster::{Addressed, Content, Letter, Target};
use parking_lot::Mutex;
use presence::{
    Attributes, Boot, GroupError, Groups, MemoryPresence, Page, PageRequest, Presence, SessionId,
    Unavailable, UserName,
};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::inboxes::Bells;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::transport::Framing;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Groups of which one answer may be held up, when it is known already.
struct Slow {
    store: Arc<MemoryPresence>,
    gate: Mutex<Option<Gate>>,
}

struct Gate {
    asked: oneshot::Sender<()>,
    opened: oneshot::Receiver<()>,
}

#[async_trait]
impl Groups for Slow {
    async fn add(
        &self,
        group: &GroupName,
        members: &[Member],
        lifetime: Option<Duration>,
    ) -> Result<usize, GroupError> {
        self.store.add(group, members, lifetime).await
    }

    async fn remove(&self, group: &GroupName, members: &[Member]) -> Result<usize, GroupError> {
        self.store.remove(group, members).await
    }

    async fn set_lifetime(
        &self,
        group: &GroupName,
        lifetime: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        self.store.set_lifetime(group, lifetime).await
    }

    async fn delete(&self, group: &GroupName) -> Result<bool, Unavailable> {
        self.store.delete(group).await
    }

    async fn members(
        &self,
        group: &GroupName,
        page: &PageRequest,
    ) -> Result<Page<Member>, Unavailable> {
        self.store.members(group, page).await
    }

    async fn size(&self, group: &GroupName) -> Result<u64, Unavailable> {
        self.store.size(group).await
    }

    async fn groups_of(&self, member: &Member) -> Result<Vec<GroupName>, Unavailable> {
        self.store.groups_of(member).await
    }

    async fn is_member(
        &self,
        user: &UserName,
        session: &SessionId,
        group: &GroupName,
    ) -> Result<bool, Unavailable> {
        let answer = self.store.is_member(user, session, group).await;
        let gate = self.gate.lock().take();
        if let Some(Gate { asked, opened }) = gate {
            asked.send(()).unwrap();
            opened.await.unwrap();
        }
        answer
    }
}

struct Bench {
    broker: Arc<EmbeddedBroker>,
    groups: Arc<Slow>,
    hub: Arc<Hub>,
    group: GroupName,
    ann: Arc<Registered>,
}

impl Bench {
    fn new() -> Self {
        let store = MemoryPresence::new(&Default::default(), Boot::generate());
        let id = SessionId::generate(store.boot());
        let groups = Arc::new(Slow { store: Arc::new(store), gate: Mutex::default() });
        let broker = Arc::new(EmbeddedBroker::new(Default::default()));
        let metrics = Arc::new(Metrics::new());
        let linger = Duration::from_secs(10);
        let hub = Arc::new(Hub::new(broker.clone(), groups.clone(), linger, metrics));
        let ann = Arc::new(Registered {
            id,
            user: UserName::new("ann").unwrap(),
            attributes: Attributes::new(),
            mailbox: Arc::new(Mailbox::new(1 << 20)),
            heard: Mutex::default(),
            joined: Mutex::new(Joined::new(Some(Shape::plain(Framing::Plain)))),
            bells: Bells::default(),
            seen: None,
        });
        Self { broker, groups, hub, group: GroupName::new("g").unwrap(), ann }
    }

    async fn add(&self) {
        self.groups.add(&self.group, &[Member::User(self.ann.user.clone())], None).await.unwrap();
    }

    /// Removes her from the store, and tells the hub.
    async fn remove(&self) {
        let ann = Member::User(self.ann.user.clone());
        self.groups.remove(&self.group, &[ann]).await.unwrap();
        let members = vec![Target::User(self.ann.user.clone())];
        self.send(&Letter::Revoke { group: self.group.clone(), members }).await;
    }

    async fn send(&self, letter: &Letter) {
        let topic = Destination::Topic(cluster::group(&self.group).unwrap());
        let sent = self.broker.publish(PublisherId(1), Message::new(topic, letter.write())).await;
        sent.unwrap().await.unwrap();
    }

    /// Holds up the next answer: says when it is known, and is told when to give it.
    fn hold(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((asked, known), (open, opened)) = (oneshot::channel(), oneshot::channel());
        *self.groups.gate.lock() = Some(Gate { asked, opened });
        (known, open)
    }

    /// Whether she has a seat, and was told of her membership when she had it.
    fn told_again(&self) -> bool {
        match &*self.ann.joined.lock() {
            Joined::In { places, .. } => places.values().any(|place| place.told_again),
            Joined::BySubscribing | Joined::Over => false,
        }
    }

    /// Returns once she gets what is sent to the group.
    async fn hears(&self) {
        let content = Content { id: MessageId::new(), headers: Vec::new(), body: "x".into() };
        let (to, path, audience) = (Vec::new(), ByteString::new(), Vec::new());
        let letter = Letter::Message(Addressed { to, path, audience, content });
        let mut frames = VecDeque::new();
        let heard = async {
            while frames.is_empty() {
                self.send(&letter).await;
                tokio::task::yield_now().await;
                self.ann.mailbox.take(&Context::from_waker(Waker::noop()), &mut frames);
            }
        };
        timeout(PATIENCE, heard).await.expect("she is a member");
    }
}

#[tokio::test]
async fn who_is_added_again_before_its_removal_is_done_hears_the_group() {
    let bench = Bench::new();
    bench.add().await;
    bench.ann.join(&bench.hub, bench.group.clone()).await;
    bench.hears().await;
    let (known, open) = bench.hold();
    bench.remove().await;
    known.await.unwrap();
    // The hub knows that she is no member; she is one again, and is told while she has her seat.
    bench.add().await;
    bench.ann.join(&bench.hub, bench.group.clone()).await;
    open.send(()).unwrap();
    // Not by the seat that is about to end.
    let ended = async {
        while bench.told_again() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    bench.hears().await;
}

#[tokio::test]
async fn who_is_removed_and_added_again_while_it_takes_its_seat_hears_the_group() {
    let bench = Bench::new();
    bench.add().await;
    let (known, open) = bench.hold();
    let (ann, hub, group) = (bench.ann.clone(), bench.hub.clone(), bench.group.clone());
    let joining = tokio::spawn(async move { ann.join(&hub, group).await });
    known.await.unwrap();
    // She is known to be a member, and has not been let in.
    bench.remove().await;
    let mailbox = Arc::new(Mailbox::new(1 << 20));
    let another = Registered::alone(bench.ann.id.clone(), bench.ann.user.clone(), mailbox);
    let topic = Destination::Topic(cluster::group(&bench.group).unwrap());
    let hub = Arc::clone(&bench.hub);
    let seat =
        hub.subscribe_member(topic, Shape::plain(Framing::Plain), &another, bench.group.clone());
    let seat = seat.await.unwrap();
    let revoked = async {
        while !seat.is_revoked() {
            bench.remove().await;
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, revoked).await.unwrap();
    bench.add().await;
    open.send(()).unwrap();
    timeout(PATIENCE, joining).await.unwrap().unwrap();
    bench.hears().await;
}
