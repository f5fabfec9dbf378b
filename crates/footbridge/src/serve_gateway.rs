//! `footbridge gateway`: a node of a cluster, with RabbitMQ as its broker.

use std::sync::Arc;

use anyhow::Context;
use broker::{Broker, Destinations};
use broker_rabbitmq::RabbitMqBroker;
use gateway::{Gateway, Parts, application};
use tokio::time::Instant;
use ulid::Ulid;

use crate::admin::{Admin, Readiness};
use crate::config::{Config, Role, environment};
use crate::{file_limit, serving};

/// Run a node that clients connect to. RabbitMQ carries messages between nodes.
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
        serving::block_on(serve(config))
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let drain = config.gateway.drain;
    let rabbitmq = serving::listed(&config.rabbitmq.uris);
    let path = config.gateway.path.clone();
    let broker = Arc::new(RabbitMqBroker::new(config.rabbitmq, Ulid::generate()));
    let readiness = Readiness::follow(broker.state());
    let stopping = serving::on_signal(&readiness)?;
    let mut admin = Admin::bind(&config.admin, readiness).await?;
    let gateway = Gateway::bind(Parts {
        config: config.gateway,
        stomp: config.stomp,
        websocket: config.websocket,
        destinations: Destinations::new(&config.destinations),
        broker: broker.clone(),
        authorise: Arc::new(config.access.rules),
        application: Arc::new(application::NoApplication),
    })
    .await
    .context("choose another address for clients with --listen")?;
    gateway.register(admin.registry());
    let admin = admin.serve()?;
    serving::announce(
        "gateway",
        &[
            ("WebSocket", &format_args!("ws://{}{path}", gateway.address()?)),
            ("Admin", &admin),
            ("RabbitMQ", &rabbitmq),
            ("Rules", &config.access.rules),
        ],
    );
    let mut deadline = Instant::now();
    gateway
        .run(async {
            stopping.cancelled().await;
            deadline = Instant::now() + drain;
        })
        .await;
    serving::leave(&broker, deadline).await;
    drop(admin);
    Ok(())
}
