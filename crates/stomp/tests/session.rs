//! The server's session, told as transcripts.
//!
//! `>` a frame from the client (`|` before its body), `+` milliseconds pass, `!` what the gateway
//! decides; everything else is what the session does: `<` a frame to the client, `=` an action.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use stomp::action::{Action, Verdict};
use stomp::{Command, Config, Decoder, Frame, Limits, Session, Version};

struct Script {
    session: Session,
    now: Instant,
    out: String,
}

#[track_caller]
fn check(transcript: &str) {
    check_with(Config::default(), transcript);
}

#[track_caller]
fn check_with(config: Config, transcript: &str) {
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
            Some(("fail", message)) => self.session.fail(message, None),
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
                format!("= connect login:{:?}", connect.login.as_deref())
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
                format!("= unsubscribe {:?}{}", unsubscribe.number, receipt(&unsubscribe.receipt))
            }
            Action::Acknowledge(acknowledge) => {
                let verdict = match acknowledge.verdict {
                    Verdict::Ack => "ack",
                    Verdict::Nack { requeue: true } => "nack",
                    Verdict::Nack { requeue: false } => "reject",
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

/// A frame to the client on one line; an ERROR by its message and receipt-id alone.
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
    line
}

#[test]
fn connect_subscribe_send_unsubscribe_disconnect() {
    check(
        "> CONNECT accept-version:1.0,1.1,1.2 host:h login:ann heart-beat:0,0
         = connect login:Some(\"ann\")
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         > SUBSCRIBE id:sub-0 destination:/topic/a receipt:r1
         = subscribe #0 /topic/a Auto receipt:r1
         ! receipt r1
         < RECEIPT receipt-id:r1
         > SEND destination:/topic/a receipt:r2 | hello
         = publish /topic/a \"hello\" receipt:r2
         > UNSUBSCRIBE id:sub-0 receipt:r3
         = unsubscribe Some(0) receipt:r3
         > DISCONNECT receipt:r4
         = disconnect receipt:r4
         ! receipt r4
         < RECEIPT receipt-id:r4",
    );
}

#[test]
fn no_accept_version_is_1_0() {
    check(
        "> CONNECT login:ann
         = connect login:Some(\"ann\")
         ! accept ann
         < CONNECTED version:1.0 session:s1 heart-beat:10000,10000 user-name:ann",
    );
}

#[test]
fn the_highest_common_version_is_chosen() {
    check(
        "> STOMP accept-version:1.1,2.0,1.0
         = connect login:None
         ! accept bob
         < CONNECTED version:1.1 session:s1 heart-beat:10000,10000 user-name:bob",
    );
}

#[test]
fn no_common_version_is_an_error_that_lists_ours() {
    check(
        "> CONNECT accept-version:2.0,3.0
         < ERROR message:no common version: the client accepts \"2.0,3.0\", this server speaks 1.0,1.1,1.2 version:1.0,1.1,1.2
         = close",
    );
}

#[test]
fn nothing_is_decoded_while_connect_is_decided() {
    check(
        "> raw CONNECT\\naccept-version:1.2\\n\\n\\0SEND\\ndestination:/topic/a\\n\\nx\\0
         = connect login:None
         > SEND destination:/topic/a | y
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         = publish /topic/a \"x\"
         = publish /topic/a \"y\"",
    );
}

#[test]
fn a_refused_connect_is_an_error_and_the_end() {
    check(
        "> CONNECT accept-version:1.2
         = connect login:None
         ! fail no such user
         < ERROR message:no such user
         > CONNECT accept-version:1.2",
    );
}

#[test]
fn the_first_frame_must_be_connect() {
    check(
        "> SEND destination:/topic/a receipt:r1 | x
         < ERROR message:expected CONNECT or STOMP as the first frame, got SEND receipt-id:r1
         = close",
    );
}

#[test]
fn a_second_connect_is_refused() {
    check(
        "> CONNECT accept-version:1.2
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         > STOMP accept-version:1.2
         < ERROR message:this session is connected already; a second STOMP is not allowed
         = close",
    );
}

const OPEN: &str = "
    > CONNECT accept-version:1.2 heart-beat:0,0
    = connect login:None
    ! accept ann
    < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
    ";

const OPEN_1_1: &str = "
    > CONNECT accept-version:1.1
    = connect login:None
    ! accept ann
    < CONNECTED version:1.1 session:s1 heart-beat:10000,10000 user-name:ann
    ";

const OPEN_1_0: &str = "
    > CONNECT
    = connect login:None
    ! accept ann
    < CONNECTED version:1.0 session:s1 heart-beat:10000,10000 user-name:ann
    ";

#[track_caller]
fn check_open(transcript: &str) {
    check(&format!("{OPEN}{transcript}"));
}

#[test]
fn bytes_that_are_not_stomp_are_an_error_with_the_receipt_where_it_was_read() {
    check_open(
        "> raw HELLO\\n
         < ERROR message:unknown command \"HELLO\"
         = close",
    );
    check_open(
        "> raw SEND\\nreceipt:r1\\nno colon\\n\\n\\0
         < ERROR message:a header line without a colon receipt-id:r1
         = close",
    );
}

#[test]
fn required_headers_are_named() {
    for (frame, header) in [
        ("SEND receipt:r1", "destination"),
        ("SUBSCRIBE id:1 receipt:r1", "destination"),
        ("SUBSCRIBE destination:/topic/a receipt:r1", "id"),
        ("UNSUBSCRIBE receipt:r1", "id"),
        ("ACK receipt:r1", "id"),
        ("NACK receipt:r1", "id"),
        ("BEGIN receipt:r1", "transaction"),
        ("COMMIT receipt:r1", "transaction"),
        ("ABORT receipt:r1", "transaction"),
    ] {
        let command = frame.split(' ').next().unwrap();
        check_open(&format!(
            "> {frame}
             < ERROR message:{command} needs the header \"{header}\" receipt-id:r1
             = close"
        ));
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    check_open(
        "> SUBSCRIBE id:1 destination:/queue/a ack:maybe
         < ERROR message:SUBSCRIBE has ack:maybe, which should be auto, client or client-individual
         = close",
    );
    check(
        "> CONNECT accept-version:1.2 heart-beat:soon
         < ERROR message:CONNECT has heart-beat:soon, which should be two numbers of milliseconds such as 10000,10000
         = close",
    );
    check_open(
        "> NACK id:0.1 requeue:perhaps
         < ERROR message:NACK has requeue:perhaps, which should be true or false
         = close",
    );
}

#[test]
fn a_frame_that_servers_send_is_refused() {
    check_open(
        "> MESSAGE destination:/topic/a | x
         < ERROR message:MESSAGE is a frame that servers send, not clients
         = close",
    );
}

#[test]
fn a_live_subscription_id_is_not_given_twice_and_free_again_after_unsubscribe() {
    check_open(
        "> SUBSCRIBE id:1 destination:/topic/a
         = subscribe #0 /topic/a Auto
         > UNSUBSCRIBE id:1
         = unsubscribe Some(0)
         > SUBSCRIBE id:1 destination:/topic/b
         = subscribe #1 /topic/b Auto
         > SUBSCRIBE id:1 destination:/topic/c receipt:r
         < ERROR message:a subscription with the id \"1\" exists already in this session receipt-id:r
         = close",
    );
}

#[test]
fn unsubscribing_what_is_not_live_is_no_fault() {
    check_open(
        "> UNSUBSCRIBE id:7 receipt:r
         = unsubscribe None receipt:r",
    );
}

#[test]
fn subscriptions_are_limited() {
    check_with(
        Config { max_subscriptions: 1, ..Config::default() },
        &format!(
            "{OPEN}
             > SUBSCRIBE id:1 destination:/topic/a
             = subscribe #0 /topic/a Auto
             > SUBSCRIBE id:2 destination:/topic/a
             < ERROR message:more than 1 subscriptions in one session
             = close"
        ),
    );
}

#[test]
fn in_1_0_a_destination_names_its_subscription() {
    check(&format!(
        "{OPEN_1_0}
         > SUBSCRIBE destination:/topic/a
         = subscribe #0 /topic/a Auto
         > SUBSCRIBE destination:/topic/b id:/topic/a
         = subscribe #1 /topic/b Auto
         > UNSUBSCRIBE destination:/topic/a
         = unsubscribe Some(0)
         > SUBSCRIBE destination:/topic/b id:/topic/a
         < ERROR message:a subscription with the id \"/topic/a\" exists already in this session
         = close"
    ));
}

#[test]
fn each_version_names_what_it_acknowledges_its_own_way() {
    check_open(
        "> SUBSCRIBE id:s destination:/queue/q ack:client
         = subscribe #0 /queue/q Client
         > ACK id:0.1 receipt:r
         = ack Token(\"0.1\") receipt:r
         > NACK id:0.2 requeue:false
         = reject Token(\"0.2\")",
    );
    check(&format!(
        "{OPEN_1_1}
         > SUBSCRIBE id:s destination:/queue/q ack:client-individual
         = subscribe #0 /queue/q ClientIndividual
         > NACK message-id:m subscription:s
         = nack Message {{ id: \"m\", subscription: Some(0) }}
         > ACK message-id:m
         < ERROR message:ACK needs the header \"subscription\"
         = close"
    ));
    check(&format!(
        "{OPEN_1_0}
         > ACK message-id:m
         = ack Message {{ id: \"m\", subscription: None }}"
    ));
}

#[test]
fn a_transaction_holds_back_and_commit_releases_in_order() {
    check_open(
        "> BEGIN transaction:t receipt:r0
         < RECEIPT receipt-id:r0
         > SEND destination:/queue/a transaction:t receipt:r1 | 1
         > ACK id:0.1 transaction:t
         > SEND destination:/queue/a | 2
         = publish /queue/a \"2\"
         > COMMIT transaction:t receipt:r2
         = commit receipt:r2
         = publish /queue/a \"1\" receipt:r1
         = ack Token(\"0.1\")",
    );
}

#[test]
fn abort_drops_what_was_held_back_and_gives_all_receipts() {
    check_open(
        "> BEGIN transaction:t
         > SEND destination:/queue/a transaction:t receipt:r1 | 1
         > ABORT transaction:t receipt:r2
         < RECEIPT receipt-id:r1
         < RECEIPT receipt-id:r2
         > COMMIT transaction:t
         < ERROR message:COMMIT names the transaction \"t\", which is not open
         = close",
    );
}

#[test]
fn transactions_are_bounded() {
    let config = Config { max_transactions: 1, max_transaction_frames: 1, ..Config::default() };
    check_with(
        config.clone(),
        &format!(
            "{OPEN}
             > BEGIN transaction:t
             > BEGIN transaction:u
             < ERROR message:more than 1 open transactions in one session
             = close"
        ),
    );
    check_with(
        config,
        &format!(
            "{OPEN}
             > BEGIN transaction:t
             > SEND destination:/queue/a transaction:t | 1
             > SEND destination:/queue/a transaction:t receipt:r | 2
             < ERROR message:more than 1 frames in one transaction, or 1048576 bytes in all that are open receipt-id:r
             = close"
        ),
    );
    check_open(
        "> BEGIN transaction:t
         > BEGIN transaction:t
         < ERROR message:a transaction with the id \"t\" is open already in this session
         = close",
    );
}

#[test]
fn headers_count_against_the_bytes_of_all_open_transactions() {
    check_with(
        Config { max_transaction_bytes: bytesize::ByteSize(2_000), ..Config::default() },
        &format!(
            "{OPEN}
             > BEGIN transaction:t
             > BEGIN transaction:u
             > SEND destination:/queue/a transaction:t h:{h}
             > SEND destination:/queue/a transaction:u h:{h}
             < ERROR message:more than 1024 frames in one transaction, or 2000 bytes in all that are open
             = close",
            h = "x".repeat(1_000)
        ),
    );
}

#[test]
fn every_frame_counts_against_the_rate() {
    check_with(
        Config { max_frames_per_second: 1, ..Config::default() },
        &format!(
            "{OPEN}
             > BEGIN transaction:t
             > SEND destination:/queue/a transaction:t
             > ABORT transaction:t
             > BEGIN transaction:t
             > ABORT transaction:t receipt:r
             < ERROR message:more than 1 frames per second receipt-id:r
             = close"
        ),
    );
}

#[test]
fn a_receipt_that_is_due_is_given_although_an_error_follows() {
    check_open(
        "> SEND destination:/topic/a receipt:r1 | x
         = publish /topic/a \"x\" receipt:r1
         ! receipt r1
         < RECEIPT receipt-id:r1
         ! fail not that
         < ERROR message:not that",
    );
}

#[test]
fn deciding_on_a_connect_takes_no_longer_than_connecting() {
    check(
        "> CONNECT accept-version:1.2
         = connect login:None
         + 9999
         + 1
         < ERROR message:no CONNECT frame within 10s
         = close",
    );
}

#[test]
fn silence_before_connect_ends_in_time() {
    check(
        "> raw CONNECT\\n
         + 9999
         + 1
         < ERROR message:no CONNECT frame within 10s
         = close",
    );
}

#[test]
fn half_a_frame_is_ended_in_time_or_ends_the_session() {
    check_open(
        "> raw SEND\\ndestination:/topic/a\\n
         + 59999
         > raw \\nx\\0
         = publish /topic/a \"x\"
         + 3600000
         > raw SEND\\n
         + 59999
         + 1
         < ERROR message:a frame was begun and not ended within 60s
         = close",
    );
}

#[test]
fn nothing_is_escaped_before_connected() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:a:b
         < ERROR message:CONNECT has heart-beat:a:b, which should be two numbers of milliseconds such as 10000,10000
         = close",
    );
}

#[test]
fn a_silent_client_is_probed_and_then_closed() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:10000,0
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         + 10999
         + 1
         = probe
         + 9999
         + 1
         < ERROR message:heard nothing for 21s, longer than the heart-beats agreed on
         = close",
    );
}

#[test]
fn a_probe_that_is_answered_keeps_the_session() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:10000,0
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         + 11000
         = probe
         + 5000
         ! alive now
         + 10999
         + 1
         = probe
         > raw \\n
         + 10999",
    );
}

#[test]
fn silence_does_not_count_while_the_client_is_not_read() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:10000,0
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         ! pause on
         + 60000
         ! pause off
         + 10999
         + 1
         = probe",
    );
}

#[test]
fn the_server_beats_as_agreed() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:0,20000
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         + 18999
         + 1
         < heart-beat
         + 18999
         + 1
         < heart-beat",
    );
}

#[test]
fn nothing_follows_a_fault() {
    check_open(
        "> SEND receipt:r
         < ERROR message:SEND needs the header \"destination\" receipt-id:r
         = close
         > SEND destination:/topic/a | x
         + 60000
         ! receipt late",
    );
}
