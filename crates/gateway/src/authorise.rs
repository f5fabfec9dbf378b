//! Who a client is and what it may do: everything a client asks for passes here.

use std::fmt;

use async_trait::async_trait;
use broker::Destination;
use broker::destination::Verb;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// Who a session belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user's name; CONNECTED shows it as `user-name`.
    pub name: ByteString,
}

/// What a client shows when it connects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The `login` header of CONNECT.
    pub login: Option<ByteString>,
    /// The `passcode` header of CONNECT.
    pub passcode: Option<ByteString>,
}

/// Why a client was turned away. The text reaches the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not who it says it is.
    #[error("{0}")]
    Unauthenticated(String),
    /// It may not do this.
    #[error("{0}")]
    Forbidden(String),
}

/// Decides who clients are and what they may do.
#[async_trait]
pub trait Authorise: Send + Sync + 'static {
    /// Who shows these credentials.
    async fn principal(&self, credentials: Credentials) -> Result<Principal, Refusal>;

    /// Whether `principal` may `verb` to or from `destination`. Called for every SEND and SUBSCRIBE,
    /// so it answers from memory.
    fn check(
        &self,
        principal: &Principal,
        verb: Verb,
        destination: &Destination,
    ) -> Result<(), Refusal>;

    /// Whether `principal`, who may SUBSCRIBE to `destination`, may have a queue of its own at the
    /// broker for it; asked of topics, exchanges and temp-queues. Answers from memory.
    fn own_queue(&self, principal: &Principal, destination: &Destination) -> Result<(), Refusal>;
}

/// Who may do what, as long as nobody can prove who they are. In configuration `access.rules`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// Everybody is anonymous, whatever they say, and may listen to topics and send to the
    /// application.
    #[default]
    Default,
    /// Everybody is who they say they are and may do everything.
    Open,
}

/// As the configuration says it.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Open => "open",
        })
    }
}

/// The user name of a session that named none, or is not believed.
const ANONYMOUS: ByteString = ByteString::from_static("anonymous");

#[async_trait]
impl Authorise for Rules {
    async fn principal(&self, credentials: Credentials) -> Result<Principal, Refusal> {
        let said = credentials.login.filter(|login| !login.is_empty());
        let name = match self {
            Self::Default => ANONYMOUS,
            Self::Open => said.unwrap_or(ANONYMOUS),
        };
        Ok(Principal { name })
    }

    fn check(&self, _: &Principal, verb: Verb, destination: &Destination) -> Result<(), Refusal> {
        match (self, verb, destination) {
            (Self::Open, _, _)
            | (Self::Default, Verb::Subscribe, Destination::Topic(_))
            | (Self::Default, Verb::Send, Destination::App(_)) => Ok(()),
            (Self::Default, _, _) => Err(Refusal::Forbidden(format!(
                "{verb} to {kind} destinations is not allowed: clients may SUBSCRIBE to topics and \
                 SEND to the application, unless the server's configuration says \
                 access.rules = \"open\"",
                kind = destination.kind(),
            ))),
        }
    }

    fn own_queue(&self, _: &Principal, destination: &Destination) -> Result<(), Refusal> {
        match self {
            Self::Open => Ok(()),
            Self::Default => Err(Refusal::Forbidden(format!(
                "a queue of one's own for {kind} destinations is not allowed: leave out headers that \
                 ask for one, unless the server's configuration says access.rules = \"open\"",
                kind = destination.kind(),
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::Destinations;

    use super::*;

    fn allowed(rules: Rules, verb: Verb, destination: &str) -> bool {
        let destination = Destinations::default().parse(destination, verb).unwrap();
        let anonymous = Principal { name: ANONYMOUS };
        match rules.check(&anonymous, verb, &destination) {
            Ok(()) => true,
            Err(Refusal::Forbidden(why)) => {
                assert!(why.contains("access.rules = \"open\""), "{why}");
                false
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn by_default_clients_listen_to_topics_and_send_to_the_application_only() {
        for (verb, destination, expected) in [
            (Verb::Subscribe, "/topic/a", true),
            (Verb::Subscribe, "/topic/#", true),
            (Verb::Send, "/app/message", true),
            (Verb::Send, "/topic/a", false),
            (Verb::Subscribe, "/app/message", false),
            (Verb::Send, "/queue/q", false),
            (Verb::Subscribe, "/queue/q", false),
            (Verb::Subscribe, "/exchange/amq.topic/#", false),
            (Verb::Send, "/amq/queue/q", false),
            (Verb::Send, "/user/ann/queue/x", false),
            (Verb::Subscribe, "/user/queue/x", false),
            (Verb::Subscribe, "/group/g", false),
        ] {
            assert_eq!(
                allowed(Rules::Default, verb, destination),
                expected,
                "{verb} {destination}"
            );
            assert!(allowed(Rules::Open, verb, destination), "{verb} {destination}");
        }
    }

    #[test]
    fn by_default_nobody_has_a_queue_of_its_own() {
        let anonymous = Principal { name: ANONYMOUS };
        for destination in ["/topic/a", "/exchange/x/k", "/temp-queue/t"] {
            let destination = Destinations::default().parse_reply_to(destination).unwrap();
            assert_eq!(Rules::Open.own_queue(&anonymous, &destination), Ok(()));
            let refusal = Rules::Default.own_queue(&anonymous, &destination).unwrap_err();
            assert!(refusal.to_string().contains("access.rules = \"open\""), "{refusal}");
        }
    }

    #[tokio::test]
    async fn a_name_without_a_proof_is_believed_only_where_everything_is_open() {
        let said = Credentials { login: Some("ann".into()), passcode: Some("secret".into()) };
        for (rules, name) in [(Rules::Default, "anonymous"), (Rules::Open, "ann")] {
            assert_eq!(rules.principal(said.clone()).await.unwrap().name, name);
            let silent = rules.principal(Credentials::default()).await.unwrap();
            assert_eq!(silent.name, "anonymous");
        }
    }
}
