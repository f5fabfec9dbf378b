//! Members who are removed from a group at the very moment in which they subscribe to it.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::MessageId;
use cluster::{Content, Target};
use presence::{
    GroupError, GroupName, Groups, Member, MemoryPresence, Page, PageRequest, SessionId,
    Unavailable, UserName,
};
use stomp::{Command, header};
use support::{Client, Node, SERVICE, timeout};
use tokio::sync::{mpsc, oneshot};

/// Groups that hold back each answer about ann until it is let go.
struct Slow {
    groups: Arc<MemoryPresence>,
    answers: mpsc::UnboundedSender<Answer>,
}

/// Whether ann is a member, which nobody has been told yet. Dropping it tells.
struct Answer {
    is_member: bool,
    _held_back: oneshot::Sender<()>,
}

#[async_trait]
impl Groups for Slow {
    async fn add(
        &self,
        group: &GroupName,
        members: &[Member],
        lifetime: Option<Duration>,
    ) -> Result<usize, GroupError> {
        self.groups.add(group, members, lifetime).await
    }

    async fn remove(&self, group: &GroupName, members: &[Member]) -> Result<usize, GroupError> {
        self.groups.remove(group, members).await
    }

    async fn set_lifetime(
        &self,
        group: &GroupName,
        lifetime: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        self.groups.set_lifetime(group, lifetime).await
    }

    async fn delete(&self, group: &GroupName) -> Result<bool, Unavailable> {
        self.groups.delete(group).await
    }

    async fn members(
        &self,
        group: &GroupName,
        page: &PageRequest,
    ) -> Result<Page<Member>, Unavailable> {
        self.groups.members(group, page).await
    }

    async fn size(&self, group: &GroupName) -> Result<u64, Unavailable> {
        self.groups.size(group).await
    }

    async fn groups_of(&self, member: &Member) -> Result<Vec<GroupName>, Unavailable> {
        self.groups.groups_of(member).await
    }

    async fn is_member(
        &self,
        user: &UserName,
        session: &SessionId,
        group: &GroupName,
    ) -> Result<bool, Unavailable> {
        let answer = self.groups.is_member(user, session, group).await?;
        if *user == name("ann") {
            let (held_back, let_go) = oneshot::channel();
            let answer = Answer { is_member: answer, _held_back: held_back };
            // Nobody waits for it once the test is over.
            if self.answers.send(answer).is_ok() {
                let _ = let_go.await;
            }
        }
        Ok(answer)
    }
}

struct Bench {
    node: Node,
    answers: mpsc::UnboundedReceiver<Answer>,
    /// A member who stays one.
    bob: Client,
    /// A member who has said SUBSCRIBE.
    ann: Client,
}

fn name(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn group() -> GroupName {
    GroupName::new("dev").unwrap()
}

impl Bench {
    async fn new() -> Self {
        let (to, answers) = mpsc::unbounded_channel();
        let slow = |groups| Slow { groups, answers: to };
        let node = Node::start_among(|presence| Arc::new(slow(presence))).await;
        let members = [Member::User(name("ann")), Member::User(name("bob"))];
        node.presence.add(&group(), &members, None).await.unwrap();
        let mut bob = node.connect_named("bob").await;
        bob.subscribe("1", "/group/dev").await;
        let mut ann = node.connect_named("ann").await;
        ann.subscribe("errors", "/user/queue/errors").await;
        ann.tell(Command::Subscribe, &[("id", "1"), ("destination", "/group/dev")]).await;
        Self { node, answers, bob, ann }
    }

    /// The next answer about ann, which must be this.
    async fn answer(&mut self, is_member: bool) -> Answer {
        let answer = timeout(self.answers.recv()).await.unwrap();
        assert_eq!(answer.is_member, is_member);
        answer
    }

    async fn remove_ann(&self) {
        self.node.presence.remove(&group(), &[Member::User(name("ann"))]).await.unwrap();
        let ann = vec![Target::User(name("ann"))];
        self.node.router.revoke(SERVICE, &group(), ann).await.unwrap().await.unwrap();
    }

    async fn send(&self, body: &str) {
        let content =
            Content { id: MessageId::new(), headers: Vec::new(), body: body.to_owned().into() };
        self.node.router.to_group(SERVICE, &group(), content, false).await.unwrap().await.unwrap();
    }

    /// Returns once all that was sent to the group has come to whom it comes on this node.
    async fn all_has_come(&mut self) {
        for body in ["one more", "the last"] {
            self.send(body).await;
        }
        while self.bob.body().await != "the last" {}
    }
}

#[tokio::test]
async fn who_is_removed_before_it_has_its_place_gets_nothing() {
    let mut bench = Bench::new().await;
    let first = bench.answer(true).await;
    bench.remove_ann().await;
    bench.all_has_come().await;
    drop(first);
    // It has its place, and is asked about again.
    let second = bench.answer(false).await;
    bench.send("secret").await;
    bench.all_has_come().await;
    drop(second);
    let (text, receipt, code) = bench.ann.error().await;
    assert!(text.contains("for the group's members"), "{text}");
    assert_eq!((receipt.as_deref(), code), (Some("r"), Some(4403)));
}

#[tokio::test]
async fn who_is_removed_once_it_has_its_place_is_not_told_that_it_is_subscribed() {
    let mut bench = Bench::new().await;
    drop(bench.answer(true).await);
    let second = bench.answer(true).await;
    bench.remove_ann().await;
    // The revocation asks as well.
    drop(bench.answer(false).await);
    bench.send("secret").await;
    bench.all_has_come().await;
    drop(second);
    let (text, _, code) = bench.ann.error().await;
    assert!(text.contains("for the group's members"), "{text}");
    assert_eq!(code, Some(4403));
}

#[tokio::test]
async fn who_stays_a_member_gets_what_is_sent_from_the_receipt_on() {
    let mut bench = Bench::new().await;
    for _ in 0..2 {
        drop(bench.answer(true).await);
    }
    assert_eq!(bench.ann.frame().await.command, Command::Receipt);
    bench.send("for both").await;
    assert_eq!(bench.ann.body().await, "for both");
    bench.remove_ann().await;
    drop(bench.answer(false).await);
    let note = bench.ann.frame().await;
    assert_eq!(note.header(header::SUBSCRIPTION).unwrap(), "errors");
    assert_eq!(note.header("error").unwrap(), "unsubscribed");
}
