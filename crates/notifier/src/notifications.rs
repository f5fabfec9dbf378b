//! The service `footbridge.v1.Notifications`.
//!
//! A stream is a pipeline: requests are read and handed over one after the other, then wait for
//! their confirms side by side, at most `max_in_flight` of them, and are answered in order. Who
//! does not read answers is not read either. Of all callers together only so many bytes may wait for
//! the broker: beyond `max_waiting` a single call is refused, and a stream waits.

#[cfg(test)]
mod tests;

use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use broker::{Broker, Destinations, Message, MessageId, PublisherId};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use prometheus_client::metrics::gauge::Gauge;
use proto::v1::publish_stream_response::Outcome as Answer;
use proto::v1::{PublishRequest, PublishResponse, PublishStreamResponse, notifications_server};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::connection::{NOTICE, Opened};
use crate::metrics::{Metrics, Outcome};
use crate::publisher::{Handed, Publisher};
use crate::refusal::Refusal;
use crate::{deadline, message};

/// What a stream ends with once it is read no further.
const UNREAD: &str = "what was not answered was not published";

/// What a publish takes besides its body and headers, in bytes, roughly.
const OVERHEAD: usize = 512;

/// See the module.
#[derive(Clone)]
pub(crate) struct Notifications(Arc<Node>);

/// What all calls share.
struct Node {
    config: Config,
    broker: Arc<dyn Broker>,
    destinations: Destinations,
    metrics: Arc<Metrics>,
    /// Counts from the middle up: sessions of a gateway on the same broker count from 0.
    next_publisher: AtomicU64,
    stopping: CancellationToken,
    /// The bytes of publishes that may still wait.
    room: Arc<Semaphore>,
}

/// A request on its way, with when it came.
struct Publishing {
    since: Instant,
    handed: Result<Handed, Refusal>,
    node: Arc<Node>,
    /// Its share of what may wait; none if it was refused before.
    _room: Option<OwnedSemaphorePermit>,
}

/// What to do when no more may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowded {
    /// Say so: who calls once may call again.
    Refuse,
    /// Wait until the deadline, while the stream is not read.
    Wait,
}

/// The requests of one stream.
struct Requests<S> {
    requests: S,
    publisher: Publisher,
    /// The call's deadline.
    deadline: Option<Instant>,
    /// Resolves to the stream's last answer when it is read no further, whatever its caller does.
    ending: BoxFuture<'static, Status>,
    node: Arc<Node>,
    _counted: Counted,
}

/// A stream among those there are now.
struct Counted(Gauge);

impl Notifications {
    pub(crate) fn new(
        config: Config,
        broker: Arc<dyn Broker>,
        destinations: Destinations,
        metrics: Arc<Metrics>,
        stopping: CancellationToken,
    ) -> Self {
        let next_publisher = AtomicU64::new(1 << 63);
        // No more than 4 GiB, which every machine can address.
        let room = Arc::new(Semaphore::new(config.max_waiting_bytes() as usize));
        Self(Arc::new(Node {
            config,
            broker,
            destinations,
            metrics,
            next_publisher,
            stopping,
            room,
        }))
    }

    /// The answers to `requests`, in their order. `aged` is when their connection reaches its age.
    fn answers<S>(
        &self,
        requests: S,
        deadline: Option<Instant>,
        aged: Instant,
    ) -> BoxStream<'static, Result<PublishStreamResponse, Status>>
    where
        S: Stream<Item = Result<PublishRequest, Status>> + Send + Unpin + 'static,
    {
        let node = Arc::clone(&self.0);
        let max_in_flight = node.config.max_in_flight;
        let requests = Requests {
            requests,
            publisher: node.new_publisher(),
            deadline,
            ending: ending(node.stopping.clone(), aged, deadline).boxed(),
            _counted: Counted::new(&node.metrics.streams),
            node,
        };
        stream::unfold(Some(requests), |requests| async {
            let mut requests = requests?;
            match requests.next().await? {
                Ok(publishing) => Some((Ok(publishing), Some(requests))),
                // The last answer, after all that came before.
                Err(status) => Some((Err(status), None)),
            }
        })
        .map(|publishing| async { Ok(answer(publishing?.confirmed().await)) })
        .buffered(max_in_flight)
        .boxed()
    }
}

#[async_trait]
impl notifications_server::Notifications for Notifications {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let now = Instant::now();
        let deadline = deadline::of_call(request.metadata(), now)
            .unwrap_or(now + self.0.config.publish_timeout);
        let mut publisher = self.0.new_publisher();
        let request = request.into_inner();
        let publishing = self.0.publish(&mut publisher, request, deadline, Crowded::Refuse).await;
        Ok(Response::new(response(publishing.confirmed().await?)))
    }

    type PublishStreamStream = BoxStream<'static, Result<PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let now = Instant::now();
        let opened = request.extensions().get::<Opened>().map_or(now, |opened| opened.0);
        let aged = opened + self.0.config.max_connection_age + NOTICE;
        let deadline = deadline::of_call(request.metadata(), now);
        Ok(Response::new(self.answers(request.into_inner(), deadline, aged)))
    }
}

impl Node {
    fn new_publisher(&self) -> Publisher {
        let id = PublisherId(self.next_publisher.fetch_add(1, Ordering::Relaxed));
        Publisher::new(id, Arc::clone(&self.broker))
    }

    async fn publish(
        self: &Arc<Self>,
        publisher: &mut Publisher,
        request: PublishRequest,
        deadline: Instant,
        crowded: Crowded,
    ) -> Publishing {
        let since = Instant::now();
        let taken = match message::of_request(request, &self.destinations, &self.config) {
            Ok(message) => self.room(&message, deadline, crowded).await.map(|room| (message, room)),
            Err(refusal) => Err(refusal),
        };
        let (handed, room) = match taken {
            Ok((message, room)) => (publisher.hand_over(message, deadline).await, Some(room)),
            Err(refusal) => (Err(refusal), None),
        };
        Publishing { since, handed, node: Arc::clone(self), _room: room }
    }

    /// Room for `message` among those that wait. One that is longer than all may be takes all.
    async fn room(
        &self,
        message: &Message,
        deadline: Instant,
        crowded: Crowded,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let limit = self.config.max_waiting_bytes();
        let headers = message.headers.iter().map(|(name, value)| name.len() + value.len());
        let bytes = message.body.len() + headers.sum::<usize>() + OVERHEAD;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(limit);
        let room = Arc::clone(&self.room);
        let taken = match crowded {
            Crowded::Refuse => room.try_acquire_many_owned(bytes).ok(),
            Crowded::Wait => {
                let taken = timeout_at(deadline, room.acquire_many_owned(bytes)).await;
                taken.ok().and_then(Result::ok)
            }
        };
        taken.ok_or_else(|| {
            let limit = self.config.max_waiting;
            Refusal::Refused(format!(
                "{limit} of messages wait for the broker already, and the message was not published: \
                 try again later"
            ))
        })
    }
}

impl Publishing {
    /// The broker's word, counted.
    async fn confirmed(self) -> Result<MessageId, Refusal> {
        let confirmed = match self.handed {
            Ok(handed) => handed.confirmed().await,
            Err(refusal) => Err(refusal),
        };
        let outcome = confirmed.as_ref().map_or_else(Refusal::outcome, |_| Outcome::confirmed);
        self.node.metrics.published(outcome, self.since.elapsed());
        if let Err(refusal) = &confirmed {
            tracing::debug!(%refusal, "not published");
        }
        confirmed
    }
}

impl<S: Stream<Item = Result<PublishRequest, Status>> + Unpin> Requests<S> {
    /// Reads the next request and hands it over; the status that ends the stream, or `None` when
    /// the caller has ended it.
    async fn next(&mut self) -> Option<Result<Publishing, Status>> {
        let request = tokio::select! {
            // An ended stream publishes nothing more, however much there is to read.
            biased;
            status = &mut self.ending => return Some(Err(status)),
            request = self.requests.next() => request?,
        };
        let request = match request {
            Ok(request) => request,
            Err(status) => return Some(Err(status)),
        };
        let timeout = Instant::now() + self.node.config.publish_timeout;
        let deadline = self.deadline.map_or(timeout, |deadline| deadline.min(timeout));
        Some(Ok(self.node.publish(&mut self.publisher, request, deadline, Crowded::Wait).await))
    }
}

/// When a stream is read no further, and why: the node stops, the connection has reached its age, or
/// the call its deadline.
async fn ending(stopping: CancellationToken, aged: Instant, deadline: Option<Instant>) -> Status {
    let deadline = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {
            Status::unavailable(format!("this notifier is stopping: {UNREAD}"))
        }
        () = sleep_until(aged) => {
            Status::unavailable(format!("this connection has reached its age: {UNREAD}"))
        }
        () = deadline => {
            Status::deadline_exceeded(format!("the stream's deadline is over: {UNREAD}"))
        }
    }
}

impl Counted {
    fn new(streams: &Gauge) -> Self {
        streams.inc();
        Self(streams.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn response(id: MessageId) -> PublishResponse {
    PublishResponse { message_id: id.to_string() }
}

fn answer(confirmed: Result<MessageId, Refusal>) -> PublishStreamResponse {
    let outcome = match confirmed {
        Ok(id) => Answer::Published(response(id)),
        Err(refusal) => Answer::Failure(refusal.into()),
    };
    PublishStreamResponse { outcome: Some(outcome) }
}
