//! A fresh token: a SEND to `/app/~/token` (by whatever prefix is of kind `app`) with the token as its body,
//! or without a body and with the token in its header `Authorization`, by `Bearer` or alone.
//!
//! It takes no rule to be sent, and reaches no application. The session lasts as long as the token that came
//! last, and what it asks for from then on is decided by that token's claims; what it has subscribed to it
//! keeps. A token that is not accepted, or is another user's, ends the session: STOMP has no other way to
//! tell it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use access::Principal;
use broker::Destination;
use broker::destination::Verb;
use futures_util::future::BoxFuture;
use stomp::Title;
use stomp::action::Publish;
use tokio::time::Instant;

use super::{Refused, Relay};
use crate::close::CloseReason;

/// What follows the prefix.
const PATH: &str = "~/token";

/// Below it everything is the gateway's own.
const OWN: &str = "~/";

impl Relay {
    /// Whom the session belongs to.
    pub(crate) fn principal(&self) -> &Principal {
        &self.caller.principal
    }

    /// When the principal expires.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Whether the principal has expired.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether this SEND brings a fresh token.
    pub(crate) fn is_renewal(&self, publish: &Publish) -> bool {
        // Most are ruled out without being parsed.
        publish.destination.ends_with(PATH)
            && match self.node.destinations.parse(&publish.destination, Verb::Send) {
                Ok(Destination::App(app)) => *app.path == *PATH,
                _ => false,
            }
    }

    /// Looks at a fresh token.
    pub(crate) fn renew(
        &self,
        publish: Publish,
        address: IpAddr,
    ) -> BoxFuture<'static, Result<Principal, Refused>> {
        let (node, current) = (Arc::clone(&self.node), Arc::clone(&self.caller.principal));
        Box::pin(async move {
            let token = token(&publish).ok_or_else(|| {
                Refused::titled(
                    Title::ProcessingError,
                    CloseReason::Protocol,
                    format!("SEND to {} holds no token: give it as the body", publish.destination),
                )
            })?;
            node.door.renew(address, &current, token).await
        })
    }

    /// The session belongs to this principal from `now` on.
    pub(crate) fn renewed(&mut self, principal: Principal, now: Instant) {
        self.expires_at = deadline(&principal, now);
        self.caller.principal = Arc::new(principal);
    }
}

/// Whether that path below the application's prefix is the gateway's own.
pub(super) fn is_own(path: &str) -> bool {
    path.starts_with(OWN)
}

/// When `principal` expires, by the clock that sessions go by.
pub(crate) fn deadline(principal: &Principal, now: Instant) -> Option<Instant> {
    let left = principal.expires_at?.duration_since(SystemTime::now()).unwrap_or_default();
    // What is beyond the clock's end is never.
    now.checked_add(left)
}

fn token(publish: &Publish) -> Option<&str> {
    let text = match publish.body.is_empty() {
        false => str::from_utf8(&publish.body).ok()?,
        true => {
            let mut headers = publish.headers.iter();
            headers.find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?.1
        }
    };
    let text = text.trim();
    let token = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(headers: &[(&'static str, &'static str)], body: &'static [u8]) -> Option<String> {
        let publish = Publish {
            destination: "/app/~/token".into(),
            headers: headers.iter().copied().collect(),
            body: body.into(),
            receipt: None,
        };
        token(&publish).map(str::to_owned)
    }

    #[test]
    fn a_token_is_the_body_or_else_in_the_header() {
        let header = [("Authorization", "Bearer in.header")];
        assert_eq!(token_of(&[], b" in.body\n").as_deref(), Some("in.body"));
        assert_eq!(token_of(&header, b"Bearer in.body").as_deref(), Some("in.body"));
        assert_eq!(token_of(&header, b"").as_deref(), Some("in.header"));
        assert_eq!(token_of(&[("authorization", "alone")], b"").as_deref(), Some("alone"));
        for nothing in [token_of(&[], b""), token_of(&[], b" "), token_of(&[], b"\xff")] {
            assert_eq!(nothing, None);
        }
    }
}
