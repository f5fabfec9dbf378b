//! ACK and NACK: what each names in each version, what else it covers, and what it may come too late for.

mod support;

use broker::{Message, Outcome};
use gateway::{AckScope, Config};
use stomp::{Command, Frame, header};
use support::recorder::{Recorder, start, to};
use support::{Client, config, frame};

/// Delivers to the subscription at `index`, and what the client gets.
async fn deliver(recorder: &Recorder, index: usize, client: &mut Client) -> Frame {
    recorder.deliver(index, to("/queue/q", "x"));
    let message = client.frame().await;
    assert_eq!(message.command, Command::Message, "{message:?}");
    message
}

fn token(message: &Frame) -> &str {
    message.header(header::ACK).expect("an ack token")
}

/// The tags of what was settled with `outcome`, all there was.
#[track_caller]
fn settled(recorder: &Recorder, outcome: Outcome) -> Vec<u64> {
    let settled = recorder.settled();
    assert!(settled.iter().all(|(_, settled)| *settled == outcome), "{settled:?}");
    settled.into_iter().map(|(tag, _)| tag).collect()
}

async fn subscribe(client: &mut Client, id: &str, ack: &str) {
    let headers = [("id", id), ("destination", "/queue/q"), ("ack", ack)];
    client.ask(Command::Subscribe, &headers).await;
}

#[tokio::test]
async fn each_version_names_a_delivery_its_own_way() {
    for version in ["1.0", "1.1", "1.2"] {
        let (node, recorder) = start(config()).await;
        let mut client = node.connect_as(version).await;
        subscribe(&mut client, "s", "client-individual").await;
        let first = deliver(&recorder, 0, &mut client).await;
        let second = deliver(&recorder, 0, &mut client).await;
        for (message, command) in [(&second, Command::Ack), (&first, Command::Nack)] {
            let id = message.header(header::MESSAGE_ID).unwrap();
            match version {
                "1.0" => client.ask(command, &[("message-id", id)]).await,
                "1.1" => client.ask(command, &[("message-id", id), ("subscription", "s")]).await,
                _ => client.ask(command, &[("id", token(message))]).await,
            }
            assert_eq!(message.header(header::ACK).is_some(), version == "1.2");
        }
        assert_eq!(recorder.settled(), [(1, Outcome::Ack), (0, Outcome::Requeue)], "{version}");
    }
}

#[tokio::test]
async fn in_client_mode_an_ack_covers_what_its_subscription_delivered_before() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    for id in ["0", "1"] {
        subscribe(&mut client, id, "client").await;
    }
    let mut messages = Vec::new();
    for index in [0, 1, 0, 1, 0] {
        messages.push(deliver(&recorder, index, &mut client).await);
    }
    client.ask(Command::Ack, &[("id", token(&messages[3]))]).await;
    assert_eq!(settled(&recorder, Outcome::Ack), [1, 3]);
    client.ask(Command::Nack, &[("id", token(&messages[2]))]).await;
    assert_eq!(settled(&recorder, Outcome::Requeue), [0, 2]);
}

#[tokio::test]
async fn with_the_scope_of_the_session_it_covers_all_that_is_acknowledged() {
    let (node, recorder) = start(Config { ack_scope: AckScope::Session, ..config() }).await;
    let mut client = node.connect().await;
    for (id, ack) in [("0", "client"), ("1", "client-individual"), ("2", "auto"), ("3", "client")] {
        subscribe(&mut client, id, ack).await;
    }
    let mut messages = Vec::new();
    for index in [1, 0, 2, 3, 1, 0] {
        messages.push(deliver(&recorder, index, &mut client).await);
    }
    assert_eq!(settled(&recorder, Outcome::Ack), [2], "ack:auto is settled by being written");
    client.ask(Command::Ack, &[("id", token(&messages[4]))]).await;
    assert_eq!(settled(&recorder, Outcome::Ack), [4], "an individual ACK covers one");
    client.ask(Command::Ack, &[("id", token(&messages[3]))]).await;
    let mut covered = settled(&recorder, Outcome::Ack);
    covered.sort_unstable();
    assert_eq!(covered, [0, 1, 3]);
    client.ask(Command::Ack, &[("id", token(&messages[5]))]).await;
    assert_eq!(settled(&recorder, Outcome::Ack), [5]);
}

#[tokio::test]
async fn a_nack_that_does_not_say_is_as_configured() {
    for (nack_requeue, outcome) in [(true, Outcome::Requeue), (false, Outcome::Reject)] {
        let (node, recorder) = start(Config { nack_requeue, ..config() }).await;
        let mut client = node.connect().await;
        subscribe(&mut client, "s", "client-individual").await;
        for (requeue, outcome) in
            [(None, outcome), (Some("true"), Outcome::Requeue), (Some("false"), Outcome::Reject)]
        {
            let message = deliver(&recorder, 0, &mut client).await;
            let mut headers = vec![("id", token(&message))];
            headers.extend(requeue.map(|requeue| ("requeue", requeue)));
            client.ask(Command::Nack, &headers).await;
            assert_eq!(settled(&recorder, outcome).len(), 1);
        }
    }
}

#[tokio::test]
async fn an_ack_that_crossed_the_end_of_its_subscription_does_nothing() {
    for version in ["1.0", "1.1", "1.2"] {
        let (node, recorder) = start(config()).await;
        let mut client = node.connect_as(version).await;
        subscribe(&mut client, "s", "client").await;
        let message = deliver(&recorder, 0, &mut client).await;
        client.ask(Command::Unsubscribe, &[("id", "s")]).await;
        assert_eq!(settled(&recorder, Outcome::Requeue), [0]);
        let id = message.header(header::MESSAGE_ID).unwrap().to_string();
        let named = match version {
            "1.0" => vec![("message-id", &*id)],
            "1.1" => vec![("message-id", &*id), ("subscription", "s")],
            _ => vec![("id", token(&message))],
        };
        for command in [Command::Ack, Command::Nack] {
            client.ask(command, &named).await;
        }
        client.ask(Command::Begin, &[("transaction", "t")]).await;
        let mut held = vec![("transaction", "t")];
        held.extend(&named);
        client.send(frame(Command::Ack, &held)).await;
        client.ask(Command::Commit, &[("transaction", "t")]).await;
        assert_eq!(recorder.settled(), []);
    }
}

#[tokio::test]
async fn an_ack_that_crossed_the_end_of_a_shared_subscription_does_nothing() {
    let (node, recorder) =
        support::recorder::start_by(access::rules::Config::Default, config()).await;
    let mut client = node.connect().await;
    client.subscribe_with("s", "/topic/a", &[("ack", "client")]).await;
    recorder.deliver(0, to("/topic/a", "x"));
    let message = client.frame().await;
    client.ask(Command::Unsubscribe, &[("id", "s")]).await;
    client.ask(Command::Ack, &[("id", token(&message))]).await;
    // Who never subscribed has nothing to acknowledge.
    let mut other = node.connect().await;
    other.tell(Command::Ack, &[("id", token(&message))]).await;
    assert!(other.error().await.0.starts_with("nothing to acknowledge under"));
}

#[tokio::test]
async fn an_ack_of_anything_else_is_an_error_to_that_session_alone() {
    let (node, recorder) = start(config()).await;
    let mut holder = node.connect().await;
    subscribe(&mut holder, "s", "client-individual").await;
    let held = deliver(&recorder, 0, &mut holder).await;
    let (token, id) = (token(&held).to_owned(), held.header(header::MESSAGE_ID).unwrap().clone());
    let own_tag = token.rsplit('.').next().unwrap();
    let beyond = format!("7.0.{own_tag}");
    for (version, headers) in [
        ("1.2", vec![("id", "nonsense")]),
        ("1.2", vec![("id", &*token)]),
        ("1.2", vec![("id", &*beyond)]),
        ("1.2", vec![("id", "t.01ARZ3NDEKTSV4RRFFQ69G5FAV")]),
        ("1.1", vec![("message-id", &*id), ("subscription", "auto")]),
        ("1.1", vec![("message-id", &*id), ("subscription", "never")]),
        ("1.1", vec![("message-id", "nonsense"), ("subscription", "auto")]),
        ("1.0", vec![("message-id", &*id)]),
        ("1.0", vec![("message-id", "nonsense")]),
    ] {
        for in_transaction in [false, true] {
            let mut thief = node.connect_as(version).await;
            subscribe(&mut thief, "auto", "auto").await;
            if in_transaction {
                thief.ask(Command::Begin, &[("transaction", "t")]).await;
                let mut held = vec![("transaction", "t")];
                held.extend(&headers);
                thief.send(frame(Command::Ack, &held)).await;
                thief.tell(Command::Commit, &[("transaction", "t")]).await;
            } else {
                thief.tell(Command::Ack, &headers).await;
            }
            let (message, receipt, close) = thief.error().await;
            assert!(message.starts_with("nothing to acknowledge under"), "{headers:?}: {message}");
            assert_eq!((receipt.as_deref(), close), (Some("r"), Some(1002)));
        }
    }
    // Twice is once too often.
    holder.ask(Command::Ack, &[("id", &token)]).await;
    assert_eq!(recorder.settled(), [(0, Outcome::Ack)]);
    holder.tell(Command::Ack, &[("id", &token)]).await;
    assert!(holder.error().await.0.starts_with("nothing to acknowledge under"));
}

#[tokio::test]
async fn what_ack_auto_delivered_is_not_to_be_acknowledged() {
    for version in ["1.0", "1.1", "1.2"] {
        let (node, recorder) = start(config()).await;
        let mut client = node.connect_as(version).await;
        subscribe(&mut client, "s", "auto").await;
        let message: Message = to("/queue/q", "x");
        let id = message.id.to_string();
        recorder.deliver(0, message);
        assert_eq!(client.frame().await.header(header::ACK), None);
        let headers = match version {
            "1.0" => vec![("message-id", &*id)],
            "1.1" => vec![("message-id", &*id), ("subscription", "s")],
            _ => vec![("id", "0.0.whatever")],
        };
        client.tell(Command::Ack, &headers).await;
        let (message, _, close) = client.error().await;
        assert!(message.contains("its subscription has ack:auto"), "{message}");
        assert_eq!(close, Some(1002));
    }
}
