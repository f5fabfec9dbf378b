//! Who a client is and what it may do: everything a client asks for passes here.

use async_trait::async_trait;
use broker::Destination;
use broker::destination::Verb;
use bytestring::ByteString;

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
}

/// Allows everything to everybody: `login` names the user, and no passcode is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

/// The user name of a session that named none.
const ANONYMOUS: ByteString = ByteString::from_static("anonymous");

#[async_trait]
impl Authorise for Open {
    async fn principal(&self, credentials: Credentials) -> Result<Principal, Refusal> {
        let name = credentials.login.filter(|login| !login.is_empty()).unwrap_or(ANONYMOUS);
        Ok(Principal { name })
    }

    fn check(&self, _: &Principal, _: Verb, _: &Destination) -> Result<(), Refusal> {
        Ok(())
    }
}
