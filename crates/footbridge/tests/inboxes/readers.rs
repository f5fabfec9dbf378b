//! Users' clients: each stays subscribed to what is stored for its user, on whichever node there is, notes what
//! comes and acknowledges it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::IndexedRandom;
use stomp::{Command, Frame, header};
use testkit::checker::{Client, ClientError, InboxEvent, InboxHistory, User};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{PATIENCE, POLL};

/// The destination within each user.
pub(crate) const PATH: &str = "/queue/x";

/// How long a client waits before it connects again.
const RECONNECT: Duration = Duration::from_millis(200);

/// How often a slow reader takes its time, in messages, and how long.
const SLOW: (usize, Duration) = (10, Duration::from_millis(50));

/// What all clients and senders write to.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<InboxHistory>>);

/// See the module.
pub(crate) struct Readers {
    notes: Notes,
    /// Where clients connect, at any.
    urls: Arc<[String]>,
    over: watch::Sender<bool>,
    clients: JoinSet<()>,
}

/// The name of a user.
pub(crate) fn name(user: User) -> String {
    format!("user-{user}")
}

impl Notes {
    pub(crate) fn history(&self) -> MutexGuard<'_, InboxHistory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, event: InboxEvent) {
        self.history().note(event);
    }
}

impl Readers {
    pub(crate) fn new(notes: Notes, urls: &[String]) -> Self {
        let (urls, over) = (urls.into(), watch::Sender::new(false));
        Self { notes, urls, over, clients: JoinSet::new() }
    }

    /// A client for the user, from now on.
    pub(crate) fn join(&mut self, user: User) {
        let (notes, urls) = (self.notes.clone(), Arc::clone(&self.urls));
        let mut over = self.over.subscribe();
        self.clients.spawn(async move {
            tokio::select! {
                () = live(user, &notes, &urls) => {}
                _ = over.wait_for(|over| *over) => {}
            }
        });
    }

    /// Waits until so many different messages have come.
    pub(crate) async fn wait_for(&self, messages: usize, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let came = self.notes.history().came();
            if came >= messages {
                return;
            }
            let verdict = || self.notes.history().judge();
            assert!(Instant::now() < deadline, "{came} of {messages} came\n{}", verdict());
            sleep(POLL).await;
        }
    }

    /// Ends all clients.
    pub(crate) async fn leave(mut self) {
        self.over.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

/// One client, from connection to connection.
async fn live(user: User, notes: &Notes, urls: &[String]) {
    loop {
        let url = urls.choose(&mut rand::rng()).unwrap();
        // Nodes go away in the middle of anything.
        let _ = serve(user, notes, url).await;
        sleep(RECONNECT).await;
    }
}

async fn serve(user: User, notes: &Notes, url: &str) -> Result<(), ClientError> {
    let name = name(user);
    let headers = [(header::LOGIN, &*name), (header::HEART_BEAT, "0,0")];
    let connected = timeout(PATIENCE, Client::connect_with(url, &headers)).await;
    let mut client = connected.expect("an answer to CONNECT")?;
    let subscribe = Frame::new(Command::Subscribe)
        .with_header(header::ID, "x")
        .with_header(header::DESTINATION, format!("/user{PATH}"))
        .with_header(header::ACK, "client-individual");
    client.send(&subscribe).await?;
    for count in 1.. {
        let frame = client.next().await?;
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        let n = str::from_utf8(&frame.body).ok().and_then(|body| body.parse().ok());
        let n = n.unwrap_or_else(|| panic!("nobody sent {frame:?}"));
        let redelivered = frame.header(header::REDELIVERED).is_some_and(|value| **value == *"true");
        notes.note(InboxEvent::Came { user, n, redelivered });
        if user.is_multiple_of(5) && count % SLOW.0 == 0 {
            sleep(SLOW.1).await;
        }
        let id = frame.header(header::ACK).unwrap().to_string();
        client.send(&Frame::new(Command::Ack).with_header(header::ID, id)).await?;
    }
    Ok(())
}
