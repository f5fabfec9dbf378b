//! `PublishStream`: order, failures among answers, and how a stream ends.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::time::Duration;

use futures_util::stream;
use notifier::Config;
use proto::v1::publish_stream_response::Outcome;
use proto::v1::{PublishRequest, PublishStreamResponse};
use support::{Node, config, patiently, text};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

const MESSAGES: usize = 10_000;

/// An open stream: requests go in, answers come out.
struct OpenStream {
    requests: mpsc::Sender<PublishRequest>,
    answers: Streaming<PublishStreamResponse>,
}

impl OpenStream {
    async fn on(node: &mut Node) -> Self {
        let (requests, mut receiver) = mpsc::channel(16);
        let received = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let answers = node.client.publish_stream(received).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn publish(&mut self, request: PublishRequest) -> Outcome {
        self.requests.send(request).await.unwrap();
        patiently(self.answers.message()).await.unwrap().unwrap().outcome.unwrap()
    }

    async fn end(&mut self) -> Status {
        patiently(self.answers.message()).await.unwrap_err()
    }
}

#[tokio::test]
async fn ten_thousand_messages_of_a_stream_keep_their_order_and_so_do_their_answers() {
    let mut node = Node::start().await;
    let mut topic = node.subscribe("/topic/a").await;
    let mut queue = node.subscribe("/queue/q").await;
    let destination = |n: usize| if n.is_multiple_of(2) { "/topic/a" } else { "/queue/q" };
    let requests = stream::iter((0..MESSAGES).map(move |n| text(destination(n), &n.to_string())));
    let mut answers = node.client.publish_stream(requests).await.unwrap().into_inner();
    for n in 0..MESSAGES {
        let answer = patiently(answers.message()).await.unwrap().unwrap();
        let subscription = if n.is_multiple_of(2) { &mut topic } else { &mut queue };
        let delivery = patiently(subscription.next()).await.unwrap();
        assert_eq!(&delivery.message.body[..], n.to_string().as_bytes());
        let Some(Outcome::Published(published)) = answer.outcome else { panic!("{answer:?}") };
        assert_eq!(published.message_id, delivery.message.id.to_string());
        delivery.settle(broker::Outcome::Ack);
    }
    assert_eq!(patiently(answers.message()).await.unwrap(), None);
}

#[tokio::test]
async fn a_caller_that_reads_its_answers_late_loses_none() {
    let mut node = Node::start().await;
    let mut queue = node.subscribe("/queue/q").await;
    let mut stream = OpenStream::on(&mut node).await;
    let requests = stream.requests.clone();
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            requests.send(text("/queue/q", &n.to_string())).await.unwrap();
        }
    });
    // Messages flow before the first answer is read.
    for n in 0..1_000 {
        let delivery = patiently(queue.next()).await.unwrap();
        assert_eq!(&delivery.message.body[..], n.to_string().as_bytes());
        delivery.settle(broker::Outcome::Ack);
    }
    for _ in 0..MESSAGES {
        let answer = patiently(stream.answers.message()).await.unwrap().unwrap();
        assert!(matches!(answer.outcome, Some(Outcome::Published(_))), "{answer:?}");
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn a_failure_is_an_answer_among_others() {
    let embedded = broker_embedded::Config { max_queue_length: 1, ..Default::default() };
    let mut node = Node::start_with(config(), embedded).await;
    let mut stream = OpenStream::on(&mut node).await;
    for (request, code, field) in [
        (text("/queue/q", "fits"), Code::Ok, ""),
        (text("/queue/q", "does not"), Code::ResourceExhausted, ""),
        (text("/topic/#", "pattern"), Code::InvalidArgument, "destination"),
        (PublishRequest::default(), Code::InvalidArgument, "destination"),
        (text("/queue/other", "fits"), Code::Ok, ""),
    ] {
        let (answered, named) = match stream.publish(request).await {
            Outcome::Published(_) => (Code::Ok, String::new()),
            Outcome::Failure(failure) => (Code::from(failure.code), failure.field),
        };
        assert_eq!((answered, &*named), (code, field));
    }
}

#[tokio::test]
async fn a_node_that_stops_ends_its_streams_and_then_itself() {
    let mut node = Node::start().await;
    let mut stream = OpenStream::on(&mut node).await;
    assert!(matches!(stream.publish(text("/topic/a", "x")).await, Outcome::Published(_)));
    node.stop();
    let status = stream.end().await;
    let text = "this notifier is stopping: what was not answered was not published";
    assert_eq!((status.code(), status.message()), (Code::Unavailable, text));
    node.stopped().await;
}

#[tokio::test]
async fn a_connection_that_reaches_its_age_ends_its_streams_in_good_order() {
    let config = Config { max_connection_age: Duration::from_secs(1), ..config() };
    let mut node = Node::start_with(config, broker_embedded::Config::default()).await;
    let mut stream = OpenStream::on(&mut node).await;
    let status = stream.end().await;
    let expected = "this connection has reached its age: what was not answered was not published";
    assert_eq!((status.code(), status.message()), (Code::Unavailable, expected));
    // The next call finds a connection of its own.
    node.client.publish(text("/topic/a", "x")).await.unwrap();
}
