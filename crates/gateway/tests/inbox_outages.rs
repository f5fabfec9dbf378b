//! The store of inboxes goes away and comes back: clients are told, nothing is lost, and no session ends.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use inbox::{
    Address, Advanced, Appended, Config, Count, DiskInbox, Draft, Error, Inbox, Listed, Purge,
    Settled, Settlement, Status, Take, Taken,
};
use presence::{Boot, Page, PageRequest, UserName};
use stomp::{Command, header};
use support::{Node, frame, timeout};
use tokio::sync::watch;
use ulid::Ulid;

/// A store that is away when a test says so, or late with what is taken from it.
struct Distant {
    store: DiskInbox,
    is_away: AtomicBool,
    is_late: watch::Sender<bool>,
    /// A part of it is away: nothing of ann's can be settled.
    is_away_for_ann: AtomicBool,
}

impl Distant {
    fn here(&self) -> Result<&DiskInbox, Error> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(Error::Unavailable("no way to 10.0.0.7".to_owned())),
            false => Ok(&self.store),
        }
    }

    fn goes(&self, away: bool) {
        self.is_away.store(away, Ordering::Relaxed);
    }
}

#[async_trait]
impl Inbox for Distant {
    async fn append(&self, to: &[Address], draft: &Draft) -> Result<Vec<Appended>, Error> {
        self.here()?.append(to, draft).await
    }

    async fn take(&self, take: &Take<'_>) -> Result<Taken, Error> {
        let taken = self.here()?.take(take).await;
        // An error cannot be: the sender is here.
        let _ = self.is_late.subscribe().wait_for(|is_late| !is_late).await;
        taken
    }

    async fn settle(
        &self,
        of: &Address,
        epoch: u64,
        settlements: &[(u64, Settlement)],
    ) -> Result<Settled, Error> {
        if of == &ann() && self.is_away_for_ann.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("no way to 10.0.0.8".to_owned()));
        }
        self.here()?.settle(of, epoch, settlements).await
    }

    async fn bury(&self, of: &Address, ids: &[Ulid]) -> Result<(), Error> {
        self.here()?.bury(of, ids).await
    }

    async fn advance(&self) -> Result<Advanced, Error> {
        self.here()?.advance().await
    }

    async fn status(&self, of: &Address, ids: &[Ulid]) -> Result<Vec<Option<Status>>, Error> {
        self.here()?.status(of, ids).await
    }

    async fn list(&self, of: &Address, page: &PageRequest) -> Result<Page<Listed>, Error> {
        self.here()?.list(of, page).await
    }

    async fn epoch(&self, of: &Address) -> Result<u64, Error> {
        self.here()?.epoch(of).await
    }

    async fn count(&self, of: &Address) -> Result<Count, Error> {
        self.here()?.count(of).await
    }

    async fn paths(&self, user: &UserName) -> Result<Vec<ByteString>, Error> {
        self.here()?.paths(user).await
    }

    async fn purge(&self, of: &Address, which: &Purge) -> Result<Settled, Error> {
        self.here()?.purge(of, which).await
    }

    async fn know(&self, users: &[UserName]) -> Result<(), Error> {
        self.here()?.know(users).await
    }

    async fn known(&self, page: &PageRequest) -> Result<Page<UserName>, Error> {
        self.here()?.known(page).await
    }

    async fn forget(&self, user: &UserName) -> Result<(), Error> {
        self.here()?.forget(user).await
    }
}

async fn node() -> (Node, Arc<Distant>) {
    let store = DiskInbox::memory(Config::default()).unwrap();
    let (is_away, is_late) = (AtomicBool::new(false), watch::Sender::new(false));
    let is_away_for_ann = AtomicBool::new(false);
    let distant = Arc::new(Distant { store, is_away, is_late, is_away_for_ann });
    (Node::start_with_store(distant.clone(), Config::default()).await, distant)
}

fn ann() -> Address {
    inbox_of("ann")
}

fn inbox_of(user: &str) -> Address {
    Address::of_user(UserName::new(user).unwrap(), "/queue/news".into())
}

async fn store(node: &Node, body: &str) {
    store_for(node, &[ann()], body).await;
}

async fn store_for(node: &Node, to: &[Address], body: &str) {
    let draft = Draft::new(Boot::generate(), body.to_owned());
    node.dispatcher.append(to, &draft).await.unwrap();
}

#[tokio::test]
async fn who_subscribes_meanwhile_gets_what_waits_when_it_is_back() {
    let (node, distant) = node().await;
    store(&node, "before").await;
    distant.goes(true);
    let mut client = node.connect_named("ann").await;
    client.subscribe("s", "/user/queue/news").await;
    // What is live goes on.
    client.publish("/user/ann/queue/news", "live").await;
    assert_eq!(client.body().await, "live");
    distant.goes(false);
    assert_eq!(client.body().await, "before");
}

#[tokio::test]
async fn who_sends_meanwhile_is_told_to_try_again_and_not_where_the_store_is() {
    let (node, distant) = node().await;
    distant.goes(true);
    let mut client = node.connect_named("bob").await;
    let to = [(header::DESTINATION, "/user/ann/queue/news"), ("persistent", "true")];
    client.send(frame(Command::Send, &to).with_body("x")).await;
    let (text, _, code) = client.error().await;
    assert!(text.contains("try again later") && !text.contains("10.0.0.7"), "{text}");
    assert_eq!(code, Some(1013));
    distant.goes(false);
    assert_eq!(distant.store.count(&ann()).await.unwrap().messages(), 0);
}

#[tokio::test]
async fn what_was_acknowledged_meanwhile_is_settled_when_it_is_back() {
    let (node, distant) = node().await;
    store(&node, "1").await;
    store(&node, "2").await;
    let mut client = node.connect_named("ann").await;
    client.subscribe_with("s", "/user/queue/news", &[("ack", "client")]).await;
    client.frame().await;
    let second = client.frame().await;
    distant.goes(true);
    let token = second.header(header::ACK).unwrap().to_string();
    client.ask(Command::Ack, &[(header::ID, &*token)]).await;
    distant.goes(false);
    until(&distant, |count| count.messages() == 0).await;
}

#[tokio::test]
async fn what_is_claimed_while_its_subscription_ends_is_given_back_at_once() {
    let (mut node, distant) = node().await;
    store(&node, "1").await;
    store(&node, "2").await;
    distant.is_late.send_replace(true);
    let mut client = node.connect_named("ann").await;
    client.subscribe_with("s", "/user/queue/news", &[("ack", "client")]).await;
    until(&distant, |count| count.delivered == 2).await;
    client.ask(Command::Unsubscribe, &[(header::ID, "s")]).await;
    distant.is_late.send_replace(false);
    until(&distant, |count| count.pending == 2).await;
    // Nor does a node end with anything in hand.
    distant.is_late.send_replace(true);
    client.subscribe_with("s", "/user/queue/news", &[("ack", "client")]).await;
    until(&distant, |count| count.delivered == 2).await;
    drop(client);
    node.stop();
    distant.is_late.send_replace(false);
    node.stopped().await;
    assert_eq!(distant.store.count(&ann()).await.unwrap().pending, 2);
}

#[tokio::test]
async fn a_part_of_the_store_that_is_away_keeps_nobody_else_waiting() {
    let (node, distant) = node().await;
    let both = [ann(), inbox_of("bob")];
    store_for(&node, &both, "1").await;
    store_for(&node, &both, "2").await;
    distant.is_away_for_ann.store(true, Ordering::Relaxed);
    let mut clients = Vec::new();
    for user in ["ann", "bob"] {
        let mut client = node.connect_named(user).await;
        let ack = [("ack", "client-individual")];
        client.subscribe_with("s", "/user/queue/news", &ack).await;
        clients.push(client);
    }
    for client in &mut clients {
        let messages = [client.frame().await, client.frame().await];
        for message in messages {
            let token = message.header(header::ACK).unwrap().to_string();
            client.ask(Command::Ack, &[(header::ID, &*token)]).await;
        }
    }
    until_of(&distant, &both[1], |count| count.messages() == 0).await;
    assert_eq!(distant.store.count(&ann()).await.unwrap().delivered, 2);
    distant.is_away_for_ann.store(false, Ordering::Relaxed);
    until(&distant, |count| count.messages() == 0).await;
}

async fn until(distant: &Distant, is_so: impl Fn(&Count) -> bool) {
    until_of(distant, &ann(), is_so).await;
}

async fn until_of(distant: &Distant, of: &Address, is_so: impl Fn(&Count) -> bool) {
    timeout(async {
        while !is_so(&distant.store.count(of).await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
