//! What each of the processes takes from the one configuration: defaults and ports of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use access::rules::Config as Rules;
use notifier::Callers;
use websocket::Origins;

use super::Config;

/// A process that reads the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// `footbridge gateway`.
    Gateway,
    /// `footbridge notifier`.
    Notifier,
    /// `footbridge dev`, which is both.
    Dev,
}

impl Role {
    /// What is in force where nobody says otherwise.
    pub(crate) fn defaults(self) -> Config {
        let mut config = Config::default();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match self {
            Self::Gateway => {}
            // So that it can run beside a gateway.
            Self::Notifier => config.admin.listen = local(8082),
            // Open, local, with the console.
            Self::Dev => {
                config.gateway.listen = local(8080);
                config.gateway.origins = Origins::any();
                config.gateway.console = true;
                // Nobody else sends clients here.
                config.gateway.drain_notice = Duration::ZERO;
                config.notifier.callers = Callers::Open;
                config.access.rules = Rules::Open;
                config.stomp.max_frames_per_second = 0;
            }
        }
        config
    }

    /// The addresses that it listens at, each with its section and key.
    pub(super) fn listeners(
        self,
        config: &Config,
    ) -> Vec<(&'static str, &'static str, SocketAddr)> {
        let web = Some(("gateway", "listen", config.gateway.listen));
        let stomp = config.gateway.stomp_listen.map(|at| ("gateway", "stomp_listen", at));
        let notifier = Some(("notifier", "listen", config.notifier.listen));
        let admin = Some(("admin", "listen", config.admin.listen));
        let cluster = config.cluster.listen.map(|at| ("cluster", "listen", at));
        let listeners = match self {
            Self::Gateway => [web, stomp, None, admin, cluster],
            Self::Notifier => [None, None, notifier, admin, None],
            Self::Dev => [web, stomp, notifier, admin, None],
        };
        listeners.into_iter().flatten().collect()
    }
}
