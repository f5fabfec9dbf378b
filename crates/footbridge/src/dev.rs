//! `footbridge dev`: one node with everything inside.
//!
//! Its defaults ([`Role::Dev`]) lie beneath the configuration file: every destination, any origin, the
//! console. Whatever the file or the environment says wins over them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use access::rules::Config as Rules;
use anyhow::Context;
use application::{Asked, RouteConfig};
use broker::destination::Kind;
use broker::{Broker, Destinations};
use broker_embedded::EmbeddedBroker;
use cluster::Nodes;
use gateway::Gateway;
use inbox::Store;
use notifier::{Callers, Notifier};
use presence::{Boot, MemoryPresence, Presence};
use websocket::Origins;

use crate::admin::{Admin, Readiness, Serving, shown};
use crate::config::{Config, Role, environment};
use crate::example::Example;
use crate::inboxes::{self, Around};
use crate::{file_limit, serving};

/// Run one node with everything inside, for development.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    /// Configuration file; what it says wins over the defaults of `dev`.
    #[arg(long, env = "FOOTBRIDGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port for clients [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address and port for clients that speak STOMP without WebSocket [default: none]
    #[arg(long, value_name = "ADDRESS")]
    stomp: Option<SocketAddr>,
    /// Address and port for services, which speak gRPC [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<SocketAddr>,
    /// Where a service of yours implements footbridge.v1.Application, to be behind /app in place of the built-in
    /// example, such as http://127.0.0.1:9090
    #[arg(long, value_name = "URL")]
    application: Vec<String>,
    /// Address and port for metrics and health [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Directory for what waits for users who are away [default: footbridge-data, or memory if that cannot be had]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

impl Command {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut config = Config::load(self.config.as_deref(), environment(), Role::Dev)?;
        config.gateway.listen = self.listen.unwrap_or(config.gateway.listen);
        config.gateway.stomp_listen = self.stomp.or(config.gateway.stomp_listen);
        config.notifier.listen = self.grpc.unwrap_or(config.notifier.listen);
        config.admin.listen = self.admin.unwrap_or(config.admin.listen);
        if let Some(directory) = self.data {
            (config.inbox.store, config.inbox.directory) = (Store::Disk, directory);
        }
        let destinations = Destinations::new(&config.destinations);
        if let Some(route) = route(self.application, &destinations) {
            config.application.routes.retain(|other| other.prefix != route.prefix);
            config.application.routes.push(route);
            config.application.check(&destinations).context("--application")?;
        }
        config.log.init()?;
        file_limit::fit(&mut config.gateway)?;
        serving::block_on(serve(config))
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let destinations = Destinations::new(&config.destinations);
    let access = serving::access(&config.access, &destinations)?;
    let broker = Arc::new(EmbeddedBroker::new(config.embedded));
    let presence = Arc::new(MemoryPresence::new(&config.presence, Boot::generate()));
    let nodes = Arc::new(Nodes::alone(broker.clone(), presence.clone(), serving::ANNOUNCER));
    let readiness = Readiness::follow(broker.state(), presence.state());
    let routes =
        (!config.application.routes.is_empty()).then(|| serving::routes(&config.application));
    let application = serving::application(&config.application, &destinations, broker.clone())?;
    let around = Around {
        broker: broker.clone(),
        presence: presence.clone(),
        groups: presence.clone(),
        nodes: nodes.clone(),
        destinations: &destinations,
    };
    let store = inboxes::alone(&config.inbox)?;
    let dispatcher = inboxes::dispatcher(&config.inbox, store, around)?;
    let stopping = serving::on_signal(&readiness)?;
    let mut admin = Admin::bind(&config.admin, readiness).await?;
    let gateway = Gateway::bind(gateway::Parts {
        // There are no other nodes.
        cluster: gateway::peers::Config::default(),
        owners: presence.clone(),
        config: config.gateway.clone(),
        stomp: config.stomp,
        websocket: config.websocket,
        sockjs: config.sockjs,
        plain: config.plain.clone(),
        destinations: destinations.clone(),
        broker: broker.clone(),
        access: access.clone(),
        presence: presence.clone(),
        groups: presence.clone(),
        nodes: nodes.clone(),
        dispatcher: dispatcher.clone(),
        application: application.unwrap_or_else(|| Arc::new(Example)),
    })
    .await
    .map_err(|taken| serving::taken(taken, &config.gateway, None, "with --stomp"))?;
    let callers = config.notifier.callers;
    let notifier = Notifier::bind(notifier::Parts {
        config: config.notifier,
        broker,
        destinations,
        presence: presence.clone(),
        groups: presence,
        nodes,
        access,
        dispatcher,
        // The gateway does.
        dispatches: false,
        inbox: config.inbox,
    })
    .await
    .map_err(|error| serving::unbound(error, "--grpc"))?;
    gateway.register(admin.registry());
    notifier.register(admin.registry());
    let admin = admin.serve()?;
    let listening = Listening {
        clients: gateway.address()?,
        stomp: gateway.stomp_address()?,
        services: notifier.address()?,
        admin,
        routes,
    };
    listening.greet(&config.gateway, &config.plain, &config.access, callers);
    let stop = || stopping.clone().cancelled_owned();
    tokio::join!(gateway.run(stop()), notifier.run(stop()));
    Ok(())
}

/// All of the application's prefix goes to these equals, if there are any.
fn route(urls: Vec<String>, destinations: &Destinations) -> Option<RouteConfig> {
    let mut prefixes = destinations.prefixes();
    let app = prefixes.find(|(_, kind)| *kind == Kind::App).map(|(prefix, _)| prefix.to_string());
    (!urls.is_empty()).then(|| RouteConfig {
        prefix: app.unwrap_or_else(|| "/app".to_owned()),
        grpc: urls,
        hook: Asked::Optional,
        ..RouteConfig::default()
    })
}

/// Where the node listens.
struct Listening {
    clients: SocketAddr,
    stomp: Option<SocketAddr>,
    services: SocketAddr,
    admin: Serving,
    /// What is behind /app, if it is not the built-in example.
    routes: Option<String>,
}

impl Listening {
    /// Says where to point a browser, and what to paste.
    #[expect(clippy::print_stdout, reason = "what the command is asked to say")]
    fn greet(
        &self,
        config: &gateway::Config,
        plain: &gateway::plain::Config,
        access: &access::Config,
        callers: Callers,
    ) {
        let (host, services) = (shown(self.clients), shown(self.services));
        // As it was called, which may be no name that the shell would find.
        let program = std::env::args().next().unwrap_or_else(|| "footbridge".into());
        println!("Footbridge {}: one node for development\n", env!("CARGO_PKG_VERSION"));
        let path = &config.path;
        if config.console {
            println!("  Console     http://{host}/");
        }
        println!("  WebSocket   ws://{host}{path}");
        if config.sockjs {
            println!("  SockJS      http://{host}{path}");
        }
        if !plain.path.is_empty() {
            println!("  Plain       ws://{host}{}", plain.path);
        }
        if let Some(address) = self.stomp {
            println!("  STOMP       tcp://{}", shown(address));
        }
        println!("  gRPC        http://{services}");
        println!("  Admin       {}", self.admin);
        if let Some(routes) = &self.routes {
            println!("  Application {routes}");
        }
        let origins =
            if config.origins == Origins::any() { "any origin" } else { "the origins configured" };
        let destinations = match access.rules {
            Rules::Open => "every destination",
            Rules::Default => "SUBSCRIBE to topics and SEND to /app",
            Rules::List(_) => "the destinations that access.rules allow",
        };
        let mut reached =
            [Some(self.clients), self.stomp, Some(self.services)].into_iter().flatten();
        let reach = if reached.all(|address| address.ip().is_loopback()) {
            "from this machine"
        } else {
            "from every machine that reaches this one"
        };
        let wanted = serving::wanted(access);
        // What clients have to show: the one that is pasted, and those of the command line.
        let (shown, url, options) = match (access.lets_anonymous_in(), access.checks_tokens()) {
            (true, _) => ("", format!("ws://{host}{path}"), ""),
            (false, true) => (
                ", connectHeaders: { Authorization: 'Bearer TOKEN' }",
                format!("'ws://{host}{path}?access_token=TOKEN'"),
                "",
            ),
            (false, false) => (
                ", connectHeaders: { login: 'USER', passcode: 'PASSCODE' }",
                format!("ws://{host}{path}"),
                " --login USER --passcode PASSCODE",
            ),
        };
        let services_are = match callers {
            Callers::Open => "to any service by gRPC",
            Callers::Auto | Callers::Token | Callers::Certificate => {
                "by gRPC to services that show who they are"
            }
        };
        let open = match (wanted, access.lets_anonymous_in()) {
            (_, true) => {
                format!("Open to everybody {reach}: anonymous sessions, {origins}, {destinations}")
            }
            (Some(wanted), false) => {
                format!(
                    "Open {reach} to clients that show {wanted}: {origins}, {destinations}.\n  Open \
                     {services_are}"
                )
            }
            (None, false) => format!("Open to no client, and {reach} {services_are}"),
        };
        println!(
            "\n  {open}.\n  Not for the internet. Messages live in memory and go when this process does, but for \
         durable ones where those are kept on disk. \
         Ctrl-C stops it.\n\n\
         Paste this into a page that loads stomp.umd.min.js of @stomp/stompjs:\n\n\
         \x20 const client = new StompJs.Client({{ brokerURL: 'ws://{host}{path}'{shown} }});\n\
         \x20 client.onConnect = () => {{\n\
         \x20   client.subscribe('/topic/public', (message) => console.log(message.body));\n\
         \x20   client.publish({{ destination: '/app/message', body: 'hello' }});\n\
         \x20 }};\n\
         \x20 client.activate();\n\n\
         Or from another terminal:\n\n\
         \x20 {program} listen --url {url}{options} /topic/public\n\
         \x20 {program} send --url {url}{options} /topic/public hello\n\
         \x20 {program} send --grpc=http://{services} /topic/public hello\n"
        );
    }
}
