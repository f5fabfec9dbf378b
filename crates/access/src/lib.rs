//! Who a client is, and what it may do.
//!
//! [`Access`] answers both: [`Access::principal`] from what a client shows, once per session, and
//! [`Access::check`] from memory, for each SEND and SUBSCRIBE. [`Access::caller`] is for services that call
//! by gRPC. [`Failures`] makes those wait who show something wrong again and again.
//!
//! ```text
//! credentials -> jwt (key, published, fetch) -> principal -> rules (who, pattern, template)
//!            \-> users (hash)               -/           \-> methods
//! ```
//!
//! Invariants
//! - Nothing is believed that was not checked, except a name where everything is open and nothing can be
//!   checked; such a principal is never [authenticated](Principal::is_authenticated).
//! - Neither a secret nor a token nor a passcode is in any text, be it for a client, a log or `Debug`.
//! - Every wait is bounded: for keys by `jwks_timeout`, for a hash by `hash_queue` before it.
//!
//! Not here: sockets, STOMP, ending a session when its principal expires, members of groups.

mod claims;
mod config;
mod credentials;
mod failures;
mod jwt;
pub mod methods;
mod principal;
mod redact;
mod refusal;
mod reread;
pub mod rules;
mod secret;
pub mod token;
mod users;

use std::sync::Arc;
use std::time::SystemTime;

use broker::Destinations;
use broker::destination::Destination;

pub use self::claims::Claims;
pub use self::config::{Anonymous, Config, Invalid, SHORTEST_SECRET};
pub use self::credentials::{Credentials, Place, Unreadable};
use self::credentials::{Places, Proof};
pub use self::failures::{Failures, Limits, MAX_ADDRESSES, TooMany};
use self::jwt::Verifier;
pub use self::jwt::{MAX_TOKEN, TokenError};
pub use self::methods::Permissions;
pub use self::principal::{ANONYMOUS, Authentication, MAX_NAME, Principal};
pub use self::redact::without_tokens;
pub use self::refusal::Refusal;
pub use self::rules::{Action, Forbidden, Rules};
use self::rules::{By, Otherwise};
pub use self::secret::Secret;
use self::users::{LoginError, Users};

/// Knows who somebody is and what they may do, by one configuration.
#[derive(Debug)]
pub struct Access {
    rules: Rules,
    verifier: Option<Verifier>,
    users: Option<Users>,
    places: Places,
    /// Whether those who show nothing are let in.
    anonymous: bool,
    /// Whether those who show nothing are who they say they are.
    believing: bool,
    grpc_roles: methods::Roles,
    failure_limits: Limits,
}

/// A service that calls by gRPC.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    /// What it may call.
    pub permissions: Permissions,
}

impl Access {
    /// Reads the files that `config` names and begins to fetch `jwks_url`, for which it must be called
    /// within a tokio runtime. That the URL does not answer is no error. `destinations` is the table of
    /// prefixes that rules are written by.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn start(config: &Config, destinations: &Destinations) -> Result<Self, Invalid> {
        config.check(destinations)?;
        let rules = Rules::new(&config.rules, config.otherwise, destinations)
            .map_err(|why| Invalid { key: "rules", why: why.to_string() })?;
        let verifier = Verifier::start(config).map_err(|(key, why)| Invalid { key, why })?;
        let users = if config.users_file.as_os_str().is_empty() {
            None
        } else {
            let users = Users::open(&config.users_file, config.hash_threads, config.hash_queue);
            Some(users.map_err(|why| Invalid { key: "users_file", why })?)
        };
        Ok(Self {
            rules,
            verifier,
            users,
            places: config.places(),
            anonymous: config.lets_anonymous_in(),
            believing: config.rules == rules::Config::Open && !config.can_authenticate(),
            grpc_roles: config.grpc_roles.clone(),
            failure_limits: config.failure_limits(),
        })
    }

    /// Whether everybody is who they say and may do everything.
    pub fn is_open(&self) -> bool {
        self.believing
    }

    /// Whether tokens can be checked: a key is configured.
    pub fn checks_tokens(&self) -> bool {
        self.verifier.is_some()
    }

    /// Why the last fetch of `jwks_url` failed, if it did: for the operator.
    pub fn key_failure(&self) -> Option<Arc<str>> {
        self.verifier.as_ref()?.failure()
    }

    /// How failures of an address count, for whoever keeps [`Failures`].
    pub fn failure_limits(&self) -> Limits {
        self.failure_limits
    }

    /// Who shows these credentials, at the time `now`. See [`Credentials`] for what counts.
    pub async fn principal(
        &self,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Result<Principal, Refusal> {
        let shown = credentials.shown(&self.places)?;
        let mut proofs: Vec<&Proof> = Vec::new();
        for (_, proof) in &shown.explicit {
            if !proofs.contains(&proof) {
                proofs.push(proof);
            }
        }
        // A hash is not computed to find that out.
        if proofs.iter().filter(|proof| matches!(proof, Proof::Passcode { .. })).count() > 1 {
            return Err(Refusal::Conflicting);
        }
        let mut found: Option<Principal> = None;
        for proof in proofs {
            let principal = self.prove(proof, now).await?;
            match &found {
                None => found = Some(principal),
                Some(first) if first.name == principal.name => {}
                Some(_) => return Err(Refusal::Conflicting),
            }
        }
        match (found, &shown.cookie) {
            (Some(found), None) => Ok(found),
            // A browser sends a cookie by itself, also an old one.
            (Some(found), Some(cookie)) => match self.prove(cookie, now).await {
                Ok(other) if other.name != found.name => Err(Refusal::Conflicting),
                _ => Ok(found),
            },
            (None, Some(cookie)) => self.prove(cookie, now).await,
            (None, None) => self.unproven(credentials),
        }
    }

    /// Whether two requests show the same of what can be checked here; none if neither shows anything. Says
    /// nothing of whether it is worth anything.
    pub fn shows_the_same(&self, one: &Credentials, other: &Credentials) -> Option<bool> {
        match (one.shown(&self.places), other.shown(&self.places)) {
            (Ok(one), Ok(other)) => {
                let any = one.cookie.is_some() || !one.explicit.is_empty();
                let same = one.explicit == other.explicit && one.cookie == other.cookie;
                (any || !same).then_some(same)
            }
            (Err(_), _) | (_, Err(_)) => Some(false),
        }
    }

    /// Whose token this is, at the time `now`: for one that comes later, to extend a session.
    pub async fn token(&self, token: &str, now: SystemTime) -> Result<Principal, Refusal> {
        match &self.verifier {
            Some(verifier) => Ok(verifier.verify(token, now).await?),
            None => Err(Refusal::Missing("this server has no key to check tokens with")),
        }
    }

    /// Whether `principal` may have `action` of `destination`. Answers from memory.
    ///
    /// # Errors
    /// It may not; the text is for the client.
    pub fn check(
        &self,
        principal: &Principal,
        action: Action,
        destination: &Destination,
    ) -> Result<(), Forbidden> {
        self.rules.check(principal, action, destination)
    }

    /// Whether `principal` may have `action` of a group that no rule is about only as one of its members, which
    /// is the caller's to find out. A SUBSCRIBE is for members in any case.
    pub fn asks_membership(
        &self,
        principal: &Principal,
        action: Action,
        group: &Destination,
    ) -> bool {
        let by = self.rules.decide(principal, action, group).by;
        action == Action::Subscribe || by == By::Otherwise(Otherwise::Default)
    }

    /// Who calls by gRPC with that metadata `authorization`, which must be `Bearer` and a token, and what
    /// they may call.
    pub async fn caller(
        &self,
        authorization: Option<&str>,
        now: SystemTime,
    ) -> Result<Caller, Refusal> {
        let token = authorization.and_then(credentials::bearer);
        let token =
            token.ok_or(Refusal::Missing("send the metadata authorization: Bearer <token>"))?;
        let principal = self.token(token, now).await?;
        let permissions = Permissions::of(&principal, &self.grpc_roles);
        Ok(Caller { principal, permissions })
    }

    /// What whoever has `roles` may call by gRPC, such as somebody whom a certificate names.
    pub fn permissions_of<'a>(&self, roles: impl IntoIterator<Item = &'a str>) -> Permissions {
        Permissions::of_roles(roles, &self.grpc_roles)
    }

    /// Whether roles are given gRPC methods.
    pub fn has_grpc_roles(&self) -> bool {
        !self.grpc_roles.is_empty()
    }

    /// What a token says and whether it is accepted, for a person; none if no key is configured.
    pub async fn explain(&self, token: &str, now: SystemTime) -> Option<token::Explanation> {
        let verdict = self.verifier.as_ref()?.verify(token, now).await;
        Some(token::Explanation::new(token, verdict))
    }

    async fn prove(&self, proof: &Proof, now: SystemTime) -> Result<Principal, Refusal> {
        match proof {
            Proof::Token(token) => self.token(token, now).await,
            Proof::Passcode { name, passcode } => match &self.users {
                Some(users) => users.log_in(name, passcode).await.map_err(|why| match why {
                    LoginError::Wrong => Refusal::Passcode,
                    LoginError::Busy => Refusal::Busy,
                }),
                None => Err(Refusal::Passcode),
            },
        }
    }

    /// Somebody who showed nothing that can be checked.
    fn unproven(&self, credentials: &Credentials) -> Result<Principal, Refusal> {
        if !self.anonymous {
            return Err(Refusal::Missing(match (&self.verifier, &self.users) {
                (Some(_), None) => "give a token in CONNECT's header Authorization: Bearer <token>",
                (None, Some(_)) => "give login and passcode in CONNECT",
                (Some(_), Some(_)) => {
                    "give a token in CONNECT's header Authorization: Bearer <token>, or login and \
                     passcode"
                }
                (None, None) => "but this server has neither a key for tokens nor users",
            }));
        }
        match credentials.said_name().filter(|_| self.believing) {
            None => Ok(Principal::anonymous()),
            Some(name) => match principal::wrong_with_name(name) {
                Some(_) => Err(Unreadable {
                    place: Place::ConnectLogin,
                    why: "hold a name that is longer than 255 bytes or has control characters",
                }
                .into()),
                None => Ok(Principal::without_claims(name.into(), Authentication::Unproven)),
            },
        }
    }
}
