//! `footbridge gateway`: a node of a cluster, with RabbitMQ as its broker and presence in Redis.

use std::fmt::Display;
use std::sync::Arc;

use broker::{Broker, Destinations};
use broker_rabbitmq::RabbitMqBroker;
use cluster::Nodes;
use gateway::application::NoApplication;
use gateway::{Gateway, Parts};
use presence::{Boot, Presence, RedisPresence};
use tokio::time::Instant;

use crate::admin::{Admin, Readiness, RedisMetrics};
use crate::config::{Config, Role, environment};
use crate::file_limit;
use crate::inboxes::{self, Around};
use crate::serving::{self, Stopped};

/// Run a node that clients connect to. RabbitMQ carries messages between nodes, Redis knows who is where.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    #[command(flatten)]
    options: serving::Options,
}

impl Command {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let options = self.options;
        let mut config = Config::load(options.config.as_deref(), environment(), Role::Gateway)?;
        config.gateway.listen = options.listen.unwrap_or(config.gateway.listen);
        config.admin.listen = options.admin.unwrap_or(config.admin.listen);
        config.log.init()?;
        file_limit::check(&config.gateway)?;
        let rabbitmq = config.rabbitmq.clone();
        serving::block_on(serving::with_rabbitmq(rabbitmq, async |broker, boot| {
            serve(config, broker, boot).await
        }))
    }
}

async fn serve(config: Config, broker: Arc<RabbitMqBroker>, boot: Boot) -> anyhow::Result<Stopped> {
    let destinations = Destinations::new(&config.destinations);
    let access = serving::access(&config.access, &destinations)?;
    let rules = serving::in_force(&config.access);
    let routes = serving::routes(&config.application);
    let drain = config.gateway.drain;
    let rabbitmq = serving::listed(&config.rabbitmq.uris);
    let redis = serving::listed(&config.redis.urls);
    let store = inboxes::shared(&config.inbox, &config.redis);
    let presence = Arc::new(RedisPresence::start(config.presence, config.redis, boot));
    let readiness = Readiness::follow(broker.state(), presence.state());
    let stopping = serving::on_signal(&readiness)?;
    let mut admin = Admin::bind(&config.admin, readiness).await?;
    broker.register(admin.registry());
    admin.registry().register_collector(Box::new(RedisMetrics(presence.clone())));
    let nodes = Nodes::of_gateway(broker.clone(), presence.clone(), serving::ANNOUNCER);
    let nodes = Arc::new(nodes);
    let around = Around {
        broker: broker.clone(),
        presence: presence.clone(),
        groups: presence.clone(),
        nodes: nodes.clone(),
        destinations: &destinations,
    };
    let dispatcher = inboxes::dispatcher(&config.inbox, store, around)?;
    let application = serving::application(&config.application, &destinations, broker.clone())?;
    let gateway = Gateway::bind(Parts {
        cluster: config.cluster.clone(),
        config: config.gateway.clone(),
        stomp: config.stomp,
        websocket: config.websocket,
        sockjs: config.sockjs,
        plain: config.plain,
        destinations,
        broker,
        access,
        presence: presence.clone(),
        groups: presence.clone(),
        owners: presence,
        nodes,
        dispatcher,
        application: application.unwrap_or_else(|| Arc::new(NoApplication)),
    })
    .await
    .map_err(|taken| {
        serving::taken(taken, &config.gateway, config.cluster.listen, "as gateway.stomp_listen")
    })?;
    gateway.register(admin.registry());
    let admin = admin.serve()?;
    let websocket = format!("ws://{}{}", gateway.address()?, config.gateway.path);
    let stomp = gateway.stomp_address()?.map(|address| format!("tcp://{address}"));
    let mut lines: Vec<(&str, &dyn Display)> = vec![("WebSocket", &websocket)];
    let sockjs = format!("http://{}{}", gateway.address()?, config.gateway.path);
    if config.gateway.sockjs {
        lines.push(("SockJS", &sockjs));
    }
    let console = format!("http://{}/", gateway.address()?);
    if config.gateway.console {
        lines.push(("Console", &console));
    }
    lines.extend(stomp.iter().map(|stomp| ("STOMP", stomp as &dyn Display)));
    let forward = gateway.forward_address()?.map(|address| format!("http://{address}"));
    lines.extend(forward.iter().map(|forward| ("Forwarding", forward as &dyn Display)));
    lines.extend([("Admin", &admin as &dyn Display), ("RabbitMQ", &rabbitmq)]);
    lines.extend([("Redis", &redis as &dyn Display), ("Rules", &rules)]);
    lines.push(("Application", &routes));
    serving::announce("gateway", &lines);
    let mut deadline = Instant::now();
    gateway
        .run(async {
            stopping.cancelled().await;
            deadline = Instant::now() + drain;
        })
        .await;
    Ok(Stopped { deadline, admin })
}
