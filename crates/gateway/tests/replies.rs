//! `reply-to:/temp-queue/...`: a queue of the session's own for answers.

mod support;

use gateway::Config;
use stomp::{Command, Frame, header};
use support::recorder::{start, to};
use support::{Node, config, frame};

#[tokio::test]
async fn answers_come_to_a_queue_of_the_sessions_own() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    let ask = [("destination", "/queue/work"), ("reply-to", "/temp-queue/answers")];
    for _ in 0..2 {
        client.ask(Command::Send, &ask).await;
        let message = recorder.message();
        assert_eq!(message.headers, [("reply-to".into(), "/reply-queue/amq.gen-0".into())]);
    }
    let calls = recorder.calls();
    assert_eq!(
        calls,
        ["subscribe /temp-queue/answers shared", "publish /queue/work", "publish /queue/work"]
    );
    recorder.deliver(0, to("/reply-queue/amq.gen-0", "done"));
    let answer = client.frame().await;
    assert_eq!(answer.command, Command::Message);
    assert_eq!(answer.header(header::SUBSCRIPTION).unwrap(), "/temp-queue/answers");
    assert_eq!(answer.header(header::DESTINATION).unwrap(), "/temp-queue/answers");
    assert_eq!((answer.header(header::ACK), &answer.body[..]), (None, &b"done"[..]));
    // It is no subscription of the client's: UNSUBSCRIBE does not end it, the session does.
    client.ask(Command::Unsubscribe, &[("id", "/temp-queue/answers")]).await;
    assert_eq!(recorder.settled(), [(0, broker::Outcome::Ack)], "by being written");
    client.send(Frame::new(Command::Disconnect)).await;
    node.wait_for_metric("gateway_sessions", 0.0).await;
    node.wait_for_metric("gateway_subscriptions", 0.0).await;
    assert_eq!(recorder.calls(), ["cancel 0"]);
}

#[tokio::test]
async fn another_reply_to_goes_on_as_it_is() {
    let (node, recorder) = start(config()).await;
    let mut client = node.connect().await;
    for reply_to in ["/queue/answers", "/reply-queue/x", "plain", "/temp-queues/x", "/nope/x"] {
        client.ask(Command::Send, &[("destination", "/queue/q"), ("reply-to", reply_to)]).await;
        assert_eq!(recorder.message().headers, [("reply-to".into(), reply_to.into())]);
    }
    assert!(recorder.calls().iter().all(|call| call == "publish /queue/q"));
}

#[tokio::test]
async fn a_commit_that_needs_too_many_queues_does_nothing() {
    let (node, recorder) = start(Config { max_own_queues: 1, ..config() }).await;
    let mut client = node.connect().await;
    let send =
        |reply_to| [("destination", "/queue/q"), ("transaction", "t"), ("reply-to", reply_to)];
    client.ask(Command::Begin, &[("transaction", "t")]).await;
    for reply_to in ["/temp-queue/a", "/temp-queue/a"] {
        client.send(frame(Command::Send, &send(reply_to))).await;
    }
    client.send(frame(Command::Commit, &[("transaction", "t"), ("receipt", "c")])).await;
    assert_eq!(client.frame().await.command, Command::Receipt);
    assert_eq!(
        recorder.calls(),
        ["subscribe /temp-queue/a shared", "publish /queue/q", "publish /queue/q"]
    );
    client.ask(Command::Begin, &[("transaction", "t")]).await;
    for reply_to in ["/temp-queue/a", "/temp-queue/b"] {
        client.send(frame(Command::Send, &send(reply_to))).await;
    }
    client.tell(Command::Commit, &[("transaction", "t")]).await;
    let (message, _, close) = client.error().await;
    assert!(message.contains("more than 1 queues of its own"), "{message}");
    assert_eq!(close, Some(4429));
    node.wait_for_metric("gateway_subscriptions", 0.0).await;
    assert_eq!(recorder.calls(), ["cancel 0"]);
}

#[tokio::test]
async fn a_question_is_answered_across_sessions() {
    for version in ["1.0", "1.1", "1.2"] {
        let node = Node::start(config()).await;
        let mut worker = node.connect().await;
        worker.subscribe("w", "/queue/work").await;
        let mut asking = node.connect_as(version).await;
        asking
            .tell(Command::Send, &[("destination", "/queue/work"), ("reply-to", "/temp-queue/me")])
            .await;
        assert_eq!(asking.frame().await.command, Command::Receipt);
        let question = worker.frame().await;
        let reply_to = question.header("reply-to").unwrap();
        assert!(reply_to.starts_with("/reply-queue/"), "{reply_to}");
        worker.publish_confirmed(reply_to, "answer").await;
        let answer = asking.frame().await;
        assert_eq!(answer.header(header::SUBSCRIPTION).unwrap(), "/temp-queue/me");
        assert_eq!(answer.header(header::DESTINATION).unwrap(), "/temp-queue/me");
        assert_eq!(answer.body, "answer");
        // Who asked and went away is no concern of who answers.
        asking.send(Frame::new(Command::Disconnect)).await;
        node.wait_for_metric("gateway_sessions", 1.0).await;
        worker.publish_confirmed(reply_to, "too late").await;
    }
}
