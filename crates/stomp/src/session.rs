//! The server's side of a STOMP session: bytes and time in, [`Action`]s out.
//!
//! Whoever runs a session feeds it with [`receive`](Session::receive), takes its actions with
//! [`poll_action`](Session::poll_action) until there is none, performs them, and calls
//! [`handle_timeout`](Session::handle_timeout) once [`poll_timeout`](Session::poll_timeout) is past.
//!
//! Invariants
//! - Frames are decoded one at a time, when they are asked for: not polling is back-pressure.
//! - Nothing is decoded while a CONNECT is being decided on, nor after DISCONNECT or a fault.
//! - An idle session holds no input buffer, and what it keeps of a frame it has copied, so that no
//!   short text pins a long buffer.
//!
//! Not here: sockets and framing, who may do what, where messages go, delivery to the client
//! (MESSAGE frames are encoded by whoever fans them out).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::action::{
    AckMode, Acknowledge, Acknowledged, Action, Connect, Publish, Subscribe, Unsubscribe, Verdict,
};
use crate::heart_beat::{Due, HeartBeat, Intervals};
use crate::transaction::Transactions;
use crate::{Command, Config, Decoder, Fault, Frame, FrameWriter, Version, header};

/// One session, from its first byte to its close.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    decoder: Decoder,
    /// What was received and not yet decoded; bounded by whoever feeds it only when asked to.
    input: BytesMut,
    phase: Phase,
    version: Version,
    heart_beat: HeartBeat,
    /// At most `max_subscriptions`.
    subscriptions: Vec<LiveSubscription>,
    next_number: u32,
    transactions: Transactions,
    /// Decided and not yet taken: what one frame or timeout caused, or one transaction held.
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum Phase {
    /// Waiting for CONNECT, until the deadline.
    Greeting {
        deadline: Instant,
    },
    /// CONNECT is being decided on.
    Deciding {
        client: Intervals,
    },
    Open,
    /// DISCONNECT came: nothing more is read, receipts are still given.
    Leaving,
    /// ERROR was said: nothing more is read or said.
    Over,
}

#[derive(Debug)]
struct LiveSubscription {
    /// The client's id or, in STOMP 1.0 without one, the destination.
    name: Name,
    number: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Name {
    Id(ByteString),
    Destination(ByteString),
}

impl Session {
    /// A session whose client has until `connect_timeout` from `now` to say CONNECT.
    pub fn new(config: Arc<Config>, now: Instant) -> Self {
        Self {
            decoder: Decoder::new(config.limits()),
            input: BytesMut::new(),
            phase: Phase::Greeting { deadline: now + config.connect_timeout },
            version: Version::V1_0,
            heart_beat: HeartBeat::none(now),
            subscriptions: Vec::new(),
            next_number: 0,
            transactions: Transactions::default(),
            actions: VecDeque::new(),
            config,
        }
    }

    /// The version agreed on; 1.0 until there is one.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether CONNECTED was said and the session is not over.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether more bytes would be of use once [`poll_action`](Self::poll_action) has nothing.
    pub fn wants_input(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. } | Phase::Open)
    }

    /// Takes bytes from the client, cut anywhere. Bytes that nobody else holds are not copied.
    pub fn receive(&mut self, now: Instant, bytes: Bytes) {
        self.heart_beat.received(now);
        if matches!(self.phase, Phase::Leaving | Phase::Over) {
            return;
        }
        if self.input.is_empty() {
            self.input = BytesMut::from(bytes);
        } else {
            self.input.extend_from_slice(&bytes);
        }
    }

    /// Notes a sign of life that brought no bytes, such as a pong.
    pub fn alive(&mut self, now: Instant) {
        self.heart_beat.received(now);
    }

    /// Notes that something was written to the client.
    pub fn sent(&mut self, now: Instant) {
        self.heart_beat.sent(now);
    }

    /// Notes that the client is not read for now, or is again: its silence does not count meanwhile.
    pub fn pause(&mut self, now: Instant, paused: bool) {
        self.heart_beat.pause(now, paused);
    }

    /// The next action, decoding further frames as needed.
    pub fn poll_action(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                if self.actions.is_empty() {
                    self.actions = VecDeque::new();
                }
                return Some(action);
            }
            if !self.wants_input() {
                return None;
            }
            match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) => {
                    let receipt = frame.headers.get(header::RECEIPT).cloned();
                    if let Err(fault) = self.handle_frame(frame) {
                        self.end(fault, receipt.as_deref());
                    }
                }
                Ok(None) => {
                    if self.input.is_empty() {
                        self.input = BytesMut::new();
                    }
                    return None;
                }
                Err(error) => {
                    self.end(Fault::Malformed(error.reason), error.receipt.as_deref());
                }
            }
        }
    }

    /// The next action if it only says something: [`Action::Send`], [`Action::Probe`] or
    /// [`Action::Close`]. Decodes nothing, so it may be called while another action is in hand.
    pub fn poll_said(&mut self) -> Option<Action> {
        match self.actions.front() {
            Some(Action::Send(_) | Action::Probe | Action::Close(_)) => self.actions.pop_front(),
            _ => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Greeting { deadline } => Some(deadline),
            Phase::Open => self.heart_beat.deadline(),
            Phase::Deciding { .. } | Phase::Leaving | Phase::Over => None,
        }
    }

    /// Decides what is due at `now`, to be taken before anything else that is decided.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Greeting { deadline } if deadline <= now => {
                self.end(Fault::ConnectTimeout(self.config.connect_timeout), None);
            }
            Phase::Open => {
                while let Some(due) = self.heart_beat.due(now) {
                    match due {
                        Due::Beat => {
                            self.actions.push_front(Action::Send(Bytes::from_static(b"\n")));
                        }
                        Due::Probe => self.actions.push_front(Action::Probe),
                        Due::Dead { silent } => {
                            return self.end(Fault::HeartBeatTimeout(silent), None);
                        }
                    }
                }
            }
            Phase::Greeting { .. } | Phase::Deciding { .. } | Phase::Leaving | Phase::Over => {}
        }
    }

    /// Answers [`Action::Connect`]: sends CONNECTED with the session's id and the principal's name.
    pub fn accept(&mut self, now: Instant, session: &str, user_name: &str) {
        let Phase::Deciding { client } = self.phase else { return };
        let server = Intervals {
            send: self.config.heart_beat_send,
            receive: self.config.heart_beat_receive,
        };
        self.heart_beat = HeartBeat::agree(server, client, now);
        self.decoder.set_version(self.version);
        self.phase = Phase::Open;
        let version = self.version.as_str();
        self.send(Command::Connected, |frame| {
            frame.header(header::VERSION, version);
            frame.header(header::SESSION, session);
            frame.header(header::SERVER, SERVER);
            frame.header(header::HEART_BEAT, &server.to_string());
            frame.header(header::USER_NAME, user_name);
        });
    }

    /// Sends RECEIPT, where one was asked for.
    pub fn receipt(&mut self, receipt: Option<&str>) {
        if let Some(receipt) = receipt
            && !matches!(self.phase, Phase::Over)
        {
            self.send(Command::Receipt, |frame| frame.header(header::RECEIPT_ID, receipt));
        }
    }

    /// Sends ERROR and reads no more. The caller closes once it has taken the remaining actions.
    pub fn fail(&mut self, message: &str, receipt: Option<&str>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        self.phase = Phase::Over;
        self.input = BytesMut::new();
        self.actions.clear();
        self.send_error(message, receipt, false);
    }

    fn end(&mut self, fault: Fault, receipt: Option<&str>) {
        self.phase = Phase::Over;
        self.input = BytesMut::new();
        self.actions.clear();
        self.send_error(&fault.to_string(), receipt, matches!(fault, Fault::Version(_)));
        self.actions.push_back(Action::Close(fault));
    }

    fn send_error(&mut self, message: &str, receipt: Option<&str>, with_versions: bool) {
        let mut out = BytesMut::with_capacity(128 + 2 * message.len());
        let mut frame = FrameWriter::new(&mut out, Command::Error, self.version);
        frame.header(header::MESSAGE, message);
        if let Some(receipt) = receipt {
            frame.header(header::RECEIPT_ID, receipt);
        }
        if with_versions {
            frame.header(header::VERSION, Version::SUPPORTED);
        }
        frame.header(header::CONTENT_TYPE, "text/plain");
        frame.finish(message.as_bytes());
        self.actions.push_back(Action::Send(out.freeze()));
    }

    fn send(&mut self, command: Command, headers: impl FnOnce(&mut FrameWriter<'_>)) {
        let mut out = BytesMut::with_capacity(160);
        let mut frame = FrameWriter::new(&mut out, command, self.version);
        headers(&mut frame);
        frame.finish(b"");
        self.actions.push_back(Action::Send(out.freeze()));
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), Fault> {
        let connected = matches!(self.phase, Phase::Open);
        match frame.command {
            Command::Connect | Command::Stomp if connected => {
                Err(Fault::AlreadyConnected(frame.command))
            }
            Command::Connect | Command::Stomp => self.handle_connect(frame),
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                Err(Fault::ServerFrame(frame.command))
            }
            command if !connected => Err(Fault::NotConnected(command)),
            Command::Send => self.handle_send(frame),
            Command::Subscribe => self.handle_subscribe(frame),
            Command::Unsubscribe => self.handle_unsubscribe(frame),
            Command::Ack | Command::Nack => self.handle_acknowledge(frame),
            Command::Begin => {
                let id = required(&frame, header::TRANSACTION)?;
                self.transactions.begin(copied(&id), &self.config)?;
                self.receipt(receipt(&frame).as_deref());
                Ok(())
            }
            Command::Commit => {
                let id = required(&frame, header::TRANSACTION)?;
                self.actions.extend(self.transactions.end(frame.command, id)?);
                self.actions.push_back(Action::Settle { receipt: receipt(&frame) });
                Ok(())
            }
            Command::Abort => {
                let id = required(&frame, header::TRANSACTION)?;
                self.transactions.end(frame.command, id)?;
                self.receipt(receipt(&frame).as_deref());
                Ok(())
            }
            Command::Disconnect => {
                self.phase = Phase::Leaving;
                self.input = BytesMut::new();
                self.actions.push_back(Action::Disconnect { receipt: receipt(&frame) });
                Ok(())
            }
        }
    }

    fn handle_connect(&mut self, frame: Frame) -> Result<(), Fault> {
        let accept = frame.headers.get(header::ACCEPT_VERSION).map(|value| &**value);
        self.version =
            Version::negotiate(accept).ok_or_else(|| Fault::Version(cut(accept.unwrap_or(""))))?;
        let client = match frame.headers.get(header::HEART_BEAT) {
            None => Intervals::default(),
            Some(text) => text.parse().map_err(|()| Fault::BadHeader {
                command: frame.command,
                header: header::HEART_BEAT,
                value: cut(text),
                expected: "two numbers of milliseconds such as 10000,10000",
            })?,
        };
        self.phase = Phase::Deciding { client };
        let of = |name| frame.headers.get(name).cloned();
        self.actions.push_back(Action::Connect(Connect {
            login: of(header::LOGIN),
            passcode: of(header::PASSCODE),
            host: of(header::HOST),
            headers: frame.headers,
        }));
        Ok(())
    }

    fn handle_send(&mut self, frame: Frame) -> Result<(), Fault> {
        let publish = Action::Publish(Publish {
            destination: required(&frame, header::DESTINATION)?,
            receipt: receipt(&frame),
            body: frame.body.clone(),
            headers: frame.headers.clone(),
        });
        self.hold_or_do(&frame, publish)
    }

    fn handle_subscribe(&mut self, frame: Frame) -> Result<(), Fault> {
        let destination = required(&frame, header::DESTINATION)?;
        let id = frame.headers.get(header::ID).map(|id| copied(id));
        if id.is_none() && self.version > Version::V1_0 {
            return Err(Fault::MissingHeader { command: frame.command, header: header::ID });
        }
        let ack = match frame.headers.get(header::ACK).map(|value| &**value) {
            None | Some("auto") => AckMode::Auto,
            Some("client") => AckMode::Client,
            Some("client-individual") => AckMode::ClientIndividual,
            Some(value) => {
                return Err(Fault::BadHeader {
                    command: frame.command,
                    header: header::ACK,
                    value: cut(value),
                    expected: "auto, client or client-individual",
                });
            }
        };
        let name = match &id {
            Some(id) => Name::Id(id.clone()),
            None => Name::Destination(copied(&destination)),
        };
        if self.subscriptions.iter().any(|live| live.name == name) {
            let (Name::Id(name) | Name::Destination(name)) = name;
            return Err(Fault::DuplicateSubscription(name));
        }
        let limit = self.config.max_subscriptions;
        if self.subscriptions.len() >= limit {
            return Err(Fault::TooManySubscriptions { limit });
        }
        let number = self.next_number;
        self.next_number += 1;
        self.subscriptions.push(LiveSubscription { name, number });
        self.actions.push_back(Action::Subscribe(Subscribe {
            number,
            id,
            destination: copied(&destination),
            ack,
            receipt: receipt(&frame),
            headers: frame.headers,
        }));
        Ok(())
    }

    fn handle_unsubscribe(&mut self, frame: Frame) -> Result<(), Fault> {
        let name = match frame.headers.get(header::ID) {
            Some(id) => Name::Id(id.clone()),
            None if self.version > Version::V1_0 => {
                return Err(Fault::MissingHeader { command: frame.command, header: header::ID });
            }
            None => Name::Destination(required(&frame, header::DESTINATION)?),
        };
        // One that is not live is no fault: it may have ended on the server while this frame was
        // on its way.
        let at = self.subscriptions.iter().position(|live| live.name == name);
        self.actions.push_back(Action::Unsubscribe(Unsubscribe {
            number: at.map(|at| self.subscriptions.swap_remove(at).number),
            receipt: receipt(&frame),
            headers: frame.headers,
        }));
        Ok(())
    }

    fn handle_acknowledge(&mut self, frame: Frame) -> Result<(), Fault> {
        let of = if self.version == Version::V1_2 {
            Acknowledged::Token(required(&frame, header::ID)?)
        } else {
            let subscription = match frame.headers.get(header::SUBSCRIPTION) {
                None if self.version == Version::V1_0 => None,
                _ => {
                    let id = Name::Id(required(&frame, header::SUBSCRIPTION)?);
                    // One that ended takes its unsettled deliveries with it: no number matches.
                    let live = self.subscriptions.iter().find(|live| live.name == id);
                    Some(live.map_or(u32::MAX, |live| live.number))
                }
            };
            Acknowledged::Message { id: required(&frame, header::MESSAGE_ID)?, subscription }
        };
        let verdict = match (frame.command, frame.headers.get(header::REQUEUE).map(|v| &**v)) {
            (Command::Ack, _) => Verdict::Ack,
            (_, None | Some("true")) => Verdict::Nack { requeue: true },
            (_, Some("false")) => Verdict::Nack { requeue: false },
            (command, Some(value)) => {
                return Err(Fault::BadHeader {
                    command,
                    header: header::REQUEUE,
                    value: cut(value),
                    expected: "true or false",
                });
            }
        };
        let acknowledge =
            Action::Acknowledge(Acknowledge { of, verdict, receipt: receipt(&frame) });
        self.hold_or_do(&frame, acknowledge)
    }

    fn hold_or_do(&mut self, frame: &Frame, action: Action) -> Result<(), Fault> {
        match frame.headers.get(header::TRANSACTION) {
            Some(id) => {
                self.transactions.hold(frame.command, id.clone(), action, &self.config)?;
            }
            None => self.actions.push_back(action),
        }
        Ok(())
    }
}

/// The `server` header of CONNECTED.
const SERVER: &str = concat!("Footbridge/", env!("CARGO_PKG_VERSION"));

fn required(frame: &Frame, header: &'static str) -> Result<ByteString, Fault> {
    match frame.headers.get(header) {
        Some(value) => Ok(value.clone()),
        None => Err(Fault::MissingHeader { command: frame.command, header }),
    }
}

fn receipt(frame: &Frame) -> Option<ByteString> {
    frame.headers.get(header::RECEIPT).cloned()
}

fn copied(text: &str) -> ByteString {
    ByteString::from(text.to_owned())
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
