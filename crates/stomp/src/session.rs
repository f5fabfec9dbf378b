//! The server's side of a STOMP session: bytes and time in, [`Action`]s out.
//!
//! Whoever runs a session feeds it with [`receive`](Session::receive), takes its actions with
//! [`poll_action`](Session::poll_action) until there is none, performs them, and calls
//! [`handle_timeout`](Session::handle_timeout) once [`poll_timeout`](Session::poll_timeout) is past.
//! What the session has to say comes out of [`poll_said`](Session::poll_said), at any time.
//!
//! Invariants
//! - What was decided to be said is said, whatever follows: an ERROR drops no RECEIPT.
//! - Frames are decoded one at a time, when they are asked for: not polling is back-pressure.
//! - Nothing is decoded while a CONNECT is being decided on, nor after DISCONNECT or a fault.
//! - An idle session holds no input buffer, and what it keeps of a frame it has copied, so that no
//!   short text pins a long buffer.
//!
//! Not here: sockets and framing, who may do what, where messages go, delivery to the client
//! (MESSAGE frames are encoded by whoever fans them out).

mod client_frame;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use self::client_frame::receipt;
use crate::action::Action;
use crate::heart_beat::{Due, HeartBeat, Intervals};
use crate::rate::Rate;
use crate::subscriptions::Subscriptions;
use crate::transaction::Transactions;
use crate::{Command, Config, Decoder, Fault, FrameWriter, Title, Version, header};

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
    rate: Rate,
    /// Since when a frame is begun and not ended.
    begun: Option<Instant>,
    subscriptions: Subscriptions,
    transactions: Transactions,
    /// Encoded and not yet taken: a few frames, as nothing is decoded before they are.
    said: VecDeque<Bytes>,
    /// Decided and not yet taken: what one frame or timeout caused.
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum Phase {
    /// Waiting for CONNECT, until the deadline.
    Greeting {
        deadline: Instant,
    },
    /// CONNECT is being decided on, until the same deadline.
    Deciding {
        deadline: Instant,
        client: Intervals,
        version: Version,
    },
    Open,
    /// DISCONNECT came: nothing more is read, receipts are still given.
    Leaving,
    /// ERROR was said: nothing more is read or said.
    Over,
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
            rate: Rate::new(config.max_frames_per_second, now),
            begun: None,
            subscriptions: Subscriptions::default(),
            transactions: Transactions::default(),
            said: VecDeque::new(),
            actions: VecDeque::new(),
            config,
        }
    }

    /// The version agreed on. Until CONNECTED it is 1.0, which has no escapes: clients unescape
    /// nothing before.
    pub fn version(&self) -> Version {
        self.version
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
        self.begun = None;
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
                    self.begun = None;
                    let receipt = receipt(&frame);
                    self.actions.push_back(Action::Received(frame.command));
                    if let Err(fault) = self.handle_frame(frame) {
                        self.end(fault, receipt.as_deref());
                    }
                }
                Ok(None) => {
                    if self.decoder.is_between_frames() && self.input.is_empty() {
                        self.begun = None;
                    } else {
                        self.begun.get_or_insert(self.heart_beat.last_received());
                    }
                    return None;
                }
                Err(error) => {
                    self.end(Fault::Malformed(error.reason), error.receipt.as_deref());
                }
            }
        }
    }

    /// The next frame to write, or heart-beat, encoded. Decodes nothing, so it may be called while
    /// an action is being performed.
    pub fn poll_said(&mut self) -> Option<Bytes> {
        let frame = self.said.pop_front();
        if self.said.is_empty() {
            self.said = VecDeque::new();
        }
        frame
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Greeting { deadline } | Phase::Deciding { deadline, .. } => Some(deadline),
            Phase::Open => {
                let begun = self.begun.map(|begun| begun + self.config.frame_timeout);
                [begun, self.heart_beat.deadline()].into_iter().flatten().min()
            }
            Phase::Leaving | Phase::Over => None,
        }
    }

    /// Decides what is due at `now`. Whether the client should be asked, by the transport's own
    /// means, if it is there; what else is due is said or, at the end, [`Action::Close`].
    #[must_use = "a client that is not asked cannot answer"]
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let mut probe = false;
        match self.phase {
            Phase::Greeting { deadline } | Phase::Deciding { deadline, .. } if deadline <= now => {
                self.end(Fault::ConnectTimeout(self.config.connect_timeout), None);
            }
            Phase::Open
                if self.begun.is_some_and(|begun| begun + self.config.frame_timeout <= now) =>
            {
                self.end(Fault::FrameTimeout(self.config.frame_timeout), None);
            }
            Phase::Open => {
                while let Some(due) = self.heart_beat.due(now) {
                    match due {
                        Due::Beat => self.said.push_back(Bytes::from_static(b"\n")),
                        Due::Probe => probe = true,
                        Due::Dead { silent } => {
                            self.end(Fault::HeartBeatTimeout(silent), None);
                            break;
                        }
                    }
                }
            }
            Phase::Greeting { .. } | Phase::Deciding { .. } | Phase::Leaving | Phase::Over => {}
        }
        probe
    }

    /// Whether the client gets heart-beats, as was agreed on.
    pub fn sends_heart_beats(&self) -> bool {
        self.heart_beat.sends()
    }

    /// Answers [`Action::Connect`]: sends CONNECTED with the session's id and the principal's name.
    pub fn accept(&mut self, now: Instant, session: &str, user_name: &str) {
        let Phase::Deciding { client, version, .. } = self.phase else { return };
        self.version = version;
        let server = self.config.compat.heart_beats(&self.config, client);
        self.heart_beat = self.heart_beat.agreed(server, client, now);
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
        self.receipt_with(receipt, &[]);
    }

    /// As [`receipt`](Self::receipt), saying something besides.
    pub fn receipt_with(&mut self, receipt: Option<&str>, headers: &[(&str, &str)]) {
        if let Some(receipt) = receipt
            && !matches!(self.phase, Phase::Over)
        {
            self.send(Command::Receipt, |frame| {
                frame.header(header::RECEIPT_ID, receipt);
                for (name, value) in headers {
                    frame.header(name, value);
                }
            });
        }
    }

    /// Notes that the server has ended the subscription of that number: the client may use its name
    /// again.
    pub fn end_subscription(&mut self, number: u32) {
        self.subscriptions.remove_number(number, self.config.max_subscriptions);
    }

    /// Sends ERROR and reads no more. The caller closes once it has taken what is said. `title` is
    /// what RabbitMQ would call it, `detail` all there is to say.
    pub fn fail(&mut self, title: Title, detail: &str, receipt: Option<&str>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        self.phase = Phase::Over;
        self.input = BytesMut::new();
        self.actions.clear();
        self.send_error(title, detail, receipt);
    }

    fn end(&mut self, fault: Fault, receipt: Option<&str>) {
        self.phase = Phase::Over;
        self.input = BytesMut::new();
        self.actions.clear();
        self.send_error((&fault).into(), &fault.to_string(), receipt);
        self.actions.push_back(Action::Close(fault));
    }

    fn send_error(&mut self, title: Title, detail: &str, receipt: Option<&str>) {
        let text = self.config.compat.error(title, detail);
        let mut out = BytesMut::with_capacity(128 + text.message.len() + text.body.len());
        let mut frame = FrameWriter::new(&mut out, Command::Error, self.version);
        frame.header(header::MESSAGE, text.message);
        if let Some(receipt) = receipt {
            frame.header(header::RECEIPT_ID, receipt);
        }
        if text.versions {
            frame.header(header::VERSION, Version::SUPPORTED);
        }
        frame.header(header::CONTENT_TYPE, "text/plain");
        frame.finish(text.body.as_bytes());
        self.said.push_back(out.freeze());
    }

    fn send(&mut self, command: Command, headers: impl FnOnce(&mut FrameWriter<'_>)) {
        let mut out = BytesMut::with_capacity(160);
        let mut frame = FrameWriter::new(&mut out, command, self.version);
        headers(&mut frame);
        frame.finish(b"");
        self.said.push_back(out.freeze());
    }
}

/// The `server` header of CONNECTED.
const SERVER: &str = concat!("Footbridge/", env!("CARGO_PKG_VERSION"));
