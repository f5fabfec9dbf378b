//! Runs a transcript against a session and compares what happens.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use stomp::action::{Action, Verdict};
use stomp::{Command, Config, Decoder, Frame, Limits, Session, Title, Version};

struct Script {
    session: Session,
    now: Instant,
    out: String,
}

#[track_caller]
pub(crate) fn check(transcript: &str) {
    check_with(Config::default(), transcript);
}

#[track_caller]
pub(crate) fn check_with(config: Config, transcript: &str) {
    let now = Instant::now();
    let mut script =
        Script { session: Session::new(Arc::new(config), now), now, out: String::new() };
    let expected: String = transcript.lines().map(str::trim).filter(|line| !line.is_empty()).fold(
        String::new(),
        |mut all, line| {
            let _ = writeln!(all, "{line}");
            all
        },
    );
    for line in expected.lines() {
        script.step(line);
    }
    assert_eq!(script.out, expected, "\n--- what happened:\n{}", script.out);
}

impl Script {
    fn step(&mut self, line: &str) {
        let Some((mark, rest)) = line.split_once(' ') else { return };
        let mut probe = "";
        match mark {
            ">" => {
                let bytes = match rest.strip_prefix("raw ") {
                    Some(raw) => Bytes::from(raw.replace("\\n", "\n").replace("\\0", "\0")),
                    None => self.frame(rest),
                };
                self.session.receive(self.now, bytes);
            }
            "+" => {
                self.now += Duration::from_millis(rest.parse().unwrap());
                if self.session.handle_timeout(self.now) {
                    probe = "= probe\n";
                }
            }
            "!" => self.decide(rest),
            _ => return,
        }
        writeln!(self.out, "{line}").unwrap();
        self.out.push_str(probe);
        self.show_said();
        while let Some(action) = self.session.poll_action() {
            self.show_said();
            self.show(&action);
        }
        self.show_said();
    }

    fn show_said(&mut self) {
        while let Some(bytes) = self.session.poll_said() {
            let line = match &bytes[..] {
                b"\n" => "< heart-beat".into(),
                _ => format!("< {}", shown(&bytes, self.session.version())),
            };
            writeln!(self.out, "{line}").unwrap();
        }
    }

    fn frame(&self, text: &str) -> Bytes {
        let (head, body) = text.split_once(" | ").unwrap_or((text, ""));
        let mut words = head.split(' ');
        let mut raw = format!("{}\n", words.next().unwrap());
        for header in words {
            writeln!(raw, "{header}").unwrap();
        }
        Bytes::from(format!("{raw}\n{body}\0"))
    }

    fn decide(&mut self, what: &str) {
        match what.split_once(' ') {
            Some(("accept", user)) => self.session.accept(self.now, "s1", user),
            Some(("receipt", id)) => self.session.receipt(Some(id)),
            Some(("fail", message)) => self.session.fail(Title::NotFound, message, None),
            Some(("pause", paused)) => self.session.pause(self.now, paused == "on"),
            Some(("alive", _)) => self.session.alive(self.now),
            other => panic!("no such decision: {other:?}"),
        }
    }

    fn show(&mut self, action: &Action) {
        let receipt = |receipt: &Option<_>| match receipt {
            Some(id) => format!(" receipt:{id}"),
            None => String::new(),
        };
        let line = match action {
            Action::Received(_) => return,
            Action::Connect(connect) => {
                let login = connect.headers.get("login");
                format!("= connect login:{:?}", login.map(|login| &**login))
            }
            Action::Publish(publish) => format!(
                "= publish {} {:?}{}",
                publish.destination,
                str::from_utf8(&publish.body).unwrap(),
                receipt(&publish.receipt)
            ),
            Action::Subscribe(subscribe) => format!(
                "= subscribe #{} {} {:?}{}",
                subscribe.number,
                subscribe.destination,
                subscribe.ack,
                receipt(&subscribe.receipt)
            ),
            Action::Unsubscribe(unsubscribe) => {
                let durable = unsubscribe.headers.get("durable");
                let durable = durable.map(|value| format!(" durable:{value}")).unwrap_or_default();
                format!(
                    "= unsubscribe {:?}{durable}{}",
                    unsubscribe.number,
                    receipt(&unsubscribe.receipt)
                )
            }
            Action::Acknowledge(acknowledge) => {
                let verdict = match acknowledge.verdict {
                    Verdict::Ack => "ack",
                    Verdict::Nack { requeue: None } => "nack",
                    Verdict::Nack { requeue: Some(true) } => "nack-requeue",
                    Verdict::Nack { requeue: Some(false) } => "nack-drop",
                };
                format!("= {verdict} {:?}{}", acknowledge.of, receipt(&acknowledge.receipt))
            }
            Action::Commit(commit) => {
                writeln!(self.out, "= commit{}", receipt(&commit.receipt)).unwrap();
                for held in &commit.held {
                    self.show(&held.clone().into());
                }
                return;
            }
            Action::Disconnect { receipt: asked } => format!("= disconnect{}", receipt(asked)),
            Action::Close(_) => "= close".into(),
        };
        writeln!(self.out, "{line}").unwrap();
    }
}

/// A frame to the client on one line; an ERROR by its message and receipt-id, and its body where that
/// says something else.
fn shown(bytes: &Bytes, version: Version) -> String {
    let limits = Limits { frame: 1 << 20, headers: 100, header_length: 1 << 16, body: 1 << 20 };
    let mut decoder = Decoder::new(limits);
    decoder.set_version(version);
    let frame: Frame = decoder.decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
    let mut line = frame.command.to_string();
    for (name, value) in frame.headers.iter() {
        let wanted = match frame.command {
            Command::Error => matches!(&**name, "message" | "receipt-id" | "version"),
            _ => &**name != "server",
        };
        if wanted {
            write!(line, " {name}:{value}").unwrap();
        }
    }
    let message = frame.header("message").map_or("", |message| message);
    if frame.command == Command::Error && frame.body != message {
        write!(line, " | {:?}", str::from_utf8(&frame.body).unwrap()).unwrap();
    }
    line
}

pub(crate) const OPEN: &str = "
    > CONNECT accept-version:1.2 heart-beat:0,0
    = connect login:None
    ! accept ann
    < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
    ";

pub(crate) const OPEN_1_1: &str = "
    > CONNECT accept-version:1.1
    = connect login:None
    ! accept ann
    < CONNECTED version:1.1 session:s1 heart-beat:10000,10000 user-name:ann
    ";

pub(crate) const OPEN_1_0: &str = "
    > CONNECT
    = connect login:None
    ! accept ann
    < CONNECTED version:1.0 session:s1 heart-beat:10000,10000 user-name:ann
    ";

#[track_caller]
pub(crate) fn check_open(transcript: &str) {
    check(&format!("{OPEN}{transcript}"));
}
