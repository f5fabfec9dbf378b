//! The opening handshake: RFC 6455 section 4.2, on header values as plain strings. Sending the answer is the
//! HTTP layer's part.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use sha1::{Digest, Sha1};

use crate::origin::Origins;

/// Section 1.3: proves to the client that the server understood the handshake.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The sixteen bytes of a key leave four bits of its last letter unused. Clients that draw random letters
/// rather than random bytes set them; nothing depends on them.
const KEY_ENCODING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// An HTTP/1.1 request, as far as the handshake looks at it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// `Upgrade`.
    pub upgrade: Option<&'a str>,
    /// `Connection`, all its field lines joined by `, `.
    pub connection: Option<&'a str>,
    /// `Sec-WebSocket-Version`.
    pub version: Option<&'a str>,
    /// `Sec-WebSocket-Key`.
    pub key: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`, all its field lines joined by `, `.
    pub protocols: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Host`.
    pub host: Option<&'a str>,
    /// Whether the client is known to have come by TLS; see [`Origins::allow`].
    pub secure: bool,
}

/// What the answer, `101 Switching Protocols`, says besides `Upgrade: websocket` and `Connection: Upgrade`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// `Sec-WebSocket-Accept`.
    pub accept: String,
    /// `Sec-WebSocket-Protocol`; the header must be left out when there is none.
    pub protocol: Option<&'static str>,
    /// Whether the request named an Origin that was let in by name; see [`Origins::name`].
    pub origin_named: bool,
}

/// Why there is no WebSocket. The text is one sentence for the body of the answer, and says what would be
/// right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The method is not GET.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// No `Upgrade: websocket`: often a browser's address bar, or a proxy that does not pass it on.
    #[error(
        "this is a WebSocket endpoint: the request needs the header \"Upgrade: websocket\", \
         which a proxy on the way may have removed"
    )]
    Upgrade,
    /// No `Connection: Upgrade`.
    #[error(
        "this is a WebSocket endpoint: the request needs the header \"Connection: Upgrade\", \
         which a proxy on the way may have removed"
    )]
    Connection,
    /// The version is missing, or not 13.
    #[error("the request needs the header \"Sec-WebSocket-Version: 13\", the version of RFC 6455")]
    Version,
    /// The key is missing, or not 16 bytes in base64.
    #[error("the request needs the header \"Sec-WebSocket-Key\" with 16 bytes in base64")]
    Key,
    /// A page of this origin may not open a session.
    #[error(
        "pages of this origin may not connect: the page must be of the server's own origin, \
         or its origin must be among the allowed origins of this endpoint"
    )]
    Origin,
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Method => 405,
            Refusal::Upgrade | Refusal::Connection | Refusal::Key => 400,
            Refusal::Version => 426,
            Refusal::Origin => 403,
        }
    }

    /// The header, its name in lower case, that the answer must carry beside its body.
    pub fn header(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Refusal::Method => Some(("allow", "GET")),
            Refusal::Version => Some(("sec-websocket-version", "13")),
            Refusal::Upgrade | Refusal::Connection | Refusal::Key | Refusal::Origin => None,
        }
    }
}

/// Judges an opening handshake. The sub-protocol is the first that the client lists and `supported` contains,
/// in our spelling; without one in common there is none, and the client decides whether to stay.
pub fn accept(
    request: &Request<'_>,
    supported: &[&'static str],
    origins: &Origins,
) -> Result<Accepted, Refusal> {
    if request.method != "GET" {
        return Err(Refusal::Method);
    }
    if !lists(request.upgrade, "websocket") {
        return Err(Refusal::Upgrade);
    }
    if !lists(request.connection, "upgrade") {
        return Err(Refusal::Connection);
    }
    if request.version.map(str::trim) != Some("13") {
        return Err(Refusal::Version);
    }
    let key = request.key.map(str::trim).filter(|key| is_key(key)).ok_or(Refusal::Key)?;
    let (origin, host) = (request.origin.map(str::trim), request.host.map(str::trim));
    if !origins.allow(origin, host, request.secure) {
        return Err(Refusal::Origin);
    }
    let origin_named = origins.allow_by_name(origin, host, request.secure);
    let protocol = items(request.protocols).find_map(|wanted| {
        supported.iter().copied().find(|supported| supported.eq_ignore_ascii_case(wanted))
    });
    Ok(Accepted { accept: accept_key(key), protocol, origin_named })
}

fn items(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(',').map(str::trim)
}

fn lists(list: Option<&str>, wanted: &str) -> bool {
    items(list).any(|item| item.eq_ignore_ascii_case(wanted))
}

fn is_key(key: &str) -> bool {
    // 24 letters decode to 18 bytes at most, before the padding is looked at.
    let mut bytes = [0; 18];
    key.len() == 24 && KEY_ENCODING.decode_slice(key, &mut bytes) == Ok(16)
}

fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    general_purpose::STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOMP: &[&str] = &["v12.stomp", "v11.stomp", "v10.stomp"];

    /// The request of section 1.2, without its sub-protocols, from a page of the server.
    fn request() -> Request<'static> {
        Request {
            method: "GET",
            upgrade: Some("websocket"),
            connection: Some("Upgrade"),
            version: Some("13"),
            key: Some("dGhlIHNhbXBsZSBub25jZQ=="),
            protocols: None,
            origin: Some("http://server.example.com"),
            host: Some("server.example.com"),
            secure: false,
        }
    }

    fn judged(request: Request<'_>) -> Result<Accepted, Refusal> {
        accept(&request, STOMP, &Origins::default())
    }

    #[track_caller]
    fn refused(request: Request<'_>, refusal: Refusal) {
        assert_eq!(judged(request), Err(refusal), "{request:?}");
    }

    fn protocol(protocols: &str) -> Option<&'static str> {
        judged(Request { protocols: Some(protocols), ..request() }).unwrap().protocol
    }

    #[test]
    fn the_example_of_section_1_3_gets_its_accept_key() {
        let accepted = judged(request()).unwrap();
        assert_eq!(accepted.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.protocol, None);
    }

    #[test]
    fn tokens_are_found_in_lists_and_in_any_case() {
        let browser = Request {
            upgrade: Some("WebSocket"),
            connection: Some("keep-alive, Upgrade"),
            ..request()
        };
        assert!(judged(browser).is_ok());
        let folded = Request { connection: Some("keep-alive , UPGRADE ,"), ..request() };
        assert!(judged(folded).is_ok());
    }

    #[test]
    fn only_get_opens_a_websocket() {
        for method in ["POST", "HEAD", "OPTIONS", "get", ""] {
            refused(Request { method, ..request() }, Refusal::Method);
        }
        assert_eq!(Refusal::Method.status(), 405);
        assert_eq!(Refusal::Method.header(), Some(("allow", "GET")));
    }

    #[test]
    fn upgrade_must_be_websocket() {
        for upgrade in [None, Some(""), Some("h2c"), Some("websockets")] {
            refused(Request { upgrade, ..request() }, Refusal::Upgrade);
        }
        assert_eq!((Refusal::Upgrade.status(), Refusal::Upgrade.header()), (400, None));
    }

    #[test]
    fn connection_must_list_upgrade() {
        for connection in [None, Some("close"), Some("keep-alive"), Some("upgrades")] {
            refused(Request { connection, ..request() }, Refusal::Connection);
        }
        assert_eq!((Refusal::Connection.status(), Refusal::Connection.header()), (400, None));
    }

    #[test]
    fn the_version_must_be_13() {
        for version in [None, Some("8"), Some("0"), Some("14"), Some("013"), Some("13, 8")] {
            refused(Request { version, ..request() }, Refusal::Version);
        }
        assert_eq!(Refusal::Version.status(), 426);
        assert_eq!(Refusal::Version.header(), Some(("sec-websocket-version", "13")));
    }

    #[test]
    fn the_key_must_be_sixteen_bytes_in_base64() {
        for key in [
            None,
            Some(""),
            Some("dGhlIHNhbXBsZSBub25jZQ"),
            Some("dGhlIHNhbXBsZSBub25j"),
            Some("dGhlIHNhbXBsZSBub25jZWU="),
            Some("dGhlIHNhbXBsZSBub25jZWVl"),
            Some("dGhlIHNhbXBsZSBub25jZWVlZQ=="),
            Some("dGhlIHNhbXBsZSBub25_ZQ=="),
            Some("dGhlIHNhbXBs\u{e9}SBub25jZQ="),
        ] {
            refused(Request { key, ..request() }, Refusal::Key);
        }
        assert_eq!((Refusal::Key.status(), Refusal::Key.header()), (400, None));
        assert!(judged(Request { key: Some(" dGhlIHNhbXBsZSBub25jZQ== "), ..request() }).is_ok());
    }

    #[test]
    fn the_unused_bits_of_a_key_may_be_set() {
        assert!(judged(Request { key: Some("dGhlIHNhbXBsZSBub25jZR=="), ..request() }).is_ok());
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        refused(Request { origin: Some("http://evil.example"), ..request() }, Refusal::Origin);
        refused(Request { origin: Some("null"), ..request() }, Refusal::Origin);
        assert!(judged(Request { origin: None, ..request() }).is_ok());
        assert_eq!((Refusal::Origin.status(), Refusal::Origin.header()), (403, None));
    }

    #[test]
    fn the_first_listed_sub_protocol_that_is_supported_is_taken() {
        assert_eq!(protocol("v10.stomp, v11.stomp, v12.stomp"), Some("v10.stomp"));
        assert_eq!(protocol("mqtt,v11.stomp,v12.stomp"), Some("v11.stomp"));
    }

    #[test]
    fn a_sub_protocol_is_answered_in_our_spelling() {
        assert_eq!(protocol("V12.STOMP"), Some("v12.stomp"));
    }

    #[test]
    fn without_a_common_sub_protocol_the_handshake_succeeds_with_none() {
        for protocols in ["mqtt", "", " , ", "v12.stomp.x"] {
            assert_eq!(protocol(protocols), None, "{protocols}");
        }
    }

    #[test]
    fn a_refusal_says_what_would_be_right() {
        let text = |refusal: Refusal| refusal.to_string();
        assert!(text(Refusal::Method).contains("GET"));
        assert!(text(Refusal::Upgrade).contains("Upgrade: websocket"));
        assert!(text(Refusal::Connection).contains("Connection: Upgrade"));
        assert!(text(Refusal::Version).contains("Sec-WebSocket-Version: 13"));
        assert!(text(Refusal::Key).contains("16 bytes in base64"));
        assert!(text(Refusal::Origin).contains("allowed origins"));
    }
}
