//! One session of a run: subscribes, sends and acknowledges what its plan says as far as it is let,
//! records all it does and sees.

mod acknowledge;
mod consumer;
mod subscribe;
mod transaction;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use stomp::{Command, Frame, header};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::subscribe::{State, Subscribed};
use self::transaction::Transaction;
use super::body;
use super::client::{Client, ClientError};
use super::plan::{Part, Plan, Planned, SessionPlan};
use super::recorder::Recorder;
use super::{DeliveryId, Destination, Event, Kind, MessageId};
use super::{SessionId, SubscriptionId, TransactionId};

/// Well within the ten seconds that CONNECT offers.
const BEAT: Duration = Duration::from_secs(4);
/// A session that churns does so after this many messages.
const CHURN: u32 = 2;

/// What every session of a run knows.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    /// The WebSocket endpoints of the nodes.
    pub(crate) urls: Vec<String>,
    /// Begins the name of every destination.
    pub(crate) prefix: String,
    /// Tells the bodies of this run from those of others.
    pub(crate) run: u64,
    pub(crate) recorder: Recorder,
}

/// How far sessions may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leave {
    /// How many messages each may have sent.
    pub(crate) messages: u32,
    /// Whether lazy subscriptions keep their ACKs to themselves.
    pub(crate) hold_acks: bool,
    /// Whether it is time to end: transactions, and what waits for more to come.
    pub(crate) conclude: bool,
    /// Whether it is time to say DISCONNECT.
    pub(crate) end: bool,
}

/// An open session.
pub(crate) struct Session {
    shared: Arc<Shared>,
    client: Client,
    id: SessionId,
    plan: SessionPlan,
    subscriptions: HashMap<u32, Subscribed>,
    next_subscription: u32,
    /// The number of the next message to each destination.
    next_message: HashMap<Destination, u32>,
    transaction: Option<Transaction>,
    next_transaction: u32,
    /// By receipt, what has none yet.
    asked: HashMap<u64, Asked>,
    next_receipt: u64,
    /// How many messages wait for a receipt: their own, or that of their COMMIT or ABORT.
    unanswered: usize,
    hold_acks: bool,
    concluded: bool,
    ending: bool,
}

/// What a receipt was asked for.
enum Asked {
    Send(MessageId),
    Commit { transaction: TransactionId, messages: usize },
    Abort { transaction: TransactionId, messages: usize },
    Ack(DeliveryId),
    Nack(DeliveryId),
    Subscribe(u32),
    Unsubscribe(u32),
    Disconnect,
}

/// Whether a session goes on.
enum Next {
    Go,
    /// The RECEIPT of its DISCONNECT came.
    Ended,
}

impl Session {
    /// Connects and subscribes; on return every subscription is confirmed. A failure is recorded too
    /// if a session was there.
    pub(crate) async fn open(
        shared: Arc<Shared>,
        plan: SessionPlan,
    ) -> Result<Session, ClientError> {
        let client = Client::connect(&shared.urls[plan.node]).await?;
        let id = shared.recorder.next_session();
        shared.recorder.record(Event::Connected { session: id, node: plan.node });
        let mut session = Session {
            shared,
            client,
            id,
            plan,
            subscriptions: HashMap::new(),
            next_subscription: 0,
            next_message: HashMap::new(),
            transaction: None,
            next_transaction: 0,
            asked: HashMap::new(),
            next_receipt: 0,
            unanswered: 0,
            hold_acks: false,
            concluded: false,
            ending: false,
        };
        match session.subscribe_all().await {
            Ok(()) => Ok(session),
            Err(error) => {
                session.record_close(&error);
                Err(error)
            }
        }
    }

    /// Sends `messages` as far as `leave` lets it, until it is told to end or is closed. Says how many
    /// it has sent, and whether it came to its end.
    pub(crate) async fn run(
        mut self,
        messages: &mut impl Iterator<Item = Planned>,
        mut sent: u32,
        mut leave: watch::Receiver<Leave>,
    ) -> (u32, bool) {
        let ended = self.drive(messages, &mut sent, &mut leave).await;
        if let Err(error) = &ended {
            self.record_close(error);
        }
        (sent, ended.is_ok())
    }

    async fn drive(
        &mut self,
        messages: &mut impl Iterator<Item = Planned>,
        sent: &mut u32,
        leave: &mut watch::Receiver<Leave>,
    ) -> Result<(), ClientError> {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = messages.next();
        let mut due = Instant::now() + next.map_or(Duration::ZERO, |planned| planned.pause);
        loop {
            let Leave { messages: most, hold_acks, conclude, end } = *leave.borrow_and_update();
            self.hold_acks = hold_acks;
            if conclude {
                self.conclude().await?;
            }
            if !self.ending {
                self.answer_all().await?;
            }
            if end && !self.ending {
                self.ending = true;
                self.ask(Frame::new(Command::Disconnect), Asked::Disconnect).await?;
            }
            let may_send =
                !self.concluded && *sent < most && self.unanswered < self.shared.plan.window;
            tokio::select! {
                frame = self.client.next() => {
                    let frame = frame?;
                    if let Next::Ended = self.see(frame).await? {
                        return Ok(());
                    }
                }
                () = sleep_until(due), if may_send => {
                    if let Some(planned) = next {
                        self.publish(planned).await?;
                        *sent += 1;
                        if self.plan.churns && sent.is_multiple_of(CHURN) {
                            self.leave_topics().await?;
                        }
                        next = messages.next();
                        due = Instant::now() + next.map_or(Duration::ZERO, |next| next.pause);
                    }
                }
                _ = leave.changed() => {}
                _ = beat.tick() => self.client.beat().await?,
            }
        }
    }

    /// Sends a message, in the transaction that is open if it has a part in one.
    async fn publish(&mut self, planned: Planned) -> Result<(), ClientError> {
        let Planned { destination, size, part, .. } = planned;
        if let Some(Part { fate, .. }) = part
            && self.transaction.is_none()
        {
            self.begin(fate).await?;
        }
        let next = self.next_message.entry(destination).or_default();
        let message = MessageId { sender: self.id, destination, number: *next };
        *next += 1;
        let frame = Frame::new(Command::Send)
            .with_header(header::DESTINATION, self.name(destination))
            .with_header(header::CONTENT_TYPE, "text/plain");
        let body = body::write(self.shared.run, message, size);
        match (&mut self.transaction, part) {
            (Some(open), Some(Part { ends, .. })) => {
                open.messages += 1;
                let (transaction, name) = (Some(open.id), open.name());
                self.record(Event::Sent { message, transaction });
                let frame = frame.with_header(header::TRANSACTION, name).with_body(body);
                self.client.send(&frame).await?;
                if ends { self.end_transaction().await } else { Ok(()) }
            }
            _ => {
                self.unanswered += 1;
                self.record(Event::Sent { message, transaction: None });
                self.ask(frame.with_body(body), Asked::Send(message)).await
            }
        }
    }

    /// Ends what is open, and sends a last word to each queue that it consumes: once that has come,
    /// all before it has.
    async fn conclude(&mut self) -> Result<(), ClientError> {
        if std::mem::replace(&mut self.concluded, true) {
            return Ok(());
        }
        self.end_transaction().await?;
        let consumed = self.subscriptions.values().map(|subscribed| subscribed.destination);
        let queues: Vec<_> = consumed.filter(|to| to.kind == Kind::Queue).collect();
        for destination in queues {
            let (size, pause) = (*self.shared.plan.sizes.start(), Duration::ZERO);
            self.publish(Planned { destination, size, pause, part: None }).await?;
        }
        self.shared.recorder.conclude();
        Ok(())
    }

    /// Records a frame and does what it asks for.
    async fn see(&mut self, frame: Frame) -> Result<Next, ClientError> {
        match frame.command {
            Command::Message => self.message(&frame),
            Command::Receipt => return self.receipt(&frame).await,
            other => self.unexpected(format!("a frame {other}")),
        }
        Ok(Next::Go)
    }

    async fn receipt(&mut self, frame: &Frame) -> Result<Next, ClientError> {
        let id = frame.header(header::RECEIPT_ID).map_or("", |id| id);
        let asked = id.parse().ok().and_then(|id: u64| self.asked.remove(&id));
        match asked {
            Some(Asked::Send(message)) => {
                self.unanswered -= 1;
                self.record(Event::Receipted(message));
            }
            Some(Asked::Commit { transaction, messages }) => {
                self.unanswered -= messages;
                self.record(Event::Committed(transaction));
            }
            Some(Asked::Abort { transaction, messages }) => {
                self.unanswered -= messages;
                self.record(Event::Aborted(transaction));
            }
            Some(Asked::Ack(delivery)) => self.record(Event::Acked(delivery)),
            Some(Asked::Nack(delivery)) => self.record(Event::Nacked(delivery)),
            Some(Asked::Subscribe(number)) => {
                if let Some(subscribed) = self.subscriptions.get_mut(&number) {
                    subscribed.state = State::Live;
                }
                self.record(Event::Subscribed(self.subscription(number)));
            }
            Some(Asked::Unsubscribe(number)) => {
                self.record(Event::Unsubscribed(self.subscription(number)));
                if let Some(left) = self.subscriptions.remove(&number)
                    && !self.ending
                {
                    self.subscribe(left.destination, left.consumer.ack()).await?;
                }
            }
            Some(Asked::Disconnect) => {
                self.record(Event::Ended(self.id));
                return Ok(Next::Ended);
            }
            None => self.unexpected(format!("a RECEIPT of {id:?}, which nothing asked for")),
        }
        Ok(Next::Go)
    }

    /// Sends a frame with a receipt.
    async fn ask(&mut self, frame: Frame, asked: Asked) -> Result<(), ClientError> {
        let receipt = self.next_receipt;
        self.next_receipt += 1;
        self.asked.insert(receipt, asked);
        self.client.send(&frame.with_header(header::RECEIPT, receipt.to_string())).await
    }

    fn record(&self, event: Event) {
        self.shared.recorder.record(event);
    }

    fn unexpected(&self, what: String) {
        self.record(Event::Unexpected { session: self.id, what });
    }

    fn record_close(&self, error: &ClientError) {
        let why = error.to_string();
        self.record(Event::Closed { session: self.id, why });
    }

    fn subscription(&self, number: u32) -> SubscriptionId {
        SubscriptionId { session: self.id, number }
    }

    fn name(&self, destination: Destination) -> String {
        destination_name(&self.shared.prefix, destination)
    }
}

/// `/topic/<prefix>.<number>`, `/queue/<prefix>.<number>`.
fn destination_name(prefix: &str, destination: Destination) -> String {
    let kind = match destination.kind {
        Kind::Topic => "topic",
        Kind::Queue => "queue",
    };
    format!("/{kind}/{prefix}.{}", destination.number)
}
