//! Watches what becomes of messages in inboxes: `WatchDelivery`.
//!
//! Invariants
//! - The store is the truth. It is read first, with what is told from then on waiting, and again every few seconds for
//!   what is not final yet: news may be lost, or told to another notifier.
//! - Of each message a state is told once, and none after a final one.
//! - At most `max_watches` watches are open, of [`MAX_TARGETS`] messages each, and what a watch has not told yet is at
//!   most one event for each.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ::inbox::{Address, State, Status};
use broker::MessageId;
use cluster::Told;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use proto::v1::{Delivery, DeliveryEvent, DeliveryRef, DeliveryState, WatchDeliveryRequest};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, sleep_until};
use ulid::Ulid;

use crate::ending::Ending;
use crate::keeper::Keeper;
use crate::names::MAX_TARGETS;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::{keep, names, publishes, sends};

/// How often the store is read again.
const AGAIN: Duration = Duration::from_secs(5);

/// How many inboxes are asked about at once.
const ASKED_AT_ONCE: usize = 16;

/// What a watch ends with.
const UNWATCHED: &str = "what becomes of the messages from now on is not told here";

/// See the module.
pub(crate) struct Watch {
    keeper: Arc<Keeper>,
    told: Receiver<Told>,
    messages: Vec<Watched>,
    /// Where each is among them.
    places: HashMap<(Address, Ulid), usize>,
    /// The inboxes, with the places of what is watched in each.
    inboxes: Vec<(Address, Vec<usize>)>,
    until_final: bool,
    /// To be told.
    ready: VecDeque<DeliveryEvent>,
    /// When the store is read next; none before the first time.
    again: Option<Instant>,
    _counted: Counted,
}

/// A message in an inbox.
struct Watched {
    id: Ulid,
    user: String,
    /// As the request spells it.
    destination: Arc<str>,
    last: Option<Known>,
}

/// How one stands, as far as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Stands(Status),
    /// Nothing is known of it, and nothing will be.
    Nothing,
}

/// A watch among those there are now.
struct Counted {
    node: Arc<Node>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// Begins to watch.
    pub(crate) async fn open(
        node: &Arc<Node>,
        request: WatchDeliveryRequest,
    ) -> Result<Self, Refusal> {
        let WatchDeliveryRequest { deliveries, until_final } = request;
        let counts = deliveries.iter().map(|of| of.users.len().max(1));
        match counts.sum::<usize>() {
            0 => return Err(Refusal::invalid("deliveries", "is empty: name at least one")),
            count if count > MAX_TARGETS => {
                let problem = format!(
                    "has {count} messages of users and may have {MAX_TARGETS}: make several calls"
                );
                return Err(Refusal::invalid("deliveries", problem));
            }
            _ => {}
        }
        let keeper = Arc::clone(node.keeper()?);
        let mut watch = Self {
            // From before the store is read.
            told: keeper.dispatcher().told(),
            keeper,
            messages: Vec::new(),
            places: HashMap::new(),
            inboxes: Vec::new(),
            until_final,
            ready: VecDeque::new(),
            again: None,
            _counted: Counted::new(node, node.watching()?),
        };
        let mut inboxes: HashMap<Address, Vec<usize>> = HashMap::new();
        for (n, of) in deliveries.into_iter().enumerate() {
            let outer = format!("deliveries[{n}]");
            watch.add(of, node, &mut inboxes).map_err(|why| why.within(&outer))?;
        }
        watch.inboxes = inboxes.into_iter().collect();
        // So that a store that is away is an answer, and no event.
        watch.read().await?;
        Ok(watch)
    }

    fn add(
        &mut self,
        of: DeliveryRef,
        node: &Node,
        inboxes: &mut HashMap<Address, Vec<usize>>,
    ) -> Result<(), Refusal> {
        let DeliveryRef { users, destination, message_id } = of;
        let id = names::message("message_id", &message_id)?.ulid();
        keep::fits(&destination)?;
        let addresses = match users.is_empty() {
            true => {
                publishes::destination(&destination, &node.destinations)?;
                let outbox = Address::Outbox { destination: destination.as_str().into() };
                vec![(String::new(), outbox)]
            }
            false => {
                let path = sends::path(&destination, &node.destinations)?;
                let users = names::any_users("users", &users)?.into_iter();
                users.map(|user| (user.to_string(), Address::of_user(user, path.clone()))).collect()
            }
        };
        let destination: Arc<str> = destination.into();
        for (user, address) in addresses {
            let place = self.messages.len();
            if self.places.insert((address.clone(), id), place).is_some() {
                let problem = format!("{message_id} is named twice");
                return Err(Refusal::invalid("message_id", problem));
            }
            let destination = Arc::clone(&destination);
            self.messages.push(Watched { id, user, destination, last: None });
            inboxes.entry(address).or_default().push(place);
        }
        Ok(())
    }

    /// What is told, until `ending`.
    pub(crate) fn events(
        self,
        ending: Ending,
    ) -> BoxStream<'static, Result<DeliveryEvent, tonic::Status>> {
        let ending = ending.come(UNWATCHED).boxed();
        stream::unfold(Some((self, ending)), |open| async {
            let (mut watch, mut ending) = open?;
            tokio::select! {
                biased;
                status = &mut ending => Some((Err(status), None)),
                event = watch.next() => event.map(|event| (Ok(event), Some((watch, ending)))),
            }
        })
        .boxed()
    }

    /// The next event; none once nothing more will become of any, if that is the end.
    async fn next(&mut self) -> Option<DeliveryEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.until_final && self.messages.iter().all(Watched::is_over) {
                return None;
            }
            let again = self.again.unwrap_or_else(Instant::now);
            tokio::select! {
                told = self.told.recv() => match told {
                    Ok(told) => self.hear(told),
                    Err(RecvError::Lagged(_)) => self.again = None,
                    // Only the store is left to be asked.
                    Err(RecvError::Closed) => {
                        sleep_until(again).await;
                        self.look().await;
                    }
                },
                () = sleep_until(again) => self.look().await,
            }
        }
    }

    fn hear(&mut self, told: Told) {
        let Told { address, id, status } = told;
        let Some(watched) = self.places.get(&(address, id)).and_then(|n| self.messages.get_mut(*n))
        else {
            return;
        };
        // News may be older than what was read.
        let is_old = matches!(watched.last, Some(Known::Stands(last)) if status.since < last.since);
        if !is_old {
            self.ready.extend(watched.stands(Known::Stands(status)));
        }
    }

    /// Reads the store again. While it is away nothing is told.
    async fn look(&mut self) {
        if let Err(why) = self.read().await {
            tracing::debug!(%why, "a watch of deliveries waits for the store");
        }
    }

    /// Reads how those stand that are not final yet.
    async fn read(&mut self) -> Result<(), Refusal> {
        self.again = Some(Instant::now() + AGAIN);
        let open = |place: &&usize| !self.messages.get(**place).is_some_and(Watched::is_over);
        let asked: Vec<(Address, Vec<usize>)> = self
            .inboxes
            .iter()
            .map(|(address, places)| {
                (address.clone(), places.iter().filter(open).copied().collect::<Vec<_>>())
            })
            .filter(|(_, places)| !places.is_empty())
            .collect();
        let (keeper, messages) = (&self.keeper, &self.messages);
        let ask = |(address, places): (Address, Vec<usize>)| async move {
            let ids = places.iter().filter_map(|n| messages.get(*n)).map(|watched| watched.id);
            let ids: Vec<_> = ids.collect();
            let statuses = keeper.inbox().status(&address, &ids).await?;
            Ok::<_, Refusal>(places.into_iter().zip(statuses).collect::<Vec<_>>())
        };
        let answers: Vec<_> =
            stream::iter(asked).map(ask).buffer_unordered(ASKED_AT_ONCE).collect().await;
        let mut found = Vec::new();
        let mut failed = None;
        for answer in answers {
            match answer {
                Ok(some) => found.extend(some),
                Err(why) => failed = Some(why),
            }
        }
        found.sort_unstable_by_key(|(place, _)| *place);
        for (place, status) in found {
            let Some(watched) = self.messages.get_mut(place) else { continue };
            self.ready.extend(watched.stands(status.map_or(Known::Nothing, Known::Stands)));
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Watched {
    /// Whether nothing more will become of it.
    fn is_over(&self) -> bool {
        match self.last {
            None => false,
            Some(Known::Nothing) => true,
            Some(Known::Stands(status)) => status.state.is_final(),
        }
    }

    /// It stands so: what is to be told of that, if it is new.
    fn stands(&mut self, known: Known) -> Option<DeliveryEvent> {
        let is_same = match (self.last, known) {
            (Some(Known::Stands(last)), Known::Stands(now)) => {
                (last.state, last.attempts) == (now.state, now.attempts)
            }
            (last, known) => last == Some(known),
        };
        if is_same || self.is_over() {
            return None;
        }
        self.last = Some(known);
        Some(DeliveryEvent {
            user: self.user.clone(),
            destination: self.destination.to_string(),
            message_id: MessageId::of(self.id).to_string(),
            delivery: Some(match known {
                Known::Stands(status) => delivery(Some(status)),
                Known::Nothing => delivery(None),
            }),
        })
    }
}

/// How a message stands, as it is told.
pub(crate) fn delivery(status: Option<Status>) -> Delivery {
    let Some(Status { state, attempts, since }) = status else {
        let state = DeliveryState::Unknown.into();
        return Delivery { state, ..Delivery::default() };
    };
    let state = match state {
        State::Scheduled => DeliveryState::Scheduled,
        State::Pending => DeliveryState::Pending,
        State::Delivered => DeliveryState::Delivered,
        State::Acked => DeliveryState::Acked,
        State::Failed => DeliveryState::Failed,
        State::Expired => DeliveryState::Expired,
        State::Dropped => DeliveryState::Dropped,
    };
    Delivery { state: state.into(), attempts, since: Some(since.into()) }
}

impl Counted {
    fn new(node: &Arc<Node>, permit: OwnedSemaphorePermit) -> Self {
        node.metrics.delivery_watches.inc();
        Self { node: Arc::clone(node), _permit: permit }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.node.metrics.delivery_watches.dec();
    }
}
