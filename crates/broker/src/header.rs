//! Names of message headers: which of them are the server's.
//!
//! Whoever lets messages in asks here: the gateway drops such headers of a SEND, the notifier refuses
//! a request that holds one.

/// Headers that the protocol or the server sets on what a client receives.
const RESERVED: [&str; 8] = [
    "ack",
    "content-length",
    "destination",
    "message-id",
    "receipt",
    "redelivered",
    "subscription",
    "transaction",
];

/// What the names of the server's own headers begin with.
const OURS: &str = "x-footbridge-";

/// On a call of the application by a queue: the user's name.
pub const USER: &str = "x-footbridge-user";

/// On such a call: whether the user has proven to be that one, `true` or `false`.
pub const AUTHENTICATED: &str = "x-footbridge-authenticated";

/// On such a call: the session's id.
pub const SESSION: &str = "x-footbridge-session";

/// On such a call: the destination as the client spelled it. On any other message: the one it was sent to.
pub const DESTINATION: &str = "x-footbridge-destination";

/// On such a call: what is asked, `message` or `subscribe`.
pub const CALL: &str = "x-footbridge-call";

/// Whether a message may be given the header `name`, of those that are the server's, by the server's own parts.
/// Whoever lets messages in has taken it from those of others.
pub fn is_of_a_call(name: &str) -> bool {
    [USER, AUTHENTICATED, SESSION, DESTINATION, CALL].contains(&name)
}

/// Whether a sender may not set the header `name`, in any way that a client reads as one of those.
pub fn is_reserved(name: &str) -> bool {
    let name = as_read(name);
    // Not every reader of AMQP tells small letters from capitals, and these say who somebody is.
    let begins = name.get(..OURS.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(OURS));
    RESERVED.contains(&name) || begins
}

/// The header's name as the simplest client reads it: STOMP 1.0, which has no escapes, is written
/// control characters and colons as spaces, and its readers trim those.
pub fn as_read(name: &str) -> &str {
    name.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_would_read_as_a_reserved_name_is_one() {
        for name in [
            "message-id",
            " message-id",
            "\u{1}ack:",
            "\treceipt\n",
            "x-footbridge-user",
            "X-Footbridge-User",
        ] {
            assert!(is_reserved(name), "{name:?}");
        }
        for name in [
            "",
            "message",
            "acknowledged",
            "x-footbridge",
            "x-footbridgé-",
            "content-type",
            "reply-to",
        ] {
            assert!(!is_reserved(name), "{name:?}");
        }
    }
}
