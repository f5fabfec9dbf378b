//! What all sessions of a node share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use access::Access;
use broker::{Broker, Destinations, PublisherId};
use cluster::{Nodes, Router};
use parking_lot::Mutex;
use presence::{Boot, Groups, Presence, SessionId};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::application::Application;
use crate::clock::Clock;
use crate::config::Config;
use crate::door::Door;
use crate::drain::Schedule;
use crate::hub::Hub;
use crate::inboxes::Inboxes;
use crate::inlet::Inlet;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::plain;
use crate::users::Users;

/// See the module.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) stomp: Arc<stomp::Config>,
    pub(crate) websocket: websocket::Config,
    pub(crate) sockjs: sockjs::Config,
    pub(crate) plain: plain::Config,
    pub(crate) destinations: Destinations,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) access: Arc<Access>,
    pub(crate) door: Door,
    pub(crate) application: Arc<dyn Application>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) groups: Arc<dyn Groups>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) router: Router,
    /// Whose sessions are which, where clients name them.
    pub(crate) peers: Arc<Peers>,
    pub(crate) users: Users,
    pub(crate) inlet: Inlet,
    /// None where nothing is stored for users.
    pub(crate) inboxes: Option<Arc<Inboxes>>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: Sessions,
    /// When what is due, once the node drains.
    pub(crate) drain: OnceLock<Schedule>,
    /// The tasks of all sessions, so that the node can wait for their end.
    pub(crate) tasks: TaskTracker,
}

/// A session's place on the node. Dropping it gives the place up and ends the mailbox, however the
/// session ended.
pub(crate) struct Admission {
    node: Arc<Node>,
    id: SessionId,
    mailbox: Arc<Mailbox>,
}

/// The node is full or stopping.
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Node {
    /// Whether the node drains and a session may not wait for anybody any more.
    pub(crate) fn is_last_call(&self, now: Instant) -> bool {
        self.drain.get().is_some_and(|schedule| schedule.finish_by <= now)
    }

    /// Admits a session, unless the node is full or stopping.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Admission, NoRoom> {
        let id = SessionId::generate(self.sessions.boot);
        let mailbox = Arc::new(Mailbox::new(self.config.mailbox_bytes()));
        let mut admitted = self.sessions.mailboxes.lock();
        if admitted.closed || admitted.by_id.len() >= self.sessions.limit {
            return Err(NoRoom);
        }
        admitted.by_id.insert(id.clone(), Arc::clone(&mailbox));
        self.metrics.sessions.inc();
        Ok(Admission { node: Arc::clone(self), id, mailbox })
    }
}

impl Admission {
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.mailbox.end();
        self.node.sessions.mailboxes.lock().by_id.remove(&self.id);
        self.node.metrics.sessions.dec();
    }
}

/// The sessions of this node, by id.
pub(crate) struct Sessions {
    boot: Boot,
    limit: usize,
    next_publisher: AtomicU64,
    /// At most `limit`.
    mailboxes: Mutex<Admitted>,
}

#[derive(Default)]
struct Admitted {
    by_id: HashMap<SessionId, Arc<Mailbox>>,
    /// Whether the node admits no more, because it is stopping.
    closed: bool,
}

impl Sessions {
    pub(crate) fn new(limit: usize, boot: Boot) -> Self {
        Self { boot, limit, next_publisher: AtomicU64::new(0), mailboxes: Mutex::default() }
    }

    pub(crate) fn new_publisher(&self) -> PublisherId {
        PublisherId(self.next_publisher.fetch_add(1, Ordering::Relaxed))
    }

    /// Admits no more.
    pub(crate) fn close_door(&self) {
        self.mailboxes.lock().closed = true;
    }

    /// All that are there now, in no order.
    pub(crate) fn all(&self) -> Vec<(SessionId, Arc<Mailbox>)> {
        let admitted = self.mailboxes.lock();
        admitted.by_id.iter().map(|(id, mailbox)| (id.clone(), Arc::clone(mailbox))).collect()
    }
}
