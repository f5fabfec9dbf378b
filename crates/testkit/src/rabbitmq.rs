//! RabbitMQ as a child process: a node of its own, with its own name, cookie, epmd and directory.
//!
//! What always holds: `start` returns when an AMQP connection can be opened; ports and directory
//! stay the same until the value is dropped, so what is durable is there after
//! [`RabbitMq::start_again`]. Faults take `&mut self`: the shared broker of [`rabbitmq`] has none.
//!
//! The shared broker of a process ends with the process (see `sandbox`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::ports::Ports;
use crate::process::Process;
use crate::sandbox::Sandbox;
use crate::{CommandError, StartError, command};

const BIN: &str = "/usr/lib/rabbitmq/bin";
const PACKAGE: &str = "rabbitmq-server";

/// A start takes some seconds on an idle machine and ten times that on a starved one.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// For a clean end; past it the node is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// Which port of the block serves what.
const EPMD: u16 = 0;
const DISTRIBUTION: u16 = 1;
const AMQP: u16 = 2;
const AMQPS: u16 = 6;

/// A plugin of the Debian package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// STOMP over TCP.
    Stomp,
    /// STOMP over WebSocket, at `/ws`. Brings [`Plugin::Stomp`] with it.
    WebStomp,
    /// The management HTTP API.
    Management,
}

/// What a broker is started with.
#[derive(Clone, Debug, Default)]
pub struct RabbitMqOptions {
    plugins: Vec<Plugin>,
    config: Vec<String>,
    /// The files of a certificate and its key.
    tls: Option<(PathBuf, PathBuf)>,
}

/// A RabbitMQ node, user `guest` with password `guest`, vhost `/`.
#[derive(Debug)]
pub struct RabbitMq {
    sandbox: Sandbox,
    plugins: Vec<Plugin>,
    /// Our own, so that the node finds one and starts none that would stay behind.
    _epmd: Process,
    /// `None` while killed or stopped.
    node: Option<Process>,
    /// Dropped last: the node must be gone before its ports are free.
    ports: Ports,
}

/// The broker all tests of this process share, started by the first that asks.
///
/// Use names of your own for queues and routing keys: other tests are on it at the same time.
///
/// # Panics
/// When RabbitMQ cannot be started, with what [`StartError`] says.
pub async fn rabbitmq() -> &'static RabbitMq {
    static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
    let started = SHARED.get_or_try_init(RabbitMq::start).await;
    started.unwrap_or_else(|error| panic!("{error}"))
}

impl RabbitMqOptions {
    /// Enables a plugin.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Adds a line to `rabbitmq.conf`, such as `vm_memory_high_watermark.relative = 0.2`.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// Accepts AMQP over TLS as well, with a certificate and its key from files in PEM.
    #[must_use]
    pub fn tls(mut self, certificate: &Path, key: &Path) -> Self {
        self.tls = Some((certificate.to_owned(), key.to_owned()));
        self
    }

    /// Starts the broker, and returns when it accepts AMQP connections and its plugins' ports are
    /// open.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without the Debian package; otherwise what the node said.
    pub async fn start(self) -> Result<RabbitMq, StartError> {
        let ports = Ports::reserve()?;
        let mut sandbox = Sandbox::new("rabbitmq-")?;
        let files = [
            ("rabbitmq.conf", self.config_file(&ports), 0o600),
            ("enabled_plugins", self.plugins_file(), 0o600),
            // The virtual machine refuses a cookie that others may read.
            (".erlang.cookie", format!("{:032x}", rand::random::<u128>()), 0o400),
        ];
        for (name, content, mode) in files {
            let path = sandbox.path().join(name);
            fs::write(&path, content)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
                .map_err(StartError::io(format!("write {}", path.display())))?;
        }

        let epmd_port = ports.get(EPMD);
        let mut command = Command::new("epmd");
        command.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        let mut epmd = sandbox.start("epmd", "erlang-base", &mut command)?;
        epmd.wait_until_ready(START_PATIENCE, async || can_connect(epmd_port).await).await?;

        let plugins = self.plugins;
        let mut broker = RabbitMq { sandbox, ports, plugins, _epmd: epmd, node: None };
        broker.start_again().await?;
        Ok(broker)
    }

    fn config_file(&self, ports: &Ports) -> String {
        let mut lines = vec![
            format!("listeners.tcp.1 = 127.0.0.1:{}", ports.get(AMQP)),
            // The machine's disk is not what is tested: no alarm because of it.
            "disk_free_limit.absolute = 1MB".to_owned(),
        ];
        if let Some((certificate, key)) = &self.tls {
            lines.push(format!("listeners.ssl.1 = 127.0.0.1:{}", ports.get(AMQPS)));
            lines.push(format!("ssl_options.certfile = {}", certificate.display()));
            lines.push(format!("ssl_options.keyfile = {}", key.display()));
        }
        let port = |plugin: Plugin| ports.get(plugin.port());
        if self.plugins.contains(&Plugin::Stomp) || self.plugins.contains(&Plugin::WebStomp) {
            lines.push(format!("stomp.listeners.tcp.1 = 127.0.0.1:{}", port(Plugin::Stomp)));
        }
        if self.plugins.contains(&Plugin::WebStomp) {
            lines.push("web_stomp.tcp.ip = 127.0.0.1".to_owned());
            lines.push(format!("web_stomp.tcp.port = {}", port(Plugin::WebStomp)));
        }
        if self.plugins.contains(&Plugin::Management) {
            lines.push("management.tcp.ip = 127.0.0.1".to_owned());
            lines.push(format!("management.tcp.port = {}", port(Plugin::Management)));
        }
        lines.extend(self.config.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn plugins_file(&self) -> String {
        let names: Vec<&str> = self.plugins.iter().map(|plugin| plugin.name()).collect();
        format!("[{}].\n", names.join(","))
    }
}

impl RabbitMq {
    /// Starts a broker without plugins.
    ///
    /// # Errors
    /// As [`RabbitMqOptions::start`].
    pub async fn start() -> Result<RabbitMq, StartError> {
        RabbitMq::options().start().await
    }

    /// A broker with plugins or configuration.
    #[must_use]
    pub fn options() -> RabbitMqOptions {
        RabbitMqOptions::default()
    }

    /// Where AMQP clients connect: `amqp://guest:guest@127.0.0.1:PORT/%2f`.
    #[must_use]
    pub fn uri(&self) -> String {
        self.uri_at(self.port())
    }

    /// The same through something else that listens on 127.0.0.1, such as a [`Proxy`](crate::Proxy).
    #[must_use]
    pub fn uri_at(&self, port: u16) -> String {
        format!("amqp://guest:guest@127.0.0.1:{port}/%2f")
    }

    /// The AMQP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.get(AMQP)
    }

    /// The port on 127.0.0.1 for AMQP over TLS; nothing listens there without
    /// [`RabbitMqOptions::tls`].
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.ports.get(AMQPS)
    }

    /// The port of a plugin on 127.0.0.1; nothing listens there if it is not enabled.
    #[must_use]
    pub fn plugin_port(&self, plugin: Plugin) -> u16 {
        self.ports.get(plugin.port())
    }

    /// The process id of the node (the Erlang virtual machine); `None` while it is down.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.node.as_ref().map(Process::pid)
    }

    /// The node's physical memory, in bytes; `None` while it is down.
    #[must_use]
    pub fn resident_memory(&self) -> Option<u64> {
        self.node.as_ref().and_then(Process::resident_memory)
    }

    /// Kills the node with SIGKILL and returns when it is gone. Nothing happens if it is down.
    pub fn kill(&mut self) {
        if let Some(node) = self.node.take() {
            self.sandbox.kill(node);
        }
    }

    /// Stops the node as an operator would: it closes its connections and writes what is durable.
    /// Nothing happens if it is down.
    pub async fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            self.sandbox.stop(node, STOP_PATIENCE).await;
        }
    }

    /// Starts the node after [`kill`](RabbitMq::kill) or [`stop`](RabbitMq::stop), with the same
    /// ports and directory.
    ///
    /// # Errors
    /// [`StartError::Running`] when it is not down; otherwise what the node said.
    pub async fn start_again(&mut self) -> Result<(), StartError> {
        if self.node.is_some() {
            return Err(StartError::Running { server: "rabbitmq" });
        }
        let mut command = Command::new(format!("{BIN}/rabbitmq-server"));
        command.env_clear().envs(self.environment());
        let uri = self.uri();
        let listening: Vec<u16> = [self.ports.get(AMQP)]
            .into_iter()
            .chain(self.plugins.iter().map(|plugin| self.ports.get(plugin.port())))
            .collect();
        let node = self.node.insert(self.sandbox.start("rabbitmq", PACKAGE, &mut command)?);
        let ready = async || {
            for &port in &listening {
                can_connect(port).await?;
            }
            can_open(&uri).await
        };
        let started = node.wait_until_ready(START_PATIENCE, ready).await;
        if started.is_err() {
            self.kill();
        }
        started
    }

    /// Runs `rabbitmqctl` on the node and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it printed; when it takes longer than a minute.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String, CommandError> {
        let mut command = tokio::process::Command::new(format!("{BIN}/rabbitmqctl"));
        command.arg("--quiet").args(arguments).env_clear().envs(self.environment());
        command::run(&mut command).await
    }

    /// Raises or clears the memory alarm: while it is on, the broker reads nothing from connections
    /// that publish, and tells them so (`connection.blocked`).
    ///
    /// # Errors
    /// As [`RabbitMq::ctl`].
    pub async fn alarm(&mut self, on: bool) -> Result<(), CommandError> {
        let watermark = match on {
            true => "0",
            // What the node was configured with.
            false => "element(2, application:get_env(rabbit, vm_memory_high_watermark))",
        };
        // Setting the limit raises or clears the alarm by a message; the answer to the question
        // after it comes when every connection's process has been sent the news.
        let set = format!(
            "ok = vm_memory_monitor:set_vm_memory_high_watermark({watermark}), \
             rabbit_alarm:get_alarms()."
        );
        self.ctl(&["eval", &set]).await.map(drop)
    }

    /// The whole environment of every program of this node. Each variable that has a default in
    /// `/etc` or `/var` is set.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let in_directory = |name: &str| self.sandbox.path().join(name).display().to_string();
        let port = |n: u16| self.ports.get(n).to_string();
        vec![
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
            // Where the cookie is.
            ("HOME", self.sandbox.path().display().to_string()),
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("ERL_EPMD_PORT", port(EPMD)),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", format!("node{}@localhost", self.ports.get(AMQP))),
            ("RABBITMQ_NODE_PORT", port(AMQP)),
            ("RABBITMQ_DIST_PORT", port(DISTRIBUTION)),
            ("RABBITMQ_CONF_ENV_FILE", in_directory("rabbitmq-env.conf")),
            ("RABBITMQ_CONFIG_FILE", in_directory("rabbitmq.conf")),
            ("RABBITMQ_CONFIG_FILES", in_directory("conf.d")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", in_directory("advanced.config")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", in_directory("config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", in_directory("enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", in_directory("mnesia")),
            ("RABBITMQ_LOG_BASE", in_directory("log")),
            ("RABBITMQ_SCHEMA_DIR", in_directory("schema")),
            // The script then becomes the virtual machine instead of being its parent, so the
            // process we started is the one we kill. It reads no input all the same.
            ("RABBITMQ_ALLOW_INPUT", "true".to_owned()),
            ("RABBITMQ_SERVER_START_ARGS", "-noinput".to_owned()),
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
            ),
            // Ten ports, the default, are too few for many tests at once.
            ("RABBITMQ_CTL_DIST_PORT_MIN", "30720".to_owned()),
            ("RABBITMQ_CTL_DIST_PORT_MAX", "32767".to_owned()),
        ]
    }
}

impl Plugin {
    fn name(self) -> &'static str {
        match self {
            Plugin::Stomp => "rabbitmq_stomp",
            Plugin::WebStomp => "rabbitmq_web_stomp",
            Plugin::Management => "rabbitmq_management",
        }
    }

    /// Its place in the block of ports.
    fn port(self) -> u16 {
        match self {
            Plugin::Stomp => 3,
            Plugin::WebStomp => 4,
            Plugin::Management => 5,
        }
    }
}

async fn can_connect(port: u16) -> Result<(), String> {
    let connected = TcpStream::connect(("127.0.0.1", port)).await;
    connected.map(drop).map_err(|error| format!("port {port}: {error}"))
}

/// Opens and closes an AMQP connection: the listener is up before users and vhosts are.
async fn can_open(uri: &str) -> Result<(), String> {
    let opened = Connection::connect(uri, ConnectionProperties::default()).await;
    let connection = opened.map_err(|error| error.to_string())?;
    connection.close(200, "ready".into()).await.map_err(|error| error.to_string())
}
