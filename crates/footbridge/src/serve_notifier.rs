//! `footbridge notifier`: the gRPC service by which other services publish, with RabbitMQ as its
//! broker.

use std::sync::Arc;

use broker::{Broker, Destinations};
use broker_rabbitmq::RabbitMqBroker;
use cluster::{Nodes, events};
use notifier::{Notifier, Parts};
use presence::{Boot, Presence, RedisPresence};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Readiness, RedisMetrics};
use crate::config::{Config, Role, environment};
use crate::inboxes::{self, Around};
use crate::serving::{self, Stopped};

/// Run the gRPC service by which other services send to clients, on whichever node they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    #[command(flatten)]
    options: serving::Options,
}

impl Command {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let options = self.options;
        let mut config = Config::load(options.config.as_deref(), environment(), Role::Notifier)?;
        config.notifier.listen = options.listen.unwrap_or(config.notifier.listen);
        config.admin.listen = options.admin.unwrap_or(config.admin.listen);
        config.log.init()?;
        let rabbitmq = config.rabbitmq.clone();
        serving::block_on(serving::with_rabbitmq(rabbitmq, async |broker, boot| {
            serve(config, broker, boot).await
        }))
    }
}

async fn serve(config: Config, broker: Arc<RabbitMqBroker>, boot: Boot) -> anyhow::Result<Stopped> {
    let destinations = Destinations::new(&config.destinations);
    let access = serving::access(&config.access, &destinations)?;
    let drain = config.notifier.drain;
    let rabbitmq = serving::listed(&config.rabbitmq.uris);
    let redis = serving::listed(&config.redis.urls);
    let store = inboxes::shared(&config.inbox, &config.redis);
    let presence = Arc::new(RedisPresence::observe(config.presence, config.redis, boot));
    let readiness = Readiness::follow(broker.state(), presence.state());
    let stopping = serving::on_signal(&readiness)?;
    let mut admin = Admin::bind(&config.admin, readiness).await?;
    broker.register(admin.registry());
    admin.registry().register_collector(Box::new(RedisMetrics(presence.clone())));
    let nodes = Nodes::of_sender(broker.clone(), presence.clone(), serving::ANNOUNCER);
    let nodes = Arc::new(nodes);
    // Longer than until it is told to stop: what is on its way by then is sent by what is heard.
    let hearing = CancellationToken::new();
    let (running, until) = (nodes.clone(), hearing.clone());
    tokio::spawn(async move { running.run(until).await });
    // Of nodes that died, which it clears away as gateways do.
    let (to, until) = (broker.clone(), stopping.clone());
    tokio::spawn(events::publish(to, presence.clone(), serving::TELLER, until));
    let around = Around {
        broker: broker.clone(),
        presence: presence.clone(),
        groups: presence.clone(),
        nodes: nodes.clone(),
        destinations: &destinations,
    };
    let dispatcher = inboxes::dispatcher(&config.inbox, store, around)?;
    let notifier = Notifier::bind(Parts {
        config: config.notifier,
        broker,
        destinations,
        presence: presence.clone(),
        groups: presence,
        nodes,
        access,
        dispatcher,
        dispatches: true,
        inbox: config.inbox,
    })
    .await
    .map_err(|error| serving::unbound(error, "--listen"))?;
    notifier.register(admin.registry());
    let admin = admin.serve()?;
    serving::announce(
        "notifier",
        &[
            ("gRPC", &format_args!("http://{}", notifier.address()?)),
            ("Admin", &admin),
            ("RabbitMQ", &rabbitmq),
            ("Redis", &redis),
        ],
    );
    let mut deadline = Instant::now();
    notifier
        .run(async {
            stopping.cancelled().await;
            deadline = Instant::now() + drain;
        })
        .await;
    hearing.cancel();
    Ok(Stopped { deadline, admin })
}
