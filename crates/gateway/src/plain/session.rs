//! The task of one session without STOMP.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use access::Action;
use broker::destination::Verb;
use broker::{Destination, PublisherId};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use presence::Attributes;
use tokio::time::Instant;

use super::Ping;
use super::waiting::Waiting;
use crate::application::{Caller, Pairs};
use crate::arrival::Arrival;
use crate::close::CloseReason;
use crate::lane::{Lane, WAITING};
use crate::mailbox::{Closing, Mailbox};
use crate::message_frame::Shape;
use crate::node::{Admission, Node};
use crate::outgoing::Outgoing;
use crate::relay::{Asking, Refused};
use crate::transport::{Incoming, ReadError, Transport};
use crate::users::{self, Hearing, Newcomer, Registration};

/// How long a client is given to take the last messages and to close.
const GOODBYE: Duration = Duration::from_secs(3);

/// The attribute by which services choose sessions of this kind.
const ATTRIBUTE: &str = "plain";

/// See the module.
pub(crate) struct PlainSession<T> {
    node: Arc<Node>,
    admission: Admission,
    transport: T,
    mailbox: Arc<Mailbox>,
    outgoing: Outgoing,
    state: State,
    /// When the client is asked next whether it is there.
    ping_at: Instant,
    /// Whether it was asked and has said nothing since.
    is_asked: bool,
}

enum State {
    /// Who it is, is being found out; the client is not read.
    Entering(BoxFuture<'static, Result<Entered, Refused>>),
    Open(Box<Entered>),
}

/// What a session is once it is known whose it is.
struct Entered {
    registration: Registration,
    caller: Caller,
    publisher: PublisherId,
    expires_at: Option<Instant>,
    lane: Lane,
    /// Calls that are not answered; with [`WAITING`] and the one in flight the client is not read.
    calls: Arc<AtomicUsize>,
    /// Everything that comes for the session or its user.
    _hearing: Hearing,
    /// What is stored for the user; none where nothing is.
    waiting: Option<Waiting>,
}

/// How it ends.
struct End {
    reason: CloseReason,
    detail: String,
}

impl<T: Transport> PlainSession<T> {
    pub(crate) fn new(
        node: Arc<Node>,
        admission: Admission,
        transport: T,
        arrival: Arrival,
    ) -> Self {
        let now = Instant::now();
        let Arrival { address, shown, device } = arrival;
        let shape = Shape::plain(transport.framing().without_stomp());
        let newcomer = Newcomer {
            id: admission.id().clone(),
            mailbox: Arc::clone(admission.mailbox()),
            address,
            device,
            annotations: Attributes::from_iter([(ATTRIBUTE.to_owned(), true.into())]),
            joins: Some(shape.clone()),
            framing: shape.framing,
        };
        let shown = shown.map(|shown| *shown).unwrap_or_default();
        let enter = Entered::enter(Arc::clone(&node), newcomer, shown, shape, now);
        Self {
            mailbox: Arc::clone(admission.mailbox()),
            admission,
            transport,
            outgoing: Outgoing::default(),
            state: State::Entering(Box::pin(enter)),
            ping_at: now + node.plain.ping_interval,
            is_asked: false,
            node,
        }
    }

    /// Runs the session to its end.
    pub(crate) async fn run(mut self) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!(
            session = %self.admission.id(),
            principal = self.entered().map(|entered| &*entered.caller.principal.name),
            reason = end.reason.label(),
            may_reconnect = end.reason.may_reconnect(),
            detail = end.detail,
            "closed"
        );
        self.node.metrics.closed(end.reason);
        Box::pin(self.say_goodbye(end)).await;
    }

    fn entered(&self) -> Option<&Entered> {
        match &self.state {
            State::Entering(_) => None,
            State::Open(entered) => Some(entered),
        }
    }

    /// Whether a call of the application is not answered.
    fn is_asking(&self) -> bool {
        self.entered().is_some_and(|entered| entered.calls.load(Ordering::Relaxed) > 0)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let now = Instant::now();
            match self.poll_once(cx, now) {
                Ok(true) => {}
                Ok(false) => {
                    let expires_at = self.entered().and_then(|entered| entered.expires_at);
                    let stalled = self.outgoing.deadline(self.node.config.send_timeout);
                    let ping_at = self.entered().map(|_| self.ping_at);
                    // Of no use before the node drains, and then only to one that is sent away.
                    let last_call = self.node.drain.get().map(|schedule| schedule.finish_by);
                    let deadlines = [expires_at, stalled, ping_at, last_call];
                    let deadline = deadlines.into_iter().flatten().min();
                    self.node.clock.set(&self.mailbox, deadline.map(Instant::into_std));
                    return Poll::Pending;
                }
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// Whether there was anything to do, so that it is to be asked again.
    fn poll_once(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        let taken = self.outgoing.take(cx, &self.mailbox);
        let mut leaving = false;
        if let Some(Closing { reason, detail }) = taken.close {
            // One that is sent away waits for what its client has asked for.
            leaving = reason == CloseReason::Drain && self.is_asking();
            if !leaving || self.node.is_last_call(now) {
                let detail = detail.map_or_else(|| reason.label().to_owned(), Into::into);
                return Err(End { reason, detail });
            }
        }
        let mut busy = taken.rung;
        if taken.rung {
            self.look_at_deadlines(now)?;
        }
        self.write(cx, now)?;
        match &mut self.state {
            State::Entering(entering) => {
                if let Poll::Ready(entered) = Pin::new(entering).poll(cx) {
                    let Refused { reason, message, .. } = match entered {
                        Ok(entered) => {
                            self.state = State::Open(Box::new(entered));
                            self.ping_at = now + self.node.plain.ping_interval;
                            self.join();
                            return Ok(true);
                        }
                        Err(refused) => refused,
                    };
                    return Err(End { reason, detail: message });
                }
            }
            // Nobody can answer a ping that is not read.
            State::Open(_) if leaving => self.is_asked = false,
            State::Open(entered) => {
                while let Some(waiting) = &mut entered.waiting
                    && self.mailbox.has_room()
                    && waiting.poll_deliver(cx, &self.mailbox, now).is_ready()
                {
                    busy = true;
                }
                busy |= self.read(cx, now)?;
            }
        }
        Ok(busy)
    }

    fn look_at_deadlines(&mut self, now: Instant) -> Result<(), End> {
        if self.outgoing.is_late(now, self.node.config.send_timeout) {
            let reason = CloseReason::SlowConsumer;
            return Err(End { reason, detail: reason.label().to_owned() });
        }
        let Some(entered) = self.entered() else { return Ok(()) };
        if entered.expires_at.is_some_and(|at| at <= now) {
            let reason = CloseReason::Expired;
            let detail = "the token has expired: connect again with a fresh one".to_owned();
            return Err(End { reason, detail });
        }
        if self.ping_at > now {
            return Ok(());
        }
        if self.is_asked {
            let reason = CloseReason::HeartBeatTimeout;
            let detail = format!("no answer to a ping in {:?}", self.node.plain.ping_interval);
            return Err(End { reason, detail });
        }
        self.is_asked = true;
        self.ping_at = now + self.node.plain.ping_interval;
        if let Some(probe) = self.transport.probe() {
            self.mailbox.post(probe, now);
        }
        if self.node.plain.ping == Ping::Text {
            let framing = self.transport.framing();
            self.mailbox.post(framing.wrap(true, |out| out.extend_from_slice(b"ping")), now);
        }
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), End> {
        let written = self.outgoing.poll_write(cx, &mut self.transport, &self.mailbox, now);
        let written = written
            .map_err(|error| End { reason: CloseReason::ClientLost, detail: error.to_string() })?;
        self.node.metrics.sent_bytes.inc_by(written);
        if let State::Open(entered) = &mut self.state
            && let Some(waiting) = &mut entered.waiting
        {
            waiting.written(self.outgoing.ever_written());
        }
        if let Some(waited) = self.outgoing.waited() {
            self.node.metrics.delivered(waited);
        }
        Ok(())
    }

    /// Takes what the client says while its calls are made and it reads what it gets.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, End> {
        let State::Open(entered) = &mut self.state else { return Ok(false) };
        if entered.calls.load(Ordering::Relaxed) > WAITING || !self.mailbox.has_room() {
            // Nobody can answer a ping that is not read.
            self.is_asked = false;
            return Ok(false);
        }
        let Poll::Ready(incoming) = self.transport.poll_receive(cx) else { return Ok(false) };
        self.is_asked = false;
        match incoming {
            Ok(Incoming::Message { bytes, text }) => {
                self.node.metrics.received_bytes.inc_by(bytes.len() as u64);
                if !(self.node.plain.ping == Ping::Text && text && *bytes == *b"pong") {
                    entered.ask(&self.node, &self.mailbox, &bytes, text)?;
                }
            }
            Ok(Incoming::Reply(frame)) => {
                self.mailbox.post(frame, now);
            }
            Ok(Incoming::Alive) => {}
            Ok(Incoming::Say(frame)) => {
                self.mailbox.post(frame, now);
            }
            Ok(Incoming::Closed(answer)) => {
                if let Some(frame) = answer {
                    self.mailbox.post(frame, now);
                }
                return Err(End { reason: CloseReason::ClientClosed, detail: String::new() });
            }
            Err(ReadError::Lost) => {
                let detail = "connection lost".to_owned();
                return Err(End { reason: CloseReason::ClientLost, detail });
            }
            Err(ReadError::WebSocket(error)) => {
                return Err(End { reason: (&error).into(), detail: error.to_string() });
            }
            Err(ReadError::SockJs(detail)) => {
                return Err(End { reason: CloseReason::Protocol, detail });
            }
        }
        Ok(true)
    }

    /// Joins the groups that the session is in, beside whatever it does.
    fn join(&self) {
        let Some(entered) = self.entered() else { return };
        let (node, session) =
            (Arc::clone(&self.node), Arc::clone(entered.registration.registered()));
        // Not one of the node's tasks, for it may try for as long as the session is there.
        tokio::spawn(async move { users::join_all(&node, &session).await });
    }

    /// Says why it is over, behind all that waits, and lets the client close first, within [`GOODBYE`].
    async fn say_goodbye(mut self, end: End) {
        self.node.clock.set(&self.mailbox, None);
        if let State::Open(entered) = self.state {
            entered.leave(&self.node, end.reason);
        }
        let Some(code) = end.reason.code() else { return };
        if end.reason != CloseReason::SlowConsumer {
            self.outgoing.take(&Context::from_waker(Waker::noop()), &self.mailbox);
        } else {
            self.outgoing.keep_only_what_is_begun();
        }
        self.mailbox.end();
        let code = match end.reason {
            CloseReason::Unauthenticated => self.node.plain.unauthenticated_code,
            _ => code,
        };
        // A client that closed has its answer in the mailbox already.
        if end.reason != CloseReason::ClientClosed
            && let Some(frame) = self.transport.goodbye(code, &end.detail)
        {
            self.outgoing.push(frame);
        }
        let goodbye = async {
            let rest = poll_fn(|cx| self.outgoing.poll_rest(cx, &mut self.transport));
            if rest.await.is_ok() {
                self.transport.finish().await;
            }
        };
        // A client that does not take it in time is cut off.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

impl Entered {
    async fn enter(
        node: Arc<Node>,
        newcomer: Newcomer,
        shown: crate::hook::Shown,
        shape: Shape,
        now: Instant,
    ) -> Result<Self, Refused> {
        let connect_by = now + node.stomp.connect_timeout;
        let (registration, caller) = users::enter(&node, newcomer, shown, connect_by).await?;
        let _hearing = node.users.hear(registration.registered(), 0, None, shape.clone());
        let registered = registration.registered();
        let inboxes = node.inboxes.as_ref().filter(|_| !registered.is_nobodys());
        let waiting =
            inboxes.map(|inboxes| Waiting::new(inboxes, registered, &node.metrics, shape));
        Ok(Self {
            waiting,
            publisher: node.sessions.new_publisher(),
            expires_at: crate::relay::deadline(&caller.principal, Instant::now()),
            registration,
            caller,
            lane: Lane::default(),
            calls: Arc::default(),
            _hearing,
        })
    }

    /// Hands what the client said to the application.
    fn ask(
        &self,
        node: &Arc<Node>,
        mailbox: &Arc<Mailbox>,
        bytes: &Bytes,
        text: bool,
    ) -> Result<(), End> {
        let Some(destination) = node.plain.handler(&node.destinations) else {
            let detail = "nothing answers here: no prefix is of kind app".to_owned();
            return Err(End { reason: CloseReason::Protocol, detail });
        };
        let destination = ByteString::from(destination);
        let refused = |refused: Refused| End { reason: refused.reason, detail: refused.message };
        let app = match node.destinations.parse(&destination, Verb::Send) {
            Ok(destination @ Destination::App(_)) => {
                let allowed = node.access.check(&self.caller.principal, Action::Send, &destination);
                allowed.map_err(|forbidden| refused(forbidden.into()))?;
                let Destination::App(app) = destination else { return Ok(()) };
                app
            }
            Ok(other) => {
                let detail = format!("{other} is nothing that answers: plain.destination is wrong");
                return Err(End { reason: CloseReason::Protocol, detail });
            }
            Err(error) => return Err(refused(error.into())),
        };
        let kind = if text { "text/plain" } else { "application/octet-stream" };
        let headers: Pairs = vec![(stomp::header::CONTENT_TYPE.into(), kind.into())];
        // Nothing of the buffer it came in is kept.
        let body = Bytes::copy_from_slice(bytes);
        let from = (node, self.publisher, &self.caller);
        let asking = Asking::new(from, &destination, app, headers, body);
        let (calls, mailbox) = (Arc::clone(&self.calls), Arc::clone(mailbox));
        calls.fetch_add(1, Ordering::Relaxed);
        let call = async move {
            // Who asked was told of an error. What breaks down has had its turn as well.
            let _ = AssertUnwindSafe(asking.message()).catch_unwind().await;
            calls.fetch_sub(1, Ordering::Relaxed);
            // The session may read on.
            mailbox.ring();
        };
        self.lane.push(&node.tasks, Box::pin(call));
        Ok(())
    }

    /// Has the application told, behind all calls, that the session is over.
    fn leave(self, node: &Arc<Node>, reason: CloseReason) {
        if node.application.hook().is_none() {
            return;
        }
        let (application, caller) = (Arc::clone(&node.application), self.caller);
        let tell = async move { application.disconnect(caller, reason).await };
        self.lane.push(&node.tasks, Box::pin(tell));
    }
}
