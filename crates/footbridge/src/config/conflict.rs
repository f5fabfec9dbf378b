//! Values that are well-formed and cannot work: alone, or together with others.

use std::net::SocketAddr;

use access::rules::Config as Rules;
use broker::destination::Verb;
use broker::{Destination, Destinations};
use inbox::Store;

use super::{Config, Role};

/// A value that cannot work.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// What is wrong with it. Names the other key where there is one, with its section unless that
    /// is the same.
    pub(super) why: String,
}

impl Config {
    /// Every section's own check, then what no section can see alone.
    pub(super) fn conflicts(&self, role: Role) -> Vec<Conflict> {
        let conflict = |section, key, why| Conflict { section, key, why };
        let destinations = Destinations::new(&self.destinations);
        let access = self.access.check(&destinations).err();
        let application = self.application.check(&destinations).err();
        let of_sections = [
            application.map(|wrong| conflict("application", wrong.key, wrong.why)),
            access.map(|wrong| conflict("access", wrong.key, wrong.why)),
            self.gateway.check().err().map(|wrong| conflict("gateway", wrong.key, wrong.why)),
            self.plain.check().err().map(|wrong| conflict("plain", wrong.key, wrong.why)),
            self.notifier.check().err().map(|wrong| conflict("notifier", wrong.key, wrong.why)),
            self.stomp.check().err().map(|wrong| conflict("stomp", wrong.key, wrong.why)),
            self.websocket.check().err().map(|wrong| conflict("websocket", wrong.key, wrong.why)),
            self.sockjs.check().err().map(|wrong| conflict("sockjs", wrong.key, wrong.why)),
            self.rabbitmq.check().err().map(|wrong| conflict("rabbitmq", wrong.key, wrong.why)),
            self.embedded.check().err().map(|wrong| conflict("embedded", wrong.key, wrong.why)),
            self.inbox.check().err().map(|wrong| conflict("inbox", wrong.key, wrong.why)),
            self.presence.check().err().map(|wrong| conflict("presence", wrong.key, wrong.why)),
            self.redis.check().err().map(|wrong| conflict("redis", wrong.key, wrong.why)),
            self.cluster.check().err().map(|wrong| conflict("cluster", wrong.key, wrong.why)),
            self.log.check().err().map(|wrong| conflict("log", wrong.key, wrong.why)),
            self.callers(role).err().map(|wrong| conflict("notifier", wrong.key, wrong.why)),
        ];
        let outbound = self.rabbitmq.max_outbound_message;
        let undelivered = |key, size| {
            (outbound < size).then(|| {
                let why = format!(
                    "{outbound} is below {key}, {size}: such a message could be sent and would reach \
                     no client"
                );
                conflict("rabbitmq", "max_outbound_message", why)
            })
        };
        let handler = self.plain.handler(&destinations);
        let handler = handler.map(|handler| destinations.parse(&handler, Verb::Send));
        let is_console = |path: &str| self.gateway.console && path.starts_with("/console/");
        let at_console = |section, path: &str| {
            is_console(path).then(|| {
                let why = "is below /console/, where the console is; use another".to_owned();
                conflict(section, "path", why)
            })
        };
        let between = [
            at_console("gateway", &self.gateway.path),
            at_console("plain", &self.plain.path),
            (self.gateway.console
                && self.gateway.console_role.is_empty()
                && role != Role::Dev
                && (self.access.rules != Rules::Open || self.access.can_authenticate()))
                .then(|| {
                    let why = "is needed with console = true, for the console shows who is connected and what \
                               waits for users; name a role of those who may see it, such as \"operator\""
                        .to_owned();
                    conflict("gateway", "console_role", why)
                }),
            (self.plain.path == self.gateway.path).then(|| {
                let why = "is gateway.path, where STOMP is spoken; use another, or \"\"".to_owned();
                conflict("plain", "path", why)
            }),
            (!matches!(handler, None | Some(Ok(Destination::App(_))))).then(|| {
                let why = format!(
                    "\"{}\" is no destination of kind app by destinations.prefixes; use \"/app/plain\", say",
                    self.plain.destination
                );
                conflict("plain", "destination", why)
            }),
            (self.websocket.max_message < self.stomp.max_frame).then(|| {
                let why = format!(
                    "{} is below stomp.max_frame, {}: such a frame could not arrive in one message",
                    self.websocket.max_message, self.stomp.max_frame
                );
                conflict("websocket", "max_message", why)
            }),
            (self.sockjs.max_request < self.stomp.max_frame).then(|| {
                let why = format!(
                    "{} is below stomp.max_frame, {}: such a frame could not arrive in one request",
                    self.sockjs.max_request, self.stomp.max_frame
                );
                conflict("sockjs", "max_request", why)
            }),
            undelivered("stomp.max_body", self.stomp.max_body),
            undelivered("notifier.max_message", self.notifier.max_message),
        ];
        let inbox = self.inboxes(role, &destinations);
        let between = between.into_iter().chain(inbox);
        let listeners = role.listeners(self);
        let taken = listeners.iter().enumerate().filter_map(|(n, &(section, key, address))| {
            let (other, its, taken) =
                listeners[..n].iter().find(|(.., other)| overlap(*other, address))?;
            let why = format!("{address} is taken by {other}.{its}, {taken}; use another port");
            Some(conflict(section, key, why))
        });
        taken.chain(of_sections.into_iter().chain(between).flatten()).collect()
    }

    /// What of `[inbox]` cannot work in that role, or by these prefixes.
    fn inboxes(&self, role: Role, destinations: &Destinations) -> [Option<Conflict>; 2] {
        let conflict = |key, why| Conflict { section: "inbox", key, why };
        let store = match (role, self.inbox.store) {
            (Role::Gateway | Role::Notifier, Store::Disk | Store::Memory) => Some(
                "is one process's own, and others would not see what waits there; use \"redis\" or \"none\"",
            ),
            (Role::Dev, Store::Redis) => Some(
                "is shared by nodes, and this is the only one; use \"disk\", \"memory\" or \"none\"",
            ),
            _ => None,
        };
        let grave = &self.inbox.dead_letter;
        let is_fit = grave.is_empty()
            || matches!(
                destinations.parse(grave, Verb::Send),
                Ok(Destination::Topic(_) | Destination::Queue(_) | Destination::Exchange { .. })
            );
        let grave = (!is_fit).then(|| {
            format!("\"{grave}\" is no topic, queue or exchange; use \"/queue/dead\", say")
        });
        [
            store.map(|why| conflict("store", why.to_owned())),
            grave.map(|why| conflict("dead_letter", why)),
        ]
    }

    /// Whether a process of that role can tell who calls, if it is called. A gateway does not have the
    /// notifier's files.
    fn callers(&self, role: Role) -> Result<(), notifier::Invalid> {
        match role {
            Role::Gateway => Ok(()),
            Role::Notifier | Role::Dev => self
                .notifier
                .check_start(self.access.checks_tokens(), !self.access.grpc_roles.is_empty()),
        }
    }
}

/// Whether the second of two listeners would find its port taken.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}
