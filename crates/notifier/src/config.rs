//! The notifier's own settings, section `[notifier]`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::tls;

/// Where services connect, and what each may cost the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port for gRPC, 127.0.0.1:50051 by default. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What callers have to show: `"token"`, `"certificate"` or `"open"`, which is nothing. `"auto"` by
    /// default: a certificate if `client_ca` is set, else a token if `[access]` has a key, else nothing, and
    /// then `listen` must be an address that only this machine reaches.
    pub callers: Callers,
    /// A file with the certificate that the port shows, and those that certify it, in PEM. Empty, which is
    /// no TLS, by default.
    pub tls_certificate: PathBuf,
    /// A file with its private key, in PEM.
    pub tls_key: PathBuf,
    /// A file with the certificates of those who certify callers, in PEM: each connection has to show a
    /// certificate of theirs, whatever `callers` says. Empty, which asks for none, by default.
    pub client_ca: PathBuf,
    /// Longest body of a message, 1 MiB by default; a message with a longer one is refused.
    pub max_message: ByteSize,
    /// Most headers of a message, 100 by default, `content-type` not counted.
    pub max_headers: usize,
    /// Longest header of a message, name and value together, 8 KiB by default.
    pub max_header: ByteSize,
    /// Most unconfirmed publishes of one stream, 256 by default; beyond it the stream is not read.
    pub max_in_flight: usize,
    /// Most bytes of publishes that wait for the broker, of all callers together, 256 MiB by default.
    /// Beyond it single calls are refused, and streams are not read.
    pub max_waiting: ByteSize,
    /// How long a publish waits for the broker where its call names no deadline, and in any case on
    /// a stream, 10 s by default.
    #[serde(with = "humantime_serde")]
    pub publish_timeout: Duration,
    /// Most watches of presence at once, 100 by default; one more is refused.
    pub max_watches: usize,
    /// Most connections, 1,000 by default; one more waits until another is closed.
    pub max_connections: usize,
    /// Most calls at once on one connection, 256 by default; callers' libraries hold more back.
    pub max_calls: u32,
    /// How old a connection may get, 30 min by default: callers then make a new one, which a load
    /// balancer sends wherever there is room. Streams on it are ended.
    #[serde(with = "humantime_serde")]
    pub max_connection_age: Duration,
    /// How long the calls of a connection that has reached its age may take to end, 30 s by default.
    #[serde(with = "humantime_serde")]
    pub connection_grace: Duration,
    /// How long calls are given to end when the node stops, 25 s by default.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// Names in certificates of callers (the common name, or an alternative name that is a DNS name, a URI
    /// or an e-mail address), and the roles that whoever has one has in `access.grpc_roles`.
    pub certificate_roles: BTreeMap<String, Vec<String>>,
}

/// What callers have to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Callers {
    /// What the rest of the configuration is made for.
    #[default]
    Auto,
    /// A token.
    Token,
    /// A certificate.
    Certificate,
    /// Nothing.
    Open,
}

/// What callers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A token with each call.
    Token,
    /// A certificate with each connection.
    Certificate,
    /// Nothing.
    Nothing,
}

/// A value that cannot work, with its key in its section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key, as written in the section.
    pub key: &'static str,
    /// What is wrong with its value, and what would be right.
    pub why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            callers: Callers::Auto,
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            client_ca: PathBuf::new(),
            max_message: ByteSize::mib(1),
            max_headers: 100,
            max_header: ByteSize::kib(8),
            max_in_flight: 256,
            max_waiting: ByteSize::mib(256),
            publish_timeout: Duration::from_secs(10),
            max_watches: 100,
            max_connections: 1_000,
            max_calls: 256,
            max_connection_age: Duration::from_secs(30 * 60),
            connection_grace: Duration::from_secs(30),
            drain: Duration::from_secs(25),
            certificate_roles: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Refuses what no notifier could work with.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: String| Err(Invalid { key, why });
        let counts: [(&'static str, u64, u64); 8] = [
            ("max_message", self.max_message.as_u64(), 256 * 1024 * 1024),
            ("max_headers", self.max_headers as u64, 10_000),
            ("max_header", self.max_header.as_u64(), 1024 * 1024),
            ("max_in_flight", self.max_in_flight as u64, 100_000),
            ("max_waiting", self.max_waiting.as_u64(), 2 * 1024 * 1024 * 1024),
            ("max_watches", self.max_watches as u64, 10_000),
            ("max_connections", self.max_connections as u64, 1_000_000),
            ("max_calls", self.max_calls.into(), 1_000_000),
        ];
        for (key, count, most) in counts {
            if count == 0 {
                return invalid(key, "0 would refuse everything; use 1 or more".to_owned());
            }
            if count > most {
                return invalid(key, format!("must not be above {most}"));
            }
        }
        let times = [
            ("publish_timeout", self.publish_timeout, Duration::from_millis(100)),
            ("max_connection_age", self.max_connection_age, Duration::from_secs(1)),
            ("connection_grace", self.connection_grace, Duration::from_millis(100)),
            ("drain", self.drain, Duration::ZERO),
        ];
        for (key, time, least) in times {
            if time < least {
                return invalid(key, format!("must be at least {least:?}; use 30s, say"));
            }
            if time > Duration::from_secs(24 * 60 * 60) {
                return invalid(key, "more than a day; use 30s, say".to_owned());
            }
        }
        if self.connection_grace < self.publish_timeout {
            let why = format!(
                "must be at least publish_timeout ({:?}), or publishes are cut off unanswered",
                self.publish_timeout
            );
            return invalid("connection_grace", why);
        }
        Ok(())
    }

    /// Refuses what no notifier could start with: what goes not together with `[access]`, see
    /// [`asked`](Self::asked), and files that cannot be read.
    pub fn check_start(&self, has_key: bool, has_roles: bool) -> Result<(), Invalid> {
        self.asked(has_key, has_roles)?;
        tls::server(self).map(drop)
    }

    /// What callers are asked for. `has_key` says whether `[access]` has a key to check tokens with,
    /// `has_roles` whether it has `grpc_roles`.
    pub fn asked(&self, has_key: bool, has_roles: bool) -> Result<Asked, Invalid> {
        let invalid = |key, why: String| Err(Invalid { key, why });
        let has_ca = !self.client_ca.as_os_str().is_empty();
        let asked = match self.callers {
            Callers::Auto if has_ca => Asked::Certificate,
            Callers::Auto if has_key => Asked::Token,
            Callers::Auto if !self.listen.ip().is_loopback() => {
                let why = format!(
                    "{} is reached by other machines, and callers are asked for nothing: give access a key \
                     for tokens or notifier.client_ca for certificates, or set notifier.callers = \"open\" \
                     if the network keeps strangers out",
                    self.listen
                );
                return invalid("listen", why);
            }
            Callers::Auto | Callers::Open => Asked::Nothing,
            Callers::Token => Asked::Token,
            Callers::Certificate => Asked::Certificate,
        };
        match asked {
            Asked::Token if !has_key => {
                let why = "\"token\" needs a key: set access.jwt_secret, jwt_key_file, jwks_file or jwks_url";
                invalid("callers", why.to_owned())
            }
            Asked::Certificate if !has_ca => {
                let why = "\"certificate\" needs client_ca: those who certify callers";
                invalid("callers", why.to_owned())
            }
            Asked::Certificate if self.certificate_roles.is_empty() => {
                let why = "is empty, so that no caller may call anything: give the names in their \
                           certificates roles of access.grpc_roles, or set callers = \"open\" if a \
                           certificate alone shall do";
                invalid("certificate_roles", why.to_owned())
            }
            Asked::Nothing if has_roles => {
                let why = "asks callers for nothing, and access.grpc_roles says who may call what: set \
                           \"token\" or \"certificate\", or leave the roles out";
                invalid("callers", why.to_owned())
            }
            Asked::Token | Asked::Nothing if !self.certificate_roles.is_empty() => {
                let why = "is heeded only where callers are asked for certificates: set callers = \
                           \"certificate\", or leave it out";
                invalid("certificate_roles", why.to_owned())
            }
            asked => Ok(asked),
        }
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        bytes(self.max_message)
    }

    pub(crate) fn max_header_bytes(&self) -> usize {
        bytes(self.max_header)
    }

    pub(crate) fn max_waiting_bytes(&self) -> u32 {
        u32::try_from(self.max_waiting.as_u64()).unwrap_or(u32::MAX)
    }

    /// The longest request that is looked at. A body within twice its limit is refused by name; one
    /// beyond is cut off before it is read into memory, at the price of its stream.
    pub(crate) fn max_request_bytes(&self) -> usize {
        let headers = self.max_headers.saturating_mul(self.max_header_bytes());
        self.max_message_bytes().saturating_mul(2).saturating_add(headers)
    }
}

/// What this machine cannot address is as good as no limit.
fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fit_to_run() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_its_key() {
        let default = Config::default;
        for (config, key) in [
            (Config { max_message: ByteSize(0), ..default() }, "max_message"),
            (Config { max_message: ByteSize::gib(1), ..default() }, "max_message"),
            (Config { max_headers: 0, ..default() }, "max_headers"),
            (Config { max_header: ByteSize(0), ..default() }, "max_header"),
            (Config { max_in_flight: 0, ..default() }, "max_in_flight"),
            (Config { max_waiting: ByteSize(0), ..default() }, "max_waiting"),
            (Config { max_waiting: ByteSize::gib(3), ..default() }, "max_waiting"),
            (Config { max_watches: 0, ..default() }, "max_watches"),
            (Config { max_connections: 0, ..default() }, "max_connections"),
            (Config { max_calls: 0, ..default() }, "max_calls"),
            (Config { publish_timeout: Duration::ZERO, ..default() }, "publish_timeout"),
            (Config { max_connection_age: Duration::ZERO, ..default() }, "max_connection_age"),
            (Config { connection_grace: Duration::from_secs(9), ..default() }, "connection_grace"),
            (Config { drain: Duration::from_secs(90_000), ..default() }, "drain"),
        ] {
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }

    #[test]
    fn callers_are_asked_for_what_the_rest_is_made_for() {
        let config = |text: &str| toml::from_str::<Config>(text).unwrap();
        let everywhere = "listen = '0.0.0.0:50051'";
        let with_ca = "client_ca = 'ca.pem'\n[certificate_roles]\norders = ['publisher']";
        for (text, has_key, has_roles, expected) in [
            ("", false, false, Ok(Asked::Nothing)),
            ("", true, true, Ok(Asked::Token)),
            ("", false, true, Err("callers")),
            (everywhere, false, false, Err("listen")),
            (everywhere, true, false, Ok(Asked::Token)),
            (with_ca, true, true, Ok(Asked::Certificate)),
            ("client_ca = 'ca.pem'", true, true, Err("certificate_roles")),
            ("callers = 'token'\nclient_ca = 'ca.pem'", true, true, Ok(Asked::Token)),
            ("callers = 'token'", false, false, Err("callers")),
            ("callers = 'certificate'", true, false, Err("callers")),
            ("callers = 'open'\nlisten = '0.0.0.0:50051'", true, false, Ok(Asked::Nothing)),
            ("callers = 'open'", true, true, Err("callers")),
            ("[certificate_roles]\norders = []", true, false, Err("certificate_roles")),
        ] {
            let asked = config(text).asked(has_key, has_roles).map_err(|invalid| invalid.key);
            assert_eq!(asked, expected, "{text}, {has_key}, {has_roles}");
        }
    }

    #[test]
    fn a_file_names_what_it_changes_and_nothing_else() {
        let config: Config = toml::from_str("publish_timeout = '5s'\nmax_in_flight = 8").unwrap();
        let expected = Config {
            publish_timeout: Duration::from_secs(5),
            max_in_flight: 8,
            ..Config::default()
        };
        assert_eq!(config, expected);
        let error = toml::from_str::<Config>("max_inflight = 8").unwrap_err().to_string();
        assert!(error.contains("unknown field `max_inflight`"), "{error}");
    }
}
