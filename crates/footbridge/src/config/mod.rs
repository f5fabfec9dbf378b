//! The configuration: one section for each part, from defaults, a TOML file and the environment.
//!
//! [`Config::load`] lays a file over the defaults, and variables named `FOOTBRIDGE_SECTION__KEY`
//! over the file, key by key; a table such as `destinations.prefixes` is laid over entry by entry.
//!
//! Invariants
//! - A [`Config`] that was loaded has passed every check: each key alone, each section, and the
//!   sections against each other, as far as its [`Role`] uses them.
//! - Whatever is shown of it, mistakes included, shows no password.
//! - Nothing that was said is ignored: what is no section or no key is refused. The one exception
//!   are variables without `__` that resemble no key, as Kubernetes makes them of a Service named
//!   `footbridge`.
//! - All mistakes are told at once, each with its place: the first of each key or entry, and the
//!   first that a section's own check finds. Only broken TOML hides the rest of a file.
//!
//! Not here: what the keys mean (the sections' own types, and `deploy/footbridge.toml`).

mod conflict;
mod effective;
mod environment;
mod file;
mod keys;
mod mistake;
mod place;
mod role;
mod secret;
mod setting;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use self::effective::Effective;
pub(crate) use self::environment::environment;
pub(crate) use self::mistake::ConfigError;
pub(crate) use self::role::Role;
use crate::{admin, log};

/// Everything that can be configured, a field for each section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where clients connect, and what each may cost the node.
    pub(crate) gateway: gateway::Config,
    /// Sessions without STOMP.
    pub(crate) plain: gateway::plain::Config,
    /// Where services connect, and what each may cost the node.
    pub(crate) notifier: notifier::Config,
    /// The port for operators.
    pub(crate) admin: admin::Config,
    /// Who clients are and what they may do.
    pub(crate) access: access::Config,
    /// Which service is behind which prefix.
    pub(crate) application: application::Config,
    /// Limits and heart-beats of STOMP sessions.
    pub(crate) stomp: stomp::Config,
    /// Limits of WebSockets.
    pub(crate) websocket: websocket::Config,
    /// SockJS, for clients that cannot have WebSockets.
    pub(crate) sockjs: sockjs::Config,
    /// Which prefix means which kind of destination.
    pub(crate) destinations: broker::destination::Config,
    /// How to reach RabbitMQ, and how much to hold for it.
    pub(crate) rabbitmq: broker_rabbitmq::Config,
    /// Limits of the broker inside the process.
    pub(crate) embedded: broker_embedded::Config,
    /// What waits for users who are away.
    pub(crate) inbox: inbox::Config,
    /// How soon a node that died is noticed, and how much is told to Redis at once.
    pub(crate) presence: presence::Config,
    /// How to reach Redis, which knows who is online and in which group.
    pub(crate) redis: presence::RedisConfig,
    /// Where other gateways hand over requests.
    pub(crate) cluster: gateway::peers::Config,
    /// What is logged, and how.
    pub(crate) log: log::Config,
}

impl Config {
    /// What the defaults of `role` become with `file` and `environment` laid over them.
    ///
    /// # Errors
    /// The file cannot be read, or there are mistakes: see [`ConfigError`].
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        role: Role,
    ) -> Result<Self, ConfigError> {
        Effective::load(file, environment, role).map(|effective| effective.config)
    }
}
