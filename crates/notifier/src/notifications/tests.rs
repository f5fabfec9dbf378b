//! Deadlines, failures and streams against a broker that misbehaves, in paused time.

mod durable;
mod sends;

use std::time::Duration;

use broker::{ConfirmError, Link, PublishError};
use futures_util::{poll, stream};
use proto::v1::Failure;
use proto::v1::message::Body;
use proto::v1::notifications_server::Notifications as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::config::Config;
use crate::fake_broker::{FakeBroker, OnPublish};

struct Fixture {
    broker: Arc<FakeBroker>,
    notifications: Notifications,
    inner: crate::fixture::Fixture,
}

/// The answers of a stream, and the end that requests are given to.
struct OpenStream {
    requests: mpsc::UnboundedSender<Result<PublishRequest, Status>>,
    answers: BoxStream<'static, Result<PublishStreamResponse, Status>>,
}

fn down() -> Link {
    Link::Down("connection refused".to_owned())
}

fn unavailable() -> OnPublish {
    OnPublish::Fail(PublishError::Unavailable("connection refused".to_owned()))
}

fn request(text: &str) -> PublishRequest {
    PublishRequest {
        destination: "/topic/a".to_owned(),
        message: Some(proto::v1::Message {
            body: Some(Body::Text(text.to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Fixture {
    fn new(link: Link, on_publish: OnPublish) -> Self {
        Self::with_config(link, on_publish, Config::default())
    }

    fn with_config(link: Link, on_publish: OnPublish, config: Config) -> Self {
        let broker = Arc::new(FakeBroker::new(link, on_publish));
        let inner = crate::fixture::Fixture::over(broker.clone(), config);
        let notifications = Notifications::new(inner.node.clone());
        Self { broker, notifications, inner }
    }

    /// Publishes, and says after which time it was answered.
    async fn publish(&self, timeout: Option<&str>) -> (Result<String, Status>, Duration) {
        let mut request = Request::new(request("hello"));
        if let Some(timeout) = timeout {
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let start = Instant::now();
        let answer = self.notifications.publish(request).await;
        (answer.map(|response| response.into_inner().message_id), start.elapsed())
    }

    async fn refused(&self, timeout: Option<&str>) -> (Status, Duration) {
        let (answer, after) = self.publish(timeout).await;
        (answer.unwrap_err(), after)
    }

    fn open(&self, deadline: Option<Duration>, age: Duration) -> OpenStream {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let received = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let now = Instant::now();
        let deadline = deadline.map(|deadline| now + deadline);
        let stopping = self.inner.stopping.clone();
        let ending = Ending { stopping, aged: now + age, deadline, expires: None };
        OpenStream { requests, answers: self.notifications.published(received, ending) }
    }

    fn open_for_ever(&self) -> OpenStream {
        self.open(None, Duration::from_secs(24 * 60 * 60))
    }

    fn bodies(&self) -> Vec<String> {
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        self.broker.taken().iter().map(|(_, message)| text(&message.body)).collect()
    }

    fn metrics(&self) -> String {
        self.inner.metrics()
    }
}

impl OpenStream {
    fn send(&self, text: &str) {
        self.requests.send(Ok(request(text))).unwrap();
    }

    async fn answer(&mut self) -> Published {
        self.answers.next().await.unwrap().unwrap().outcome.unwrap()
    }

    async fn published(&mut self) -> String {
        match self.answer().await {
            Published::Published(response) => response.message_id,
            Published::Failure(failure) => panic!("{failure:?}"),
        }
    }

    async fn failure(&mut self) -> Failure {
        match self.answer().await {
            Published::Failure(failure) => failure,
            Published::Published(response) => panic!("{response:?}"),
        }
    }

    /// The status the stream ends with.
    async fn end(&mut self) -> Status {
        let status = self.answers.next().await.unwrap().unwrap_err();
        assert!(self.answers.next().await.is_none());
        status
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_waited_for_until_the_calls_deadline() {
    let fixture = Fixture::new(down(), unavailable());
    let (status, after) = fixture.refused(Some("4S")).await;
    assert_eq!((status.code(), after), (Code::Unavailable, Duration::from_millis(3_600)));
    let text = "broker is unavailable: connection refused: the message was not published";
    assert_eq!(status.message(), text);
    let retry = status.get_details_retry_info().unwrap();
    assert_eq!(retry.retry_delay, Some(Duration::from_secs(1)));
    assert!(status.get_details_error_info().is_none(), "nothing was published for certain");
    assert!(fixture.broker.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_deadline_waits_for_as_long_as_configured() {
    let publish_timeout = Duration::from_secs(7);
    let config = Config { publish_timeout, ..Config::default() };
    let fixture = Fixture::with_config(down(), unavailable(), config);
    let (status, after) = fixture.refused(None).await;
    assert_eq!((status.code(), after), (Code::Unavailable, publish_timeout));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_comes_back_in_time_gets_the_message() {
    let fixture = Fixture::new(down(), unavailable());
    let back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        fixture.broker.on_publish(OnPublish::Answer(Ok(())));
        fixture.broker.set_link(Link::Up);
    };
    let ((answer, after), ()) = tokio::join!(fixture.publish(Some("5S")), back);
    assert_eq!(after, Duration::from_secs(2));
    assert_eq!(answer.unwrap(), fixture.broker.taken()[0].1.id.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_says_it_is_up_and_takes_nothing_is_not_asked_again() {
    let fixture = Fixture::new(Link::Up, unavailable());
    let (status, after) = fixture.refused(Some("5S")).await;
    assert_eq!((status.code(), after), (Code::Unavailable, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_went_out_unconfirmed_is_named_to_its_sender() {
    for (link, on_publish, code, why) in [
        (Link::Up, OnPublish::Hold, Code::DeadlineExceeded, "did not confirm"),
        (Link::Up, OnPublish::Hang, Code::DeadlineExceeded, "did not confirm"),
        (down(), OnPublish::Hold, Code::Unavailable, "connection refused"),
        (down(), OnPublish::Hang, Code::Unavailable, "connection refused"),
        (Link::Blocked("disk alarm".to_owned()), OnPublish::Hold, Code::Unavailable, "disk alarm"),
    ] {
        let fixture = Fixture::new(link, on_publish);
        let (status, after) = fixture.refused(Some("1S")).await;
        assert_eq!((status.code(), after), (code, Duration::from_millis(900)), "{why}");
        assert!(status.message().contains(why), "{}", status.message());
        let info = status.get_details_error_info().unwrap();
        assert_eq!((&*info.reason, &*info.domain), ("UNCONFIRMED", "footbridge"));
        if let Some((_, message)) = fixture.broker.taken().first() {
            assert_eq!(info.metadata["message_id"], message.id.to_string());
        }
    }
}

#[tokio::test]
async fn what_the_broker_says_has_its_code() {
    let unsupported = PublishError::Unsupported { kind: "exchange", instead: "use a topic" };
    let limit = PublishError::LimitReached { what: "queue", limit: 3 };
    let large = PublishError::TooLarge { size: 9, limit: 3 };
    let refused = ConfirmError::Refused("queue is full".to_owned());
    for (on_publish, code, field, text) in [
        (
            OnPublish::Fail(unsupported),
            Code::InvalidArgument,
            Some("destination"),
            "destination is not to be had: exchange destinations are not available on this \
             broker: use a topic",
        ),
        (
            OnPublish::Fail(large),
            Code::InvalidArgument,
            Some("message.body"),
            "message.body is too long: message of 9 bytes is longer than the limit of 3",
        ),
        (OnPublish::Fail(limit), Code::ResourceExhausted, None, "queue limit of 3 reached"),
        (
            OnPublish::Answer(Err(refused)),
            Code::ResourceExhausted,
            None,
            "the broker refused the message: queue is full",
        ),
        (
            OnPublish::Answer(Err(ConfirmError::Unroutable)),
            Code::NotFound,
            None,
            "no queue took the message: what it names is not there; /queue/<name> declares its queue, \
             /amq/queue/<name> does not",
        ),
        (
            OnPublish::Answer(Err(ConfirmError::Lost("it is away".to_owned()))),
            Code::Unavailable,
            None,
            "the broker did not confirm the message: it is away: the message may or may not be \
             delivered",
        ),
    ] {
        let fixture = Fixture::new(Link::Up, on_publish);
        let (status, _) = fixture.refused(None).await;
        assert_eq!((status.code(), status.message()), (code, text));
        let violation = status.get_details_bad_request().map(|bad| bad.field_violations);
        assert_eq!(violation.as_ref().map(|violations| &*violations[0].field), field);
    }
}

#[tokio::test(start_paused = true)]
async fn every_outcome_is_counted() {
    let fixture = Fixture::new(Link::Up, OnPublish::Answer(Ok(())));
    fixture.publish(None).await.0.unwrap();
    fixture.notifications.publish(Request::new(PublishRequest::default())).await.unwrap_err();
    for on_publish in [
        OnPublish::Answer(Err(ConfirmError::Unroutable)),
        OnPublish::Answer(Err(ConfirmError::Refused("full".to_owned()))),
        OnPublish::Hold,
        unavailable(),
    ] {
        fixture.broker.on_publish(on_publish);
        fixture.refused(None).await;
    }
    let text = fixture.metrics();
    for outcome in ["confirmed", "invalid", "unroutable", "refused", "late", "unavailable"] {
        let line = format!("notifier_publishes_total{{outcome=\"{outcome}\"}} 1\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
    assert!(text.contains("notifier_confirm_seconds_count 1\n"), "{text}");
}

#[tokio::test]
async fn a_stream_is_not_read_while_too_much_of_it_is_unconfirmed() {
    let config = Config { max_in_flight: 4, ..Config::default() };
    let fixture = Fixture::with_config(Link::Up, OnPublish::Hold, config);
    let mut stream = fixture.open_for_ever();
    for n in 0..10 {
        stream.send(&n.to_string());
    }
    assert!(poll!(stream.answers.next()).is_pending());
    assert_eq!(fixture.bodies(), ["0", "1", "2", "3"]);
    fixture.broker.confirm(0);
    stream.published().await;
    assert!(poll!(stream.answers.next()).is_pending());
    assert_eq!(fixture.bodies(), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn answers_keep_the_order_of_requests_whatever_the_order_of_confirms() {
    let fixture = Fixture::new(Link::Up, OnPublish::Hold);
    let mut stream = fixture.open_for_ever();
    for text in ["a", "b", "c"] {
        stream.send(text);
    }
    assert!(poll!(stream.answers.next()).is_pending());
    fixture.broker.confirm(2);
    fixture.broker.confirm(1);
    assert!(poll!(stream.answers.next()).is_pending(), "the first is not confirmed");
    fixture.broker.confirm(0);
    let taken = fixture.broker.taken();
    assert!(taken.iter().all(|(publisher, _)| *publisher == taken[0].0), "one publisher");
    for (_, message) in taken {
        assert_eq!(stream.published().await, message.id.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_is_an_answer_and_the_stream_goes_on() {
    let fixture = Fixture::new(down(), unavailable());
    let mut stream = fixture.open_for_ever();
    stream.send("not to be published");
    let start = Instant::now();
    let failure = stream.failure().await;
    assert_eq!(start.elapsed(), Config::default().publish_timeout);
    assert_eq!(failure.code, i32::from(Code::Unavailable));
    assert_eq!(failure.retry_delay.map(|delay| delay.seconds), Some(1));
    assert_eq!((&*failure.field, &*failure.unconfirmed_message_id), ("", ""));

    fixture.broker.set_link(Link::Up);
    fixture.broker.on_publish(OnPublish::Hold);
    stream.send("unconfirmed");
    let failure = stream.failure().await;
    assert_eq!(failure.code, i32::from(Code::DeadlineExceeded));
    assert_eq!(failure.unconfirmed_message_id, fixture.broker.taken()[0].1.id.to_string());

    stream.requests.send(Ok(PublishRequest::default())).unwrap();
    let failure = stream.failure().await;
    assert_eq!((failure.code, &*failure.field), (Code::InvalidArgument.into(), "destination"));

    fixture.broker.on_publish(OnPublish::Answer(Ok(())));
    stream.send("published");
    stream.published().await;
    assert_eq!(fixture.bodies(), ["unconfirmed", "published"]);
    drop(stream.requests);
    assert!(stream.answers.next().await.is_none(), "a stream ends when its caller has ended it");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_ended_answers_what_was_read_first() {
    let age = Duration::from_secs(2);
    for (deadline, stopped, code, why) in [
        (None, false, Code::Unavailable, "this connection has reached its age"),
        (Some(age / 2), false, Code::DeadlineExceeded, "the stream's deadline is over"),
        (None, true, Code::Unavailable, "this notifier is stopping"),
    ] {
        let fixture = Fixture::new(Link::Up, OnPublish::Hold);
        let mut stream = fixture.open(deadline, age);
        stream.send("read");
        assert!(poll!(stream.answers.next()).is_pending());
        assert!(fixture.metrics().contains("notifier_streams 1\n"));
        if stopped {
            fixture.inner.stopping.cancel();
        } else {
            tokio::time::advance(deadline.unwrap_or(age)).await;
        }
        stream.send("not read");
        // Past its deadline the message is not waited for; else its confirm still is.
        if deadline.is_none() {
            assert!(poll!(stream.answers.next()).is_pending());
            fixture.broker.confirm(0);
            stream.published().await;
        } else {
            assert_eq!(stream.failure().await.code, i32::from(Code::DeadlineExceeded));
        }
        let status = stream.end().await;
        assert_eq!(status.code(), code);
        assert_eq!(status.message(), format!("{why}: what was not answered was not published"));
        assert_eq!(fixture.bodies(), ["read"]);
        drop(stream);
        assert!(fixture.metrics().contains("notifier_streams 0\n"));
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_after_the_answers_that_are_due() {
    let fixture = Fixture::new(Link::Up, OnPublish::Answer(Ok(())));
    let mut stream = fixture.open_for_ever();
    stream.send("whole");
    stream.requests.send(Err(Status::out_of_range("too large"))).unwrap();
    stream.send("never read");
    stream.published().await;
    assert_eq!(stream.end().await.code(), Code::OutOfRange);
    assert_eq!(fixture.bodies(), ["whole"]);
}

#[tokio::test(start_paused = true)]
async fn only_so_much_waits_for_the_broker() {
    // Room for two of them.
    let config = Config { max_waiting: bytesize::ByteSize(1_200), ..Config::default() };
    let fixture = Fixture::with_config(Link::Up, OnPublish::Hold, config);
    let mut stream = fixture.open_for_ever();
    ["0", "1", "2"].iter().for_each(|text| stream.send(text));
    assert!(poll!(stream.answers.next()).is_pending());
    assert_eq!(fixture.bodies(), ["0", "1"], "the stream is not read");
    let (status, after) = fixture.refused(Some("4S")).await;
    assert_eq!((status.code(), after), (Code::ResourceExhausted, Duration::ZERO));
    assert!(status.message().starts_with("1.2 KiB of messages wait"), "{}", status.message());
    fixture.broker.confirm(0);
    stream.published().await;
    assert!(poll!(stream.answers.next()).is_pending());
    assert_eq!(fixture.bodies(), ["0", "1", "2"]);
    // What waits on a stream waits no longer than for the broker.
    stream.send("3");
    fixture.broker.confirm(0);
    stream.published().await;
    fixture.broker.confirm(0);
    stream.published().await;
    let mut one = fixture.open_for_ever();
    ["4", "5", "6"].iter().for_each(|text| one.send(text));
    drop(stream);
    let failures = [one.failure().await, one.failure().await, one.failure().await];
    let codes = failures.map(|failure| Code::from(failure.code));
    assert_eq!(codes, [Code::DeadlineExceeded, Code::DeadlineExceeded, Code::ResourceExhausted]);
}
