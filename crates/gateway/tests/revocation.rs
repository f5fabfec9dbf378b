//! Members who are removed from a group, or added to it again, at the very moment in which they come to hear it,
//! and those of whom the store does not say at first what they are.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use broker::MessageId;
use cluster::{Content, Letter, Outbound, Target};
use futures_util::StreamExt;
use presence::{
    GroupError, GroupName, Groups, Member, MemoryPresence, Page, PageRequest, SessionId,
    Unavailable, UserName,
};
use stomp::{Command, header};
use support::{Client, Node, SERVICE, timeout};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::Message;

/// Groups that hold back each answer about ann until it is let go.
struct Slow {
    groups: Arc<MemoryPresence>,
    answers: mpsc::UnboundedSender<Answer>,
    lists: Arc<Lists>,
}

/// What becomes of questions about who is in which groups.
#[derive(Default)]
struct Lists {
    /// Whether there is no answer.
    away: AtomicBool,
    /// How many were asked.
    asked: watch::Sender<usize>,
}

/// Whether ann is a member, which nobody has been told yet. Dropping it tells.
struct Answer {
    is_member: bool,
    held_back: oneshot::Sender<()>,
}

impl Answer {
    /// Nobody is ever told.
    fn lose(self) {
        self.held_back.send(()).unwrap();
    }
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
        let answer = match self.lists.away.load(Ordering::SeqCst) {
            true => Err(away()),
            false => self.groups.groups_of(member).await,
        };
        self.lists.asked.send_modify(|asked| *asked += 1);
        answer
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
            let held = Answer { is_member: answer, held_back };
            // Nobody waits for it once the test is over.
            if self.answers.send(held).is_ok() && let_go.await.is_ok() {
                return Err(away());
            }
        }
        Ok(answer)
    }
}

/// What a store says that cannot be reached, to those who run it.
fn away() -> Unavailable {
    Unavailable("cannot connect to redis.internal:6379".to_owned())
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
        let slow = |groups| Slow { groups, answers: to, lists: Arc::default() };
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
        answer(&mut self.answers, is_member).await
    }

    async fn remove_ann(&self) {
        remove_ann(&self.node).await;
    }

    async fn send(&self, body: &str) {
        send(&self.node, body).await;
    }

    async fn all_has_come(&mut self) {
        all_has_come(&self.node, &mut self.bob).await;
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
async fn who_cannot_be_known_for_a_member_is_told_so_and_nothing_of_the_store() {
    let mut bench = Bench::new().await;
    bench.answer(true).await.lose();
    let (text, receipt, code) = bench.ann.error().await;
    assert!(text.contains("cannot be found out now") && !text.contains("redis"), "{text}");
    assert_eq!((receipt.as_deref(), code), (Some("r"), Some(1013)));
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

/// A node, and on it ann, who speaks no STOMP.
struct PlainBench {
    node: Node,
    answers: mpsc::UnboundedReceiver<Answer>,
    lists: Arc<Lists>,
    /// A member who speaks it.
    bob: Client,
    ann: Client,
}

impl PlainBench {
    /// Returns once it has been asked which groups ann is in.
    async fn new(is_member: bool, away: bool) -> Self {
        let (to, answers) = mpsc::unbounded_channel();
        let lists = Arc::new(Lists { away: away.into(), ..Lists::default() });
        let asked = Arc::clone(&lists);
        let slow = |groups| Slow { groups, answers: to, lists: asked };
        let node = Node::start_among(|presence| Arc::new(slow(presence))).await;
        let mut members = vec![Member::User(name("bob"))];
        members.extend(is_member.then(|| Member::User(name("ann"))));
        node.presence.add(&group(), &members, None).await.unwrap();
        let mut bob = node.connect_named("bob").await;
        bob.subscribe("1", "/group/dev").await;
        let from = std::net::Ipv4Addr::LOCALHOST;
        let ann = node.open_from(from, "/plain?login=ann", &[]).await.unwrap();
        // By her name and by her session's id, or in vain.
        let count = if away { 1 } else { 2 };
        let mut asked = lists.asked.subscribe();
        timeout(asked.wait_for(|asked| *asked >= count)).await.unwrap();
        Self { node, answers, lists, bob, ann }
    }

    /// The next answer about ann, which must be this.
    async fn answer(&mut self, is_member: bool) -> Answer {
        answer(&mut self.answers, is_member).await
    }

    async fn add_ann(&self) {
        self.node.presence.add(&group(), &[Member::User(name("ann"))], None).await.unwrap();
        let grant = Letter::Grant { group: group(), members: vec![Target::User(name("ann"))] };
        self.node.router.tell_all(SERVICE, &grant).await.unwrap().await.unwrap();
    }

    /// Returns once the group's messages are through, and ann has seen to all that came for her before.
    async fn is_quiet(&mut self) {
        all_has_come(&self.node, &mut self.bob).await;
        let outbound = Outbound {
            path: "/queue/x".into(),
            audience: Vec::new(),
            content: content("quiet"),
            persistent: false,
        };
        let sent = self.node.router.to_users(SERVICE, &[name("ann")], &outbound).await.unwrap();
        sent.confirm.await.unwrap();
        assert_eq!(next(&mut self.ann).await, Message::text("quiet"));
    }

    /// Returns once ann hears the group.
    async fn hears(&mut self) {
        let heard = async {
            loop {
                send(&self.node, "group").await;
                let heard = tokio::time::timeout(Duration::from_millis(50), next(&mut self.ann));
                if let Ok(heard) = heard.await {
                    break heard;
                }
            }
        };
        assert_eq!(timeout(heard).await, Message::text("group"));
    }
}

async fn answer(answers: &mut mpsc::UnboundedReceiver<Answer>, is_member: bool) -> Answer {
    let answer = timeout(answers.recv()).await.unwrap();
    assert_eq!(answer.is_member, is_member);
    answer
}

async fn remove_ann(node: &Node) {
    node.presence.remove(&group(), &[Member::User(name("ann"))]).await.unwrap();
    let ann = vec![Target::User(name("ann"))];
    node.router.revoke(SERVICE, &group(), ann).await.unwrap().await.unwrap();
}

fn content(body: &str) -> Content {
    Content { id: MessageId::new(), headers: Vec::new(), body: body.to_owned().into() }
}

async fn send(node: &Node, body: &str) {
    node.router.to_group(SERVICE, &group(), content(body), false).await.unwrap().await.unwrap();
}

/// Returns once all that was sent to the group has come to whom it comes on this node.
async fn all_has_come(node: &Node, bob: &mut Client) {
    for body in ["one more", "the last"] {
        send(node, body).await;
    }
    while bob.body().await != "the last" {}
}

async fn next(client: &mut Client) -> Message {
    timeout(client.socket.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn who_was_removed_while_it_joined_joins_when_it_is_added_again() {
    let mut bench = PlainBench::new(false, false).await;
    bench.add_ann().await;
    let joining = bench.answer(true).await;
    remove_ann(&bench.node).await;
    // The revocation asks as well.
    drop(bench.answer(false).await);
    bench.is_quiet().await;
    drop(joining);
    bench.add_ann().await;
    drop(bench.answer(true).await);
    bench.hears().await;
}

#[tokio::test]
async fn who_cannot_be_told_its_groups_joins_them_when_the_store_is_back() {
    let mut bench = PlainBench::new(true, true).await;
    bench.lists.away.store(false, Ordering::SeqCst);
    bench.answer(true).await.lose();
    drop(bench.answer(true).await);
    bench.hears().await;
}
