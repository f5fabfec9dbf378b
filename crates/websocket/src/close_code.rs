//! The status codes a Close frame may carry: RFC 6455 section 7.4 and the IANA registry it founded.
//!
//! Codes 1005, 1006 and 1015 are absent: they describe how a connection ended and never travel.

/// The purpose of the connection is fulfilled.
pub const NORMAL: u16 = 1000;
/// The server goes down, or the browser leaves the page.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke a rule of RFC 6455.
pub const PROTOCOL_ERROR: u16 = 1002;
/// A message of a type that is not understood here, such as binary where only text is.
pub const UNSUPPORTED_DATA: u16 = 1003;
/// A text message, or a Close frame's reason, that is not UTF-8.
pub const INVALID_PAYLOAD: u16 = 1007;
/// The message breaks a policy; for whatever no other code fits.
pub const POLICY_VIOLATION: u16 = 1008;
/// The message is larger than accepted here.
pub const MESSAGE_TOO_BIG: u16 = 1009;
/// The client wanted an extension the server did not negotiate; only a client sends it.
pub const MANDATORY_EXTENSION: u16 = 1010;
/// The server met something unexpected.
pub const INTERNAL_ERROR: u16 = 1011;
/// The server restarts; reconnect after a random delay.
pub const SERVICE_RESTART: u16 = 1012;
/// The server is overloaded; reconnect later, or elsewhere.
pub const TRY_AGAIN_LATER: u16 = 1013;
/// The server is a gateway, and what is behind it answered badly.
pub const BAD_GATEWAY: u16 = 1014;

/// Whether `code` may stand in a Close frame: a registered code (1000-1003, 1007-1014), or one left to
/// libraries (3000-3999) and applications (4000-4999).
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_library_and_application_codes_may_be_sent() {
        for code in [1000, 1001, 1002, 1003, 1007, 1010, 1014, 3000, 3999, 4000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
    }

    #[test]
    fn codes_that_never_travel_may_not_be_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!may_be_sent(code), "{code}");
        }
    }
}
