//! The `[access]` section of the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::Destinations;
use http::Uri;
use serde::{Deserialize, Serialize};

use crate::credentials::Places;
use crate::failures::Limits;
use crate::jwt::{self, MIN_SECRET};
use crate::methods;
use crate::rules::{self, Otherwise, Rules};
use crate::secret::Secret;
use crate::users::Users;

/// Who clients are and what they may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may do what: `"default"`, `"open"` or a list of rules. `"default"` by default.
    pub rules: rules::Config,
    /// What becomes of a request that no rule of a list is about: `"default"`, `"deny"` or `"open"`.
    pub otherwise: Otherwise,
    /// Whether clients that show nothing are let in: `"auto"` (while nothing can be shown, for neither a
    /// key nor a users file is configured), `"allow"` or `"refuse"`. `"auto"` by default.
    pub anonymous: Anonymous,
    /// The secret that tokens are signed with (HS256, HS384, HS512); at least 32 bytes, `base64:` in front
    /// of bytes in base64. At most one of this and the next three is given.
    pub jwt_secret: Secret,
    /// A file with the public key of whoever signs tokens, in PEM.
    pub jwt_key_file: PathBuf,
    /// A file with such keys, a JSON Web Key Set.
    pub jwks_file: PathBuf,
    /// A URL where the issuer of tokens publishes its keys, a JSON Web Key Set.
    pub jwks_url: String,
    /// A file of certificates in PEM, whose holders are trusted to certify `jwks_url`, besides those the
    /// system trusts.
    pub jwks_ca_file: PathBuf,
    /// Whether `jwks_url` may be `http:` elsewhere than on this machine. Whoever is on the way can then
    /// make tokens.
    pub jwks_plain_http: bool,
    /// When the keys at `jwks_url` are fetched again, 1 h by default.
    #[serde(with = "humantime_serde")]
    pub jwks_max_age: Duration,
    /// The least time between two fetches, however many tokens name keys that are not known; and the pause
    /// after one that failed. 30 s by default.
    #[serde(with = "humantime_serde")]
    pub jwks_min_interval: Duration,
    /// How long a fetch may take, 5 s by default.
    #[serde(with = "humantime_serde")]
    pub jwks_timeout: Duration,
    /// Issuers (`iss`) whose tokens are accepted; none is any that have the key.
    pub jwt_issuers: Vec<String>,
    /// Audiences (`aud`) that tokens may be for; none accepts tokens without an audience only.
    pub jwt_audiences: Vec<String>,
    /// How far clocks may differ, 30 s by default: so much longer a token is good, and so much earlier.
    #[serde(with = "humantime_serde")]
    pub jwt_leeway: Duration,
    /// Whether a token must say when it expires. So by default.
    pub jwt_require_exp: bool,
    /// The claim that is the user's name, `sub` by default.
    pub jwt_user_claim: String,
    /// The claim that holds the user's roles, `roles` by default.
    pub jwt_roles_claim: String,
    /// The header of CONNECT in which a token stands alone, `token` by default; empty is none.
    pub token_header: String,
    /// Whether a token may stand in the URL, as `access_token`. So by default.
    pub token_query: bool,
    /// The cookie that holds a token; empty, which is none, by default.
    pub token_cookie: String,
    /// A file of users and hashes of their passcodes, for clients that log in with `login` and `passcode`
    /// or HTTP's Basic. Empty, which is none, by default.
    pub users_file: PathBuf,
    /// How many passcodes are checked at once, 2 by default: each takes a thread for as long as its hash
    /// wants.
    pub hash_threads: usize,
    /// How many more logins may wait for that, 100 by default; one more is told to try again.
    pub hash_queue: usize,
    /// How long the answer to something wrong waits the first time; each further time twice as long. 200 ms
    /// by default.
    #[serde(with = "humantime_serde")]
    pub failure_delay: Duration,
    /// The longest such wait, 10 s by default.
    #[serde(with = "humantime_serde")]
    pub max_failure_delay: Duration,
    /// After how many failures an address is refused unseen, 100 by default; 0 is never.
    pub max_failures: u32,
    /// After how long one failure of an address is forgotten, 10 s by default.
    #[serde(with = "humantime_serde")]
    pub failure_memory: Duration,
    /// Roles and the gRPC methods that whoever has one may call.
    pub grpc_roles: methods::Roles,
}

/// Whether clients that show nothing are let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// While nothing can be shown.
    #[default]
    Auto,
    /// They are.
    Allow,
    /// They are not.
    Refuse,
}

/// A value that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key in the configuration.
    pub key: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// Where the keys are that tokens are checked with.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    Secret(&'a Secret),
    KeyFile(&'a Path),
    JwksFile(&'a Path),
    JwksUrl(Uri),
}

impl Source<'_> {
    /// The key in the configuration.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Secret(_) => "jwt_secret",
            Self::KeyFile(_) => "jwt_key_file",
            Self::JwksFile(_) => "jwks_file",
            Self::JwksUrl(_) => "jwks_url",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rules: rules::Config::Default,
            otherwise: Otherwise::Default,
            anonymous: Anonymous::Auto,
            jwt_secret: Secret::default(),
            jwt_key_file: PathBuf::new(),
            jwks_file: PathBuf::new(),
            jwks_url: String::new(),
            jwks_ca_file: PathBuf::new(),
            jwks_plain_http: false,
            jwks_max_age: Duration::from_secs(60 * 60),
            jwks_min_interval: Duration::from_secs(30),
            jwks_timeout: Duration::from_secs(5),
            jwt_issuers: Vec::new(),
            jwt_audiences: Vec::new(),
            jwt_leeway: Duration::from_secs(30),
            jwt_require_exp: true,
            jwt_user_claim: "sub".to_owned(),
            jwt_roles_claim: "roles".to_owned(),
            token_header: "token".to_owned(),
            token_query: true,
            token_cookie: String::new(),
            users_file: PathBuf::new(),
            hash_threads: 2,
            hash_queue: 100,
            failure_delay: Duration::from_millis(200),
            max_failure_delay: Duration::from_secs(10),
            max_failures: 100,
            failure_memory: Duration::from_secs(10),
            grpc_roles: methods::Roles::new(),
        }
    }
}

impl Config {
    /// Whether clients can be told apart and judged by these values: reads the files that they name, but
    /// asks no URL. `destinations` is the table of prefixes that rules are written by.
    pub fn check(&self, destinations: &Destinations) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.to_owned() });
        Rules::new(&self.rules, self.otherwise, destinations)
            .map_err(|why| Invalid { key: "rules", why: why.to_string() })?;
        self.check_key()?;
        for (key, claim) in
            [("jwt_user_claim", &self.jwt_user_claim), ("jwt_roles_claim", &self.jwt_roles_claim)]
        {
            if claim.is_empty() {
                return invalid(key, "must name a claim");
            }
        }
        for (key, time, least, most) in [
            ("jwks_max_age", self.jwks_max_age, Duration::from_secs(1), 7 * DAY),
            ("jwks_min_interval", self.jwks_min_interval, Duration::from_secs(1), DAY),
            ("jwks_timeout", self.jwks_timeout, Duration::from_millis(100), MINUTE),
            ("jwt_leeway", self.jwt_leeway, Duration::ZERO, 60 * MINUTE),
            ("failure_delay", self.failure_delay, Duration::ZERO, 10 * MINUTE),
            ("max_failure_delay", self.max_failure_delay, Duration::ZERO, 10 * MINUTE),
            ("failure_memory", self.failure_memory, Duration::from_millis(1), DAY),
        ] {
            if time < least || time > most {
                let [least, most] =
                    [least, most].map(humantime_serde::re::humantime::format_duration);
                return invalid(key, &format!("must be from {least} to {most}"));
            }
        }
        if self.jwks_min_interval > self.jwks_max_age {
            return invalid("jwks_min_interval", "must not be more than jwks_max_age");
        }
        if self.max_failures > 1_000_000 {
            return invalid("max_failures", "must be at most 1000000");
        }
        if !(1..=256).contains(&self.hash_threads) {
            return invalid("hash_threads", "must be 1 to 256");
        }
        if self.hash_queue > 1_000_000 {
            return invalid("hash_queue", "must be at most 1000000");
        }
        if self.token_header.eq_ignore_ascii_case("authorization") {
            return invalid("token_header", "Authorization is read in any case; leave this empty");
        }
        if self.token_header == "login" {
            return invalid("token_header", "must not be login, which is a name");
        }
        if self
            .token_cookie
            .contains(|c: char| !c.is_ascii_graphic() || "()<>@,;:\\\"/[]?={}".contains(c))
        {
            return invalid(
                "token_cookie",
                "must be a cookie's name: letters, digits, - and _, say",
            );
        }
        if self.users_file.as_os_str().is_empty() {
            return Ok(());
        }
        if self.token_header == "passcode" {
            return invalid(
                "token_header",
                "must not be passcode beside users_file: it could not be told which is meant",
            );
        }
        match Users::open(&self.users_file, 1, 0) {
            Ok(_) => Ok(()),
            Err(why) => invalid("users_file", &why),
        }
    }

    /// At most one source of keys, and that one good.
    fn check_key(&self) -> Result<(), Invalid> {
        let invalid = |key, why: String| Err(Invalid { key, why });
        let given: Vec<&'static str> = [
            ("jwt_secret", self.jwt_secret.is_empty()),
            ("jwt_key_file", self.jwt_key_file.as_os_str().is_empty()),
            ("jwks_file", self.jwks_file.as_os_str().is_empty()),
            ("jwks_url", self.jwks_url.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, empty)| (!empty).then_some(key))
        .collect();
        if let [first, second, ..] = given[..] {
            return invalid(second, format!("is there besides {first}; give one of them"));
        }
        if self.jwt_secret.is_hidden() {
            let why = "was shown without the secret; write the secret in place of the ***";
            return invalid("jwt_secret", why.to_owned());
        }
        if !self.jwks_url.is_empty() {
            let url: Uri = match self.jwks_url.parse() {
                Ok(url) => url,
                Err(why) => return invalid("jwks_url", format!("is no URL: {why}")),
            };
            if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
                let why = "must not hold a user or password, which would be shown";
                return invalid("jwks_url", why.to_owned());
            }
            let host = url.host().unwrap_or_default();
            let loopback = host == "localhost"
                || host
                    .trim_matches(['[', ']'])
                    .parse()
                    .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            match url.scheme_str() {
                Some("https") => {}
                Some("http") if loopback || self.jwks_plain_http => {}
                Some("http") => {
                    let why = "is not encrypted, so whoever is on the way could make tokens; use \
                               https:, or set jwks_plain_http where the network is trusted";
                    return invalid("jwks_url", why.to_owned());
                }
                _ => return invalid("jwks_url", "must begin with https://".to_owned()),
            }
        }
        if let Err(why) = jwt::authorities(&self.jwks_ca_file) {
            return invalid("jwks_ca_file", why);
        }
        match jwt::Verifier::check(self) {
            Ok(()) => Ok(()),
            Err((key, why)) => invalid(key, why),
        }
    }

    /// Where keys are; of several the first, though [`check`](Self::check) allows one only.
    pub(crate) fn source(&self) -> Option<Source<'_>> {
        if !self.jwt_secret.is_empty() {
            Some(Source::Secret(&self.jwt_secret))
        } else if !self.jwt_key_file.as_os_str().is_empty() {
            Some(Source::KeyFile(&self.jwt_key_file))
        } else if !self.jwks_file.as_os_str().is_empty() {
            Some(Source::JwksFile(&self.jwks_file))
        } else {
            self.jwks_url.parse().ok().filter(|_| !self.jwks_url.is_empty()).map(Source::JwksUrl)
        }
    }

    /// Whether tokens can be checked: a key is configured.
    pub fn checks_tokens(&self) -> bool {
        self.source().is_some()
    }

    /// Whether clients can show who they are.
    pub fn can_authenticate(&self) -> bool {
        self.checks_tokens() || !self.users_file.as_os_str().is_empty()
    }

    /// Whether clients that show nothing are let in.
    pub fn lets_anonymous_in(&self) -> bool {
        match self.anonymous {
            Anonymous::Auto => !self.can_authenticate(),
            Anonymous::Allow => true,
            Anonymous::Refuse => false,
        }
    }

    /// How failures of an address count.
    pub fn failure_limits(&self) -> Limits {
        Limits {
            delay: self.failure_delay,
            max_delay: self.max_failure_delay,
            limit: self.max_failures,
            forget: self.failure_memory,
        }
    }

    pub(crate) fn places(&self) -> Places {
        Places {
            tokens: self.checks_tokens(),
            passcodes: !self.users_file.as_os_str().is_empty(),
            token_header: self.token_header.clone(),
            query: self.token_query,
            cookie: self.token_cookie.clone(),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The shortest secret, for whoever makes one.
pub const SHORTEST_SECRET: usize = MIN_SECRET;

#[cfg(test)]
mod tests;
