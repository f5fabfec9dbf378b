//! A broker that records what it is asked for, and does what a test says. What nodes have among themselves is
//! no affair of the test's, and goes to another one.

use std::sync::{Arc, Mutex};

use access::rules::Config as Rules;
use async_trait::async_trait;
use broker::destination::Verb;
use broker::internal::MARK;
use broker::{
    Argument, Broker, BrokerState, Confirm, ConfirmError, Confirmer, DeleteError, Delivery,
    Destination, Destinations, Feed, Message, Outcome, PublishError, PublisherId, QueueOptions,
    Settle, SubscribeError, SubscribeRequest, Subscription,
};
use broker_embedded::EmbeddedBroker;
use bytestring::ByteString;
use gateway::Config;
use tokio::sync::{mpsc, watch};

use super::Node;

/// See the module.
pub(crate) struct Recorder {
    state: watch::Sender<BrokerState>,
    record: Arc<Mutex<Record>>,
    /// For the nodes.
    nodes: EmbeddedBroker,
}

#[derive(Default)]
struct Record {
    calls: Vec<String>,
    requests: Vec<SubscribeRequest>,
    messages: Vec<Message>,
    /// The broker's end of each subscription that is live.
    subscriptions: Vec<Option<mpsc::Sender<Delivery>>>,
    settled: Vec<(u64, Outcome)>,
    deliveries: u64,
    on_subscribe: Option<SubscribeError>,
    on_declare: Option<SubscribeError>,
    on_publish: Option<PublishError>,
    on_confirm: Option<ConfirmError>,
    /// What waits for [`confirm`](Recorder::confirm), if anything shall.
    unconfirmed: Option<Vec<Confirmer>>,
    on_delete: Option<DeleteError>,
}

/// A node over a broker that records.
pub(crate) async fn start(config: Config) -> (Node, Arc<Recorder>) {
    start_by(Rules::Open, config).await
}

pub(crate) async fn start_by(rules: Rules, config: Config) -> (Node, Arc<Recorder>) {
    let recorder = Recorder::new();
    let broker: Arc<dyn Broker> = Arc::<Recorder>::clone(&recorder);
    let stomp = stomp::Config { max_frames_per_second: 0, ..stomp::Config::default() };
    (Node::start_by(rules, broker, config, stomp).await, recorder)
}

/// A message to what a SEND names so.
pub(crate) fn to(destination: &str, body: &'static str) -> Message {
    Message::new(Destinations::default().parse(destination, Verb::Send).unwrap(), body)
}

fn is_for_nodes(destination: &Destination) -> bool {
    matches!(destination, Destination::Topic(topic) if topic.prefix().starts_with(MARK))
}

impl Recorder {
    fn new() -> Arc<Self> {
        let state = watch::Sender::new(BrokerState::up());
        let nodes = EmbeddedBroker::new(broker_embedded::Config::default());
        Arc::new(Self { state, record: Arc::default(), nodes })
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// What was asked for since the last call, a line each.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.record().calls)
    }

    /// The last subscription that was asked for.
    pub(crate) fn request(&self) -> SubscribeRequest {
        self.record().requests.last().expect("a SUBSCRIBE").clone()
    }

    /// The last message that was published.
    pub(crate) fn message(&self) -> Message {
        self.record().messages.last().expect("a SEND").clone()
    }

    /// Gives a message to the subscription at `index`, counted from the first. Deliveries are numbered
    /// from 0.
    pub(crate) fn deliver(&self, index: usize, message: Message) {
        // Nothing is held by then: a delivery that goes nowhere is settled, which takes the record.
        let (subscription, tag) = {
            let mut record = self.record();
            record.deliveries += 1;
            (record.subscriptions[index].clone(), record.deliveries - 1)
        };
        let subscription = subscription.expect("a live subscription");
        let with = Arc::new(Settling(Arc::clone(&self.record)));
        let delivery = Delivery::unsettled(Arc::new(message), false, with, tag);
        subscription.try_send(delivery).expect("room");
    }

    /// The live subscriptions, by their place.
    pub(crate) fn live(&self) -> impl Iterator<Item = usize> + use<> {
        let live: Vec<bool> = self.record().subscriptions.iter().map(Option::is_some).collect();
        live.into_iter().enumerate().filter_map(|(index, live)| live.then_some(index))
    }

    /// Ends the subscription at `index`, as a broker does whose queue was deleted.
    pub(crate) fn end(&self, index: usize) {
        self.record().subscriptions[index].take();
    }

    /// What was settled since the last call, in its order.
    pub(crate) fn settled(&self) -> Vec<(u64, Outcome)> {
        std::mem::take(&mut self.record().settled)
    }

    pub(crate) fn on_subscribe(&self, error: SubscribeError) {
        self.record().on_subscribe = Some(error);
    }

    pub(crate) fn on_declare(&self, error: SubscribeError) {
        self.record().on_declare = Some(error);
    }

    pub(crate) fn on_publish(&self, error: PublishError) {
        self.record().on_publish = Some(error);
    }

    pub(crate) fn on_confirm(&self, error: ConfirmError) {
        self.record().on_confirm = Some(error);
    }

    /// From here on publishes wait for [`confirm`](Self::confirm).
    pub(crate) fn hold_confirms(&self) {
        self.record().unconfirmed = Some(Vec::new());
    }

    /// Confirms what waits for it; how many did.
    pub(crate) fn confirm(&self) -> usize {
        let held = self.record().unconfirmed.as_mut().map(std::mem::take).unwrap_or_default();
        let count = held.len();
        held.into_iter().for_each(|confirmer| confirmer.confirm(Ok(())));
        count
    }

    /// How many messages were published.
    pub(crate) fn published(&self) -> usize {
        self.record().messages.len()
    }

    pub(crate) fn on_delete(&self, error: DeleteError) {
        self.record().on_delete = Some(error);
    }
}

#[async_trait]
impl Broker for Recorder {
    async fn publish(&self, from: PublisherId, message: Message) -> Result<Confirm, PublishError> {
        if is_for_nodes(&message.destination) {
            return self.nodes.publish(from, message).await;
        }
        let mut record = self.record();
        record.calls.push(format!("publish {}", message.destination));
        record.messages.push(message);
        match (record.on_publish.take(), record.on_confirm.take()) {
            (Some(error), _) => Err(error),
            (None, Some(error)) => Ok(Confirm::known(Err(error))),
            (None, None) => Ok(match &mut record.unconfirmed {
                Some(unconfirmed) => {
                    let (confirmer, confirm) = Confirm::pending();
                    unconfirmed.push(confirmer);
                    confirm
                }
                None => Confirm::known(Ok(())),
            }),
        }
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription, SubscribeError> {
        if is_for_nodes(&request.destination) {
            return self.nodes.subscribe(request).await;
        }
        let mut record = self.record();
        record.calls.push(format!("subscribe {} {}", request.destination, feed(&request.feed)));
        if let Some(error) = record.on_subscribe.take() {
            return Err(error);
        }
        let index = record.subscriptions.len();
        let queue = match (&request.destination, &request.feed) {
            (_, Feed::Kept { id, .. }) => Some(format!("kept-{id}").into()),
            (_, Feed::Named(name)) => Some(name.clone()),
            (Destination::TempQueue(_), _) => Some(format!("amq.gen-{index}").into()),
            _ => None,
        };
        let (sender, receiver) = mpsc::channel(1000);
        record.subscriptions.push(Some(sender));
        record.requests.push(request);
        let cancelled = Arc::clone(&self.record);
        let subscription = Subscription::new(receiver, move || {
            let mut record = cancelled.lock().unwrap();
            record.calls.push(format!("cancel {index}"));
            record.subscriptions[index].take();
        });
        Ok(match queue {
            Some(queue) => subscription.of_queue(queue),
            None => subscription,
        })
    }

    async fn declare(
        &self,
        _: PublisherId,
        queue: &ByteString,
        options: &QueueOptions,
    ) -> Result<(), SubscribeError> {
        let mut record = self.record();
        record.calls.push(format!("declare {queue} {}", described(options)));
        record.on_declare.take().map_or(Ok(()), Err)
    }

    async fn delete(&self, destination: &Destination) -> Result<(), DeleteError> {
        let mut record = self.record();
        record.calls.push(format!("delete {destination}"));
        record.on_delete.take().map_or(Ok(()), Err)
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }
}

struct Settling(Arc<Mutex<Record>>);

impl Settle for Settling {
    fn settle(&self, tag: u64, outcome: Outcome) {
        self.0.lock().unwrap().settled.push((tag, outcome));
    }
}

fn feed(feed: &Feed) -> String {
    match feed {
        Feed::Shared => "shared".into(),
        Feed::Own => "own".into(),
        Feed::Kept { owner, id } => format!("kept {}/{id}", owner.as_deref().unwrap_or("-")),
        Feed::Named(name) => format!("named {name}"),
    }
}

/// Options on one line.
pub(crate) fn described(options: &QueueOptions) -> String {
    let flags = [
        ("durable", options.durable),
        ("auto-delete", options.auto_delete),
        ("exclusive", options.exclusive),
    ];
    let flags = flags.iter().filter_map(|(name, flag)| Some(format!("{name}:{}", (*flag)?)));
    let arguments = options.arguments.iter().map(|(name, value)| match value {
        Argument::Integer(number) => format!("{name}:{number}"),
        Argument::Text(text) => format!("{name}:{text}"),
        other => format!("{name}:{other:?}"),
    });
    flags.chain(arguments).collect::<Vec<_>>().join(" ")
}
