//! What is done wrong by more than frames.

use std::collections::BTreeSet;

use bytestring::ByteString;
use stomp::{Command, Frame, header};

use crate::misdeeds::{Deed, Doing, Misdeed};
use crate::peer::Peer;
use crate::stage::{Place, STREAM, Stage};

const NOTHING: &str = "nothing to acknowledge under";

/// Does it at a node, and says what was wrong with the answer. `doer` is a number of the caller's own.
pub(crate) async fn attempt(
    misdeed: &Misdeed,
    stage: &Stage,
    node: usize,
    doer: usize,
) -> Result<(), String> {
    let place = &stage.nodes[node];
    let (peer, frames, words) = match &misdeed.deed {
        Deed::Said { frames, words } => (Peer::connect(place.stomp).await?, frames, words),
        Deed::Unconnected { frames, words } => (Peer::silent(place.stomp).await?, frames, words),
        Deed::Done(doing) => return attempt_doing(*doing, place, doer).await,
    };
    let here = |text: &str| {
        let other = (node + 1) % stage.nodes.len();
        text.replace("{node}", &node.to_string()).replace("{other}", &other.to_string())
    };
    let mut peer = peer;
    let said: String = frames.iter().map(|frame| here(frame) + "\0").collect();
    // It may be refused before all of it is said.
    let written = peer.write(said.as_bytes()).await;
    let error = peer.error().await.map_err(|error| match written {
        Ok(()) => error,
        Err(written) => format!("{written}; {error}"),
    })?;
    tells(&error, &words.iter().map(|word| here(word)).collect::<Vec<_>>())
}

fn tells(error: &str, words: &[impl AsRef<str>]) -> Result<(), String> {
    let missing = words.iter().find(|word| !error.contains(word.as_ref()));
    missing.map_or(Ok(()), |word| Err(format!("no \"{}\" in: {error}", word.as_ref())))
}

async fn attempt_doing(doing: Doing, place: &Place, doer: usize) -> Result<(), String> {
    let connect = || Peer::connect(place.stomp);
    let queue = format!("/queue/m.of.{doer}");
    let subscribe = |ack: &str, prefetch: usize| {
        format!("SUBSCRIBE\nid:1\ndestination:{queue}\nack:{ack}\nprefetch-count:{prefetch}\n\n")
    };
    let send = |body: usize| format!("SEND\ndestination:{queue}\n\n{body}");
    match doing {
        Doing::ForeignToken => {
            let (mut owner, mut thief) = (connect().await?, connect().await?);
            owner.ask(&subscribe("client", 1)).await?;
            owner.say(&send(0)).await?;
            let token = token(&owner.expect(Command::Message).await?)?;
            thief.ask("SUBSCRIBE\nid:1\ndestination:/topic/m.none\nack:client\n\n").await?;
            thief.say(&format!("ACK\nid:{token}\n\n")).await?;
            tells(&thief.error().await?, &[NOTHING])?;
            owner.ask(&format!("ACK\nid:{token}\n\n")).await?;
            owner.leave().await
        }
        Doing::AutoToken => {
            let mut peer = connect().await?;
            peer.ask(&subscribe("auto", 1)).await?;
            peer.say(&send(0)).await?;
            let message = peer.expect(Command::Message).await?;
            if message.header(header::ACK).is_some() {
                return Err("a token with ack:auto".to_owned());
            }
            let guess = format!("ACK\nid:0.0.{}\n\n", peer.tag);
            peer.say(&guess).await?;
            tells(&peer.error().await?, &[NOTHING, "ack:auto"])
        }
        Doing::TokenTwice => {
            let mut peer = connect().await?;
            peer.ask(&subscribe("client-individual", 1)).await?;
            peer.say(&send(0)).await?;
            let token = token(&peer.expect(Command::Message).await?)?;
            peer.ask(&format!("ACK\nid:{token}\n\n")).await?;
            peer.say(&format!("ACK\nid:{token}\n\n")).await?;
            tells(&peer.error().await?, &[NOTHING, "settled already"])
        }
        Doing::HalfFrame => {
            let mut peer = connect().await?;
            peer.ask("SEND\ndestination:/topic/m.none\n\nwhole").await?;
            peer.write(b"SEND\ndestination:/queue/check.0\n\nhalf").await?;
            peer.cut()
        }
        Doing::HalfConnect => {
            let mut peer = Peer::silent(place.stomp).await?;
            peer.write(b"CONNECT\naccept-vers").await?;
            peer.cut()
        }
        Doing::CutTransaction => {
            let mut peer = connect().await?;
            peer.say("BEGIN\ntransaction:t\n\n").await?;
            for n in 0..5 {
                let send = "SEND\ndestination:/queue/check.0\ntransaction:t";
                peer.say(&format!("{send}\n\n{n}")).await?;
            }
            // Those before it were read.
            peer.ask("UNSUBSCRIBE\nid:none\n\n").await?;
            peer.cut()
        }
        Doing::Hoard => {
            let mut hoarder = connect().await?;
            for n in 0..5 {
                hoarder.ask(&send(n)).await?;
            }
            hoarder.ask(&subscribe("client", 2)).await?;
            hoarder.expect(Command::Message).await?;
            hoarder.expect(Command::Message).await?;
            hoarder.cut()?;
            // What it kept is given to another one.
            let mut other = connect().await?;
            other.say(&subscribe("client-individual", 5)).await?;
            let mut bodies = BTreeSet::new();
            while bodies.len() < 5 {
                let message = other.expect(Command::Message).await?;
                bodies.insert(message.body.clone());
                other.say(&format!("ACK\nid:{}\n\n", token(&message)?)).await?;
            }
            other.leave().await
        }
        Doing::Deaf => {
            let Ok(_one) = place.deaf.try_lock() else { return Ok(()) };
            let closed = "gateway_sessions_closed_total{reason=\"slow_consumer\"}";
            let before = place.node.metric(closed).await;
            let topic = format!("/topic/m.deaf.{doer}");
            let mut peer = Peer::connect_small(place.stomp).await?;
            peer.ask(&format!("SUBSCRIBE\nid:1\ndestination:{topic}\n\n")).await?;
            let body = "x".repeat(60 << 10);
            while place.node.metric(closed).await == before {
                // It may have been closed by now.
                let _ = peer.say(&format!("SEND\ndestination:{topic}\n\n{body}")).await;
            }
            peer.cut()
        }
        Doing::Stream => {
            let mut peer = connect().await?;
            let read = "SUBSCRIBE\nid:1\ndestination:/amq/queue/m.stream\nack:client-individual";
            peer.say(&format!("{read}\nx-stream-offset:first\n\n")).await?;
            for n in 0..STREAM / 2 {
                let message = peer.expect(Command::Message).await?;
                if message.body != n.to_string() {
                    return Err(format!("{:?} in place of {n}", message.body));
                }
                let verdict = if n % 2 == 0 { "NACK" } else { "ACK" };
                peer.say(&format!("{verdict}\nid:{}\n\n", token(&message)?)).await?;
            }
            peer.cut()
        }
        Doing::NowhereReply => {
            let mut peer = connect().await?;
            peer.ask("SEND\ndestination:/reply-queue/m.nope\n\nbody").await?;
            peer.leave().await
        }
        Doing::TempQueues => {
            let mut peer = connect().await?;
            for n in 0..4 {
                let send = "SEND\ndestination:/topic/m.none\nreply-to:/temp-queue/";
                peer.ask(&format!("{send}{n}\n\n?")).await?;
            }
            peer.cut()
        }
    }
}

fn token(message: &Frame) -> Result<ByteString, String> {
    message.header(header::ACK).cloned().ok_or_else(|| "a MESSAGE without a token".to_owned())
}
