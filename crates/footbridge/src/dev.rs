//! `footbridge dev`: one node with everything inside.
//!
//! Its defaults lie beneath the configuration file: anonymous sessions, any origin, the console.
//! Whatever the file or the environment says wins over them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use broker::Destinations;
use broker_embedded::EmbeddedBroker;
use gateway::{Gateway, Parts, authorise};
use tokio::signal::unix::{SignalKind, signal};
use websocket::Origins;

use crate::config::{Config, environment};
use crate::example::Example;
use crate::file_limit;

/// Run one node with everything inside, for development.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    /// Configuration file; what it says wins over the defaults of `dev`.
    #[arg(long, env = "FOOTBRIDGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port for clients [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address and port for metrics and health [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

/// The defaults of `dev`: open, local, with the console.
pub(crate) fn defaults() -> Config {
    let mut config = Config::default();
    config.gateway.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    config.gateway.origins = Origins::any();
    config.gateway.console = true;
    config.stomp.max_frames_per_second = 0;
    config
}

impl Command {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut config = Config::load(self.config.as_deref(), environment(), defaults())?;
        config.gateway.listen = self.listen.unwrap_or(config.gateway.listen);
        config.admin.listen = self.admin.unwrap_or(config.admin.listen);
        config.log.init()?;
        file_limit::fit(&mut config.gateway)?;
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(serve(config))
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let shown = config.gateway.clone();
    let gateway = Gateway::bind(Parts {
        config: config.gateway,
        stomp: config.stomp,
        websocket: config.websocket,
        admin: Some(config.admin),
        destinations: Destinations::new(&config.destinations),
        broker: Arc::new(EmbeddedBroker::new(config.embedded)),
        authorise: Arc::new(authorise::Open),
        application: Arc::new(Example),
    })
    .await
    .context("choose another address with --listen (clients) or --admin (operators)")?;
    greet(gateway.address()?, gateway.admin_address(), &shown);
    gateway
        .run(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::info!("stopping");
        })
        .await;
    Ok(())
}

/// Says where to point a browser, and what to paste.
#[expect(clippy::print_stdout, reason = "what the command is asked to say")]
fn greet(address: SocketAddr, admin: Option<SocketAddr>, config: &gateway::Config) {
    // Nobody can point a browser to 0.0.0.0.
    let at = |address: SocketAddr| match address {
        any if any.ip().is_unspecified() => format!("localhost:{}", any.port()),
        other => other.to_string(),
    };
    let host = at(address);
    // As it was called, which may be no name that the shell would find.
    let program = std::env::args().next().unwrap_or_else(|| "footbridge".into());
    println!("Footbridge {}: one node for development\n", env!("CARGO_PKG_VERSION"));
    let path = &config.path;
    if config.console {
        println!("  Console     http://{host}/");
    }
    println!("  WebSocket   ws://{host}{path}");
    if let Some(admin) = admin {
        println!("  Admin       http://{}/readyz  (and /livez, /metrics)", at(admin));
    }
    let origins =
        if config.origins == Origins::any() { "any origin" } else { "the origins configured" };
    let reach = if address.ip().is_loopback() {
        "from this machine"
    } else {
        "from every machine that reaches this one"
    };
    println!(
        "\n  Open to everybody {reach}: anonymous sessions, {origins}, every destination.\n  Not for \
         the internet. Messages live in memory and go when this process does. Ctrl-C stops it.\n\n\
         Paste this into a page that loads stomp.umd.min.js of @stomp/stompjs:\n\n\
         \x20 const client = new StompJs.Client({{ brokerURL: 'ws://{host}{path}' }});\n\
         \x20 client.onConnect = () => {{\n\
         \x20   client.subscribe('/topic/public', (message) => console.log(message.body));\n\
         \x20   client.publish({{ destination: '/app/message', body: 'hello' }});\n\
         \x20 }};\n\
         \x20 client.activate();\n\n\
         Or from another terminal:\n\n\
         \x20 {program} listen --url ws://{host}{path} /topic/public\n\
         \x20 {program} send --url ws://{host}{path} /topic/public hello\n"
    );
}
