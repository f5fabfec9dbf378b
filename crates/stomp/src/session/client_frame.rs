//! What each frame of a client means to its session: which actions it comes to, or why it is a fault.
//!
//! Not here: when frames are decoded, and what is said.

use bytes::BytesMut;
use bytestring::ByteString;

use super::{Phase, Session};
use crate::action::{
    AckMode, Acknowledge, Acknowledged, Action, Commit, Connect, Held, Publish, Subscribe,
    Unsubscribe, Verdict,
};
use crate::heart_beat::Intervals;
use crate::subscriptions::Name;
use crate::{Command, Fault, Frame, Version, header};

impl Session {
    /// What a frame of the client comes to: actions, or a fault that ends the session.
    pub(super) fn handle_frame(&mut self, frame: Frame) -> Result<(), Fault> {
        // By the time the frame arrived, not by when it is looked at.
        if !self.rate.admits(self.heart_beat.last_received()) {
            return Err(Fault::TooManyFrames { limit: self.config.max_frames_per_second });
        }
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
                let held = self.transactions.end(frame.command, &id)?;
                self.actions.push_back(Action::Commit(Commit { held, receipt: receipt(&frame) }));
                Ok(())
            }
            Command::Abort => {
                let id = required(&frame, header::TRANSACTION)?;
                // What was held back is done with, too.
                for held in self.transactions.end(frame.command, &id)? {
                    self.receipt(held.receipt().map(|receipt| &**receipt));
                }
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
        let version =
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
        let Phase::Greeting { deadline } = self.phase else { return Ok(()) };
        self.phase = Phase::Deciding { deadline, client, version };
        self.actions.push_back(Action::Connect(Connect { headers: frame.headers }));
        Ok(())
    }

    fn handle_send(&mut self, frame: Frame) -> Result<(), Fault> {
        let transaction = frame.headers.get(header::TRANSACTION).cloned();
        let publish = Publish {
            destination: required(&frame, header::DESTINATION)?,
            receipt: receipt(&frame),
            body: frame.body,
            headers: frame.headers,
        };
        self.hold_or_do(frame.command, transaction, Held::Publish(publish))
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
        let number = self.subscriptions.add(name, self.config.max_subscriptions)?;
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
        self.actions.push_back(Action::Unsubscribe(Unsubscribe {
            number: self.subscriptions.remove(&name, self.config.max_subscriptions),
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
                    // No subscription ever has the number that stands for an unknown one.
                    Some(self.subscriptions.number(&id).unwrap_or(u32::MAX))
                }
            };
            Acknowledged::Message { id: required(&frame, header::MESSAGE_ID)?, subscription }
        };
        let verdict = match (frame.command, frame.headers.get(header::REQUEUE).map(|v| &**v)) {
            (Command::Ack, _) => Verdict::Ack,
            (_, None) => Verdict::Nack { requeue: None },
            (_, Some("true")) => Verdict::Nack { requeue: Some(true) },
            (_, Some("false")) => Verdict::Nack { requeue: Some(false) },
            (command, Some(value)) => {
                return Err(Fault::BadHeader {
                    command,
                    header: header::REQUEUE,
                    value: cut(value),
                    expected: "true or false",
                });
            }
        };
        let transaction = frame.headers.get(header::TRANSACTION).cloned();
        let acknowledge = Acknowledge { of, verdict, receipt: receipt(&frame) };
        self.hold_or_do(frame.command, transaction, Held::Acknowledge(acknowledge))
    }

    fn hold_or_do(
        &mut self,
        command: Command,
        transaction: Option<ByteString>,
        frame: Held,
    ) -> Result<(), Fault> {
        match transaction {
            Some(id) => self.transactions.hold(command, id, frame, &self.config),
            None => {
                self.actions.push_back(frame.into());
                Ok(())
            }
        }
    }
}

fn required(frame: &Frame, header: &'static str) -> Result<ByteString, Fault> {
    match frame.headers.get(header) {
        Some(value) => Ok(value.clone()),
        None => Err(Fault::MissingHeader { command: frame.command, header }),
    }
}

pub(super) fn receipt(frame: &Frame) -> Option<ByteString> {
    frame.headers.get(header::RECEIPT).map(|id| copied(id))
}

fn copied(text: &str) -> ByteString {
    ByteString::from(text.to_owned())
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
