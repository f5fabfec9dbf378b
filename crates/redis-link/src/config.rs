//! How to reach Redis.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::{ConnectionInfo, IntoConnectionInfo};
use serde::{Deserialize, Serialize};

/// The settings of the connection to Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Where Redis is: `redis://user:password@host:port/db`, or `rediss:` for TLS. Of several without
    /// `cluster` the first that answers is taken, so they must be ways to the same data. Default: this
    /// machine.
    pub urls: Vec<Url>,
    /// Whether `urls` are nodes of a Redis Cluster. `false` by default.
    pub cluster: bool,
    /// A file of certificates in PEM, whose holders are trusted to certify Redis, in place of those the
    /// system trusts; for `rediss:` with a certificate authority of one's own. Empty, which is none, by
    /// default.
    pub ca_file: PathBuf,
    /// Begins the name of every key that is ours, `footbridge` by default. Nodes that shall see each
    /// other have the same; 1 to 64 letters, digits and `.`, `_`, `-`.
    pub namespace: String,
    /// How long Redis may take to answer, 2 s by default. Then the connection is given up.
    #[serde(with = "humantime_serde")]
    pub command_timeout: Duration,
    /// How long one attempt to connect may take, 5 s by default.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The longest pause between two attempts to connect, 2 s by default. Pauses begin at 50 ms and
    /// double; each is shortened at random by up to a half.
    #[serde(with = "humantime_serde")]
    pub reconnect_pause: Duration,
}

/// A URL of Redis. It may hold a password, which neither `Display` nor `Debug` shows: they put `***` in
/// its place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

/// A value that no connection can be made with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key in the configuration.
    pub key: &'static str,
    /// What its value must be.
    pub why: String,
}

/// What stands for a password where a URL is shown.
const HIDDEN: &str = "***";

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            urls: vec![Url::from("redis://127.0.0.1:6379/")],
            cluster: false,
            ca_file: PathBuf::new(),
            namespace: "footbridge".to_owned(),
            command_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(5),
            reconnect_pause: Duration::from_secs(2),
        }
    }
}

impl RedisConfig {
    /// Whether a connection can be made with these values.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.to_owned() });
        if self.urls.is_empty() {
            return invalid("urls", "must name at least one Redis");
        }
        for url in &self.urls {
            let why = match url.parse() {
                Ok(info) if info.redis_settings().password() == Some(HIDDEN) => format!(
                    "{url:?} was shown without its password; write the password in place of the \
                     {HIDDEN}"
                ),
                Ok(info) if self.cluster && info.redis_settings().db() != 0 => {
                    format!("{url:?} names a database, and a Redis Cluster has only 0")
                }
                Ok(_) => continue,
                Err(why) => format!(
                    "{url:?} is no URL of Redis ({why}); write redis://user:password@host:6379/0"
                ),
            };
            return Err(Invalid { key: "urls", why });
        }
        if let Err(why) = self.authorities() {
            return Err(Invalid { key: "ca_file", why });
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=64).contains(&self.namespace.len()) || !self.namespace.chars().all(fits) {
            return invalid("namespace", "must be 1 to 64 letters, digits, dots, _ and -");
        }
        for (key, value) in [
            ("command_timeout", self.command_timeout),
            ("connect_timeout", self.connect_timeout),
            ("reconnect_pause", self.reconnect_pause),
        ] {
            if value.is_zero() {
                return invalid(key, "must be more than 0s");
            }
        }
        Ok(())
    }

    /// The certificates in `ca_file`, if there is one.
    pub(crate) fn authorities(&self) -> Result<Option<Vec<u8>>, String> {
        let file = &self.ca_file;
        if file.as_os_str().is_empty() {
            return Ok(None);
        }
        match std::fs::read_to_string(file) {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(Some(pem.into_bytes())),
            Ok(_) => {
                Err(format!("must hold certificates in PEM, and {} holds none", file.display()))
            }
            Err(why) => Err(format!("cannot be read: {}: {why}", file.display())),
        }
    }
}

impl Url {
    /// Says what is wrong without saying the URL, where a password may be anywhere.
    pub(crate) fn parse(&self) -> Result<ConnectionInfo, String> {
        if !self.0.starts_with("redis://") && !self.0.starts_with("rediss://") {
            return Err("it begins with neither redis:// nor rediss://".to_owned());
        }
        // What follows would be dropped without a word, or switch off the check of certificates.
        if self.0.contains('#') {
            return Err("it holds a #, which is written %23".to_owned());
        }
        // The parser's own words may quote what it stumbled over.
        let info = self.0.as_str().into_connection_info();
        info.map_err(|_| "its host, port or database cannot be read".to_owned())
    }

    /// Where it leads, without user and password.
    pub(crate) fn place(&self) -> String {
        match self.parse() {
            Ok(info) => info.addr().to_string(),
            Err(_) => HIDDEN.to_owned(),
        }
    }

    /// The URL with [`HIDDEN`] for its password; where it cannot be told what is the password, little
    /// more than what stands behind the last @.
    fn shown(&self) -> String {
        let scheme = self.0.find("://").map_or("", |end| &self.0[..end + 3]);
        let rest = &self.0[scheme.len()..];
        match (rest.rsplit_once('@'), self.parse().is_ok()) {
            (Some((who, place)), true) => match who.split_once(':') {
                Some((user, _)) => format!("{scheme}{user}:{HIDDEN}@{place}"),
                None => self.0.clone(),
            },
            (None, true) => self.0.clone(),
            (Some((_, place)), false) => format!("{HIDDEN}@{place}"),
            (None, false) => HIDDEN.to_owned(),
        }
    }
}

impl From<&str> for Url {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fit_to_run() {
        assert_eq!(RedisConfig::default().check(), Ok(()));
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_its_key() {
        let default = RedisConfig::default();
        let urls = |url: &str| RedisConfig { urls: vec![url.into()], ..RedisConfig::default() };
        let in_cluster = RedisConfig { cluster: true, ..urls("redis://redis/1") };
        for (config, key) in [
            (RedisConfig { urls: vec![], ..default.clone() }, "urls"),
            (urls("redis:6379"), "urls"),
            (urls("http://redis:6379"), "urls"),
            (urls("redis://redis:port"), "urls"),
            (urls("redis://redis:6379/x"), "urls"),
            (urls("rediss://redis:6379/#insecure"), "urls"),
            (urls("redis://:***@redis"), "urls"),
            (in_cluster, "urls"),
            (RedisConfig { ca_file: "/nowhere".into(), ..default.clone() }, "ca_file"),
            (RedisConfig { ca_file: "/dev/null".into(), ..default.clone() }, "ca_file"),
            (RedisConfig { namespace: String::new(), ..default.clone() }, "namespace"),
            (RedisConfig { namespace: "a{b}".to_owned(), ..default.clone() }, "namespace"),
            (RedisConfig { command_timeout: Duration::ZERO, ..default.clone() }, "command_timeout"),
            (RedisConfig { reconnect_pause: Duration::ZERO, ..default }, "reconnect_pause"),
        ] {
            assert_eq!(config.check().unwrap_err().key, key, "{config:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("redis://ann:secret@redis:6379/2", "redis://ann:***@redis:6379/2"),
            ("rediss://:se%40cret@redis", "rediss://:***@redis"),
            ("redis://ann@redis", "redis://ann@redis"),
            ("redis://redis:6379", "redis://redis:6379"),
            // No URLs of Redis, so anything may be the password.
            ("redis://ann:secret", "***"),
            ("redis://ann:secret@redis:port", "***@redis:port"),
            ("ann:secret@redis", "***@redis"),
            ("secret", "***"),
        ] {
            assert_eq!(Url::from(url).to_string(), shown);
            assert_eq!(format!("{:?}", Url::from(url)), format!("{shown:?}"));
        }
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in ["ann:secret@redis", "redis:secret", "redis://ann:secret", "http://a:secret@b"] {
            let config = RedisConfig { urls: vec![url.into()], ..RedisConfig::default() };
            let text = config.check().unwrap_err().to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
