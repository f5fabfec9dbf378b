//! Which service is behind which prefix, section `[application]`.

use std::path::PathBuf;
use std::time::Duration;

use broker::destination::Verb;
use broker::{Destination, Destinations};
use bytesize::ByteSize;
use http::{HeaderName, Uri};
use serde::{Deserialize, Serialize};

/// The longest timeout of a route.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// Which service is behind which prefix, and what each may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// HTTP headers of the handshake, and headers of CONNECT, that connect hooks are shown.
    pub hook_headers: Vec<String>,
    /// Parameters of the URL's query that connect hooks are shown.
    pub hook_query: Vec<String>,
    /// Cookies that connect hooks are shown.
    pub hook_cookies: Vec<String>,
    /// The longest answer of a service by gRPC, 4 MiB by default; a longer one fails its call.
    pub max_answer: ByteSize,
    /// The services. A call goes to the one of the longest prefix.
    pub routes: Vec<RouteConfig>,
}

/// One service: by gRPC, or by a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// What its destinations begin with: a prefix of kind `app`, and any number of words behind it.
    pub prefix: String,
    /// Where it serves `footbridge.v1.Application`: URLs of equals, which take turns.
    pub grpc: Vec<String>,
    /// A file of certificates in PEM, whose holders are trusted to certify `https` addresses, in place of
    /// those the system trusts; "" is none.
    pub ca_file: PathBuf,
    /// The queue that it consumes, in place of `grpc`.
    pub queue: String,
    /// Whether a consumer of `queue` replies; if not, a call is done once the broker has it.
    pub reply: bool,
    /// How long a call may take, 10 s by default.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Most calls in flight, 256 by default.
    pub max_concurrent: usize,
    /// Whether it is asked about clients that connect, and told which are gone.
    pub hook: Asked,
}

/// Whether a service is asked about clients that connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// It is not.
    #[default]
    Off,
    /// It is, and without its word nobody is let in.
    Required,
    /// It is; while it does not answer, clients are let in.
    Optional,
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
            hook_headers: Vec::new(),
            hook_query: Vec::new(),
            hook_cookies: Vec::new(),
            max_answer: ByteSize::mib(4),
            routes: Vec::new(),
        }
    }
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            grpc: Vec::new(),
            ca_file: PathBuf::new(),
            queue: String::new(),
            reply: true,
            timeout: Duration::from_secs(10),
            max_concurrent: 256,
            hook: Asked::Off,
        }
    }
}

impl Config {
    /// Refuses what could not work.
    ///
    /// # Errors
    /// What is wrong, with its key.
    pub fn check(&self, destinations: &Destinations) -> Result<(), Invalid> {
        let invalid = |key, why: String| Err(Invalid { key, why });
        for name in &self.hook_headers {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return invalid("hook_headers", format!("{name:?} is no name of a header"));
            }
        }
        for (key, names) in [("hook_query", &self.hook_query), ("hook_cookies", &self.hook_cookies)]
        {
            if names.iter().any(String::is_empty) {
                return invalid(key, "a name is empty".into());
            }
        }
        if self.max_answer < ByteSize::kib(1) || self.max_answer > ByteSize::mib(64) {
            return invalid("max_answer", "use 1 KiB to 64 MiB".into());
        }
        for (n, route) in self.routes.iter().enumerate() {
            route.check(destinations).map_err(|why| Invalid {
                key: "routes",
                why: format!("the route of {:?}: {why}", route.prefix),
            })?;
            if self.routes[..n].iter().any(|other| other.prefix == route.prefix) {
                return invalid("routes", format!("two routes have the prefix {:?}", route.prefix));
            }
        }
        Ok(())
    }

    /// The limit on answers in bytes.
    pub(crate) fn max_answer_bytes(&self) -> usize {
        // What this machine cannot address is as good as no limit.
        usize::try_from(self.max_answer.as_u64()).unwrap_or(usize::MAX)
    }
}

impl RouteConfig {
    fn check(&self, destinations: &Destinations) -> Result<(), String> {
        // Its own destination may be the prefix itself, to which nothing can be sent.
        let within = destinations.parse(&format!("{}/x", self.prefix), Verb::Send);
        if !matches!(within, Ok(Destination::App(_))) || self.prefix.ends_with('/') {
            return Err(
                "its prefix is under none of kind app; use \"/app\" or \"/app/orders\", say".into(),
            );
        }
        match (self.grpc.is_empty(), self.queue.is_empty()) {
            (true, true) => return Err("it has neither grpc nor queue: where does it go?".into()),
            (false, false) => return Err("it has both grpc and queue; give one".into()),
            _ => {}
        }
        for url in &self.grpc {
            let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
            let scheme = uri.scheme_str();
            if !matches!(scheme, Some("http" | "https"))
                || uri.path().len() > 1
                || uri.query().is_some()
            {
                return Err(format!(
                    "{url:?}: use a URL such as \"http://127.0.0.1:9090\", without a path"
                ));
            }
        }
        if self.queue.len() > 255 || self.queue.chars().any(char::is_control) {
            return Err(
                "the name of its queue is longer than 255 bytes, or holds a control character"
                    .into(),
            );
        }
        if self.hook != Asked::Off && self.grpc.is_empty() {
            return Err("only a service that speaks gRPC can have a hook".into());
        }
        if !self.reply && !self.grpc.is_empty() {
            return Err("reply = false is for queues only".into());
        }
        if self.timeout < Duration::from_millis(10) || self.timeout > LONGEST {
            return Err("its timeout is not from 10ms to 10m".into());
        }
        if self.max_concurrent == 0 || self.max_concurrent > 100_000 {
            return Err("its max_concurrent is not from 1 to 100000".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let config: Config = toml::from_str(text).unwrap();
        config.check(&Destinations::default()).unwrap_err().to_string()
    }

    #[test]
    fn what_can_work_passes() {
        let text = "
            hook_headers = ['user-agent']
            [[routes]]
            prefix = '/app'
            grpc = ['http://127.0.0.1:9090', 'https://chat.example']
            hook = 'required'
            [[routes]]
            prefix = '/app/orders'
            queue = 'orders'
            reply = false
            timeout = '2s'";
        let config: Config = toml::from_str(text).unwrap();
        config.check(&Destinations::default()).unwrap();
        assert_eq!(config.routes[0].timeout, Duration::from_secs(10));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let grpc = "grpc = ['http://h:1']";
        for (text, words) in [
            ("hook_headers = ['a b']".to_owned(), "hook_headers: \"a b\" is no name"),
            ("hook_query = ['']".to_owned(), "hook_query: a name is empty"),
            ("max_answer = '1 B'".to_owned(), "max_answer: use 1 KiB"),
            (format!("[[routes]]\nprefix = '/topic'\n{grpc}"), "under none of kind app"),
            (format!("[[routes]]\nprefix = '/app/'\n{grpc}"), "under none of kind app"),
            ("[[routes]]\nprefix = '/app'".to_owned(), "neither grpc nor queue"),
            (format!("[[routes]]\nprefix = '/app'\nqueue = 'q'\n{grpc}"), "both grpc and queue"),
            ("[[routes]]\nprefix = '/app'\ngrpc = ['h:1']".to_owned(), "use a URL such as"),
            ("[[routes]]\nprefix = '/app'\ngrpc = ['http://h/x']".to_owned(), "without a path"),
            (
                "[[routes]]\nprefix = '/app'\nqueue = 'q'\nhook = 'required'".to_owned(),
                "can have a hook",
            ),
            (format!("[[routes]]\nprefix = '/app'\nreply = false\n{grpc}"), "for queues only"),
            (format!("[[routes]]\nprefix = '/app'\ntimeout = '1ms'\n{grpc}"), "timeout"),
            (format!("[[routes]]\nprefix = '/app'\nmax_concurrent = 0\n{grpc}"), "max_concurrent"),
            (
                format!("[[routes]]\nprefix = '/app'\n{grpc}\n[[routes]]\nprefix = '/app'\n{grpc}"),
                "two routes have the prefix \"/app\"",
            ),
        ] {
            let said = wrong(&text);
            assert!(said.contains(words), "{text}: {said}");
        }
        assert!(toml::from_str::<Config>("[[routes]]\nprefixx = '/app'").is_err());
    }
}
