//! A stream of requests: read and handed over one after the other, confirmed side by side, answered in order.
//!
//! Requests that are there together are looked up together: the store is asked once for all their targets,
//! while more arrive. So a stream's pace does not depend on how far away the store is.
//!
//! Invariants
//! - At most `max_in_flight` are handed over and unanswered; who does not read answers is not read either.
//! - At most [`BATCH`] are read and not handed over yet. A stream that ends drops them: they were not
//!   published, and have no answer.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use tonic::Status;

use crate::ending::Ending;
use crate::metrics::Call;
use crate::names::MAX_TARGETS;
use crate::node::{Crowded, Node};
use crate::outgoing::Outgoing;
use crate::publisher::{Publisher, Taken};
use crate::refusal::Refusal;
use crate::sending::{Requested, Sending};
use crate::wanted::Wanted;
use crate::whereabouts::Whereabouts;

/// What a stream ends with once it is read no further.
pub(crate) const UNREAD: &str = "what was not answered was not published";

/// The most requests that are looked up together.
const BATCH: usize = 256;

/// The most bytes of requests that are looked up together; one more may come.
const BATCH_BYTES: usize = 1024 * 1024;

/// The answers to the requests of a stream, in their order, and at last the status it ends with, unless
/// its caller ended it.
pub(crate) type Answers = BoxStream<'static, Result<Result<Taken, Refusal>, Status>>;

/// The requests of one stream.
struct Requests<R> {
    requests: BoxStream<'static, Result<R, Status>>,
    /// What a request asks for.
    read: fn(R, &Node) -> Result<Wanted, Refusal>,
    call: Call,
    publisher: Publisher,
    /// The call's deadline.
    deadline: Option<Instant>,
    /// Resolves to the stream's last answer when it is read no further, whatever its caller does.
    ending: BoxFuture<'static, Status>,
    /// Read, and to be handed over by what is known of their targets.
    batch: VecDeque<Requested>,
    whereabouts: Arc<Whereabouts>,
    /// What the requests ended with behind the batch.
    ended: Option<Option<Status>>,
    node: Arc<Node>,
    _counted: Counted,
}

/// A stream among those there are now.
struct Counted(Gauge);

/// Answers `requests`, which `read` understands, until `ending`.
pub(crate) fn answers<R: Send + 'static>(
    node: Arc<Node>,
    call: Call,
    requests: impl Stream<Item = Result<R, Status>> + Send + 'static,
    read: fn(R, &Node) -> Result<Wanted, Refusal>,
    ending: Ending,
) -> Answers {
    let max_in_flight = node.config.max_in_flight;
    let requests = Requests {
        requests: requests.boxed(),
        read,
        call,
        publisher: node.new_publisher(),
        deadline: ending.deadline,
        ending: ending.come(UNREAD).boxed(),
        batch: VecDeque::new(),
        whereabouts: Arc::new(Whereabouts::nowhere()),
        ended: None,
        _counted: Counted::new(&node.metrics.streams),
        node,
    };
    stream::unfold(Some(requests), |requests| async {
        let mut requests = requests?;
        match requests.next().await? {
            Ok(sending) => Some((Ok(sending), Some(requests))),
            // The last answer, after all that came before.
            Err(status) => Some((Err(status), None)),
        }
    })
    .map(|sending| async { Ok(sending?.confirmed().await) })
    .buffered(max_in_flight)
    .boxed()
}

impl<R> Requests<R> {
    /// Hands over the next request; the status that ends the stream, or `None` when the caller has ended
    /// it.
    async fn next(&mut self) -> Option<Result<Sending, Status>> {
        if self.batch.is_empty() {
            if let Some(ended) = self.ended.take() {
                return ended.map(Err);
            }
            let first = tokio::select! {
                // An ended stream publishes nothing more, however much there is to read.
                biased;
                status = &mut self.ending => return Some(Err(status)),
                first = self.requests.next() => first,
            };
            match first {
                Some(Ok(request)) => self.put(request),
                Some(Err(status)) => return Some(Err(status)),
                None => return None,
            }
            self.gather();
            if let Err(status) = self.look_up().await {
                return Some(Err(status));
            }
        } else if let Some(status) = (&mut self.ending).now_or_never() {
            return Some(Err(status));
        }
        let requested = self.batch.pop_front()?;
        let whereabouts = Arc::clone(&self.whereabouts);
        let sending = Sending::begin(
            &self.node,
            &mut self.publisher,
            self.call,
            requested,
            whereabouts,
            Crowded::Wait,
        );
        Some(Ok(sending.await))
    }

    fn put(&mut self, request: R) {
        let since = Instant::now();
        let timeout = since + self.node.config.publish_timeout;
        let deadline = self.deadline.map_or(timeout, |deadline| deadline.min(timeout));
        let wanted = (self.read)(request, &self.node);
        self.batch.push_back(Requested { wanted, since, deadline });
    }

    /// Reads what is there already, as far as it is to be looked up and fits.
    fn gather(&mut self) {
        let (mut targets, mut bytes) = (0, 0);
        while let Some(Requested { wanted: Ok(last), .. }) = self.batch.back() {
            targets += last.targets();
            bytes += last.bytes();
            let is_enough =
                self.batch.len() >= BATCH || targets >= MAX_TARGETS || bytes >= BATCH_BYTES;
            if is_enough || last.targets() == 0 {
                return;
            }
            match self.requests.next().now_or_never() {
                None => return,
                Some(Some(Ok(request))) => self.put(request),
                Some(Some(Err(status))) => {
                    self.ended = Some(Some(status));
                    return;
                }
                Some(None) => {
                    self.ended = Some(None);
                    return;
                }
            }
        }
    }

    /// Asks where the targets of the batch are. The stream's end does not wait for the answer.
    async fn look_up(&mut self) -> Result<(), Status> {
        let Some(deadline) = self.batch.front().map(|first| first.deadline) else { return Ok(()) };
        let asked =
            self.batch.iter().filter_map(|requested| requested.wanted.as_ref().ok()?.live());
        let asked: Vec<&Outgoing> = asked.collect();
        let whereabouts = tokio::select! {
            biased;
            whereabouts = self.publisher.ask(&asked, deadline) => whereabouts,
            status = &mut self.ending => return Err(status),
        };
        match whereabouts {
            Ok(whereabouts) => self.whereabouts = Arc::new(whereabouts),
            Err(refusal) => {
                for requested in &mut self.batch {
                    if matches!(requested.wanted, Ok(Wanted::Live(_))) {
                        requested.wanted = Err(refusal.clone());
                    }
                }
            }
        }
        Ok(())
    }
}

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
