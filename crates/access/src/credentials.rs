//! What a client shows, and where it may show it.
//!
//! The order of precedence, the first that is there names the principal:
//! 1. CONNECT's header `Authorization` (`Bearer` and a token, a token alone, or `Basic`);
//! 2. CONNECT's header that the configuration names (`token_header`): a token alone;
//! 3. CONNECT's `login` and `passcode`, where there is a users file;
//! 4. `access_token` in the query (RFC 6750, section 2.3);
//! 5. the HTTP header `Authorization` (`Bearer`, or `Basic` where there is a users file);
//! 6. the cookie that the configuration names, of a handshake whose Origin was checked.
//!
//! All of 1 to 5 were shown on purpose: each must be right, and all must name the same user. A browser sends
//! a cookie by itself: it counts if nothing else is there, and otherwise only where it is right and names
//! somebody else, which is refused too. What cannot be checked here (a token where no key is configured, a
//! passcode where there is no users file) is passed over, as is another scheme in the HTTP header, which may
//! be a proxy's.
//!
//! Invariant: whoever sees a [`Credentials`] in a log sees no secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytestring::ByteString;
use percent_encoding::percent_decode_str;

/// The parameter of the query that holds a token.
pub(crate) const PARAMETER: &str = "access_token";

/// What a client showed on its way in. Each text is as it came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The HTTP header `Authorization` of the handshake.
    pub authorization: Option<ByteString>,
    /// The HTTP header `Cookie` of the handshake, several joined by `; `.
    pub cookie: Option<ByteString>,
    /// Whether the handshake named an Origin, and it was let in by name: by being the server's own or one
    /// that is configured, not by `*`. Without it a cookie proves nothing, for any page can have it sent.
    pub origin_checked: bool,
    /// The query of the handshake's URL, without the question mark.
    pub query: Option<ByteString>,
    /// The headers of CONNECT, unescaped.
    pub connect: Vec<(ByteString, ByteString)>,
}

/// Where something was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// CONNECT's header `Authorization`.
    ConnectAuthorization,
    /// The header of CONNECT that is configured for tokens.
    ConnectToken,
    /// CONNECT's `login` and `passcode`.
    ConnectLogin,
    /// `access_token` in the query.
    Query,
    /// The HTTP header `Authorization`.
    Authorization,
    /// The cookie.
    Cookie,
}

/// One thing that was shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    Token(String),
    Passcode { name: String, passcode: String },
}

/// What can be checked, and where to look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    pub(crate) tokens: bool,
    pub(crate) passcodes: bool,
    /// Empty is none.
    pub(crate) token_header: String,
    /// Whether tokens are taken from the query.
    pub(crate) query: bool,
    /// Empty is none.
    pub(crate) cookie: String,
}

/// What was shown on purpose, in the order of precedence, and the cookie.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) explicit: Vec<(Place, Proof)>,
    pub(crate) cookie: Option<Proof>,
}

/// What was shown cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{place} {why}")]
pub struct Unreadable {
    /// Where.
    pub place: Place,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Credentials {
    /// A header of CONNECT; of several the first counts, as STOMP has it.
    fn header(&self, is: impl Fn(&str) -> bool) -> Option<&str> {
        self.connect.iter().find(|(name, _)| is(name)).map(|(_, value)| &**value)
    }

    /// What of it can be checked in these places.
    pub(crate) fn shown(&self, places: &Places) -> Result<Shown, Unreadable> {
        let mut shown = Shown::default();
        let mut show = |place, proof: Option<Proof>| {
            let checkable = |proof: &Proof| match proof {
                Proof::Token(_) => places.tokens,
                Proof::Passcode { .. } => places.passcodes,
            };
            shown.explicit.extend(proof.filter(checkable).map(|proof| (place, proof)));
        };
        if let Some(value) = self.header(|name| name.eq_ignore_ascii_case("authorization")) {
            let place = Place::ConnectAuthorization;
            let proof = match authorization(place, value)? {
                None if !value.trim().is_empty() && !value.trim().contains(' ') => {
                    Some(Proof::Token(value.trim().to_owned()))
                }
                proof => proof,
            };
            show(place, proof);
        }
        let token_header = Some(places.token_header.as_str()).filter(|name| !name.is_empty());
        if let Some(value) = token_header.and_then(|header| self.header(|name| name == header)) {
            let value = value.trim();
            let token = value.strip_prefix("Bearer ").unwrap_or(value).trim();
            show(Place::ConnectToken, (!token.is_empty()).then(|| Proof::Token(token.to_owned())));
        }
        let login = self.header(|name| name == "login").filter(|login| !login.is_empty());
        if let Some(login) = login {
            let passcode = self.header(|name| name == "passcode").unwrap_or_default();
            let proof = Proof::Passcode { name: login.to_owned(), passcode: passcode.to_owned() };
            show(Place::ConnectLogin, Some(proof));
        }
        if places.query
            && let Some(query) = &self.query
        {
            show(Place::Query, in_query(query)?.map(Proof::Token));
        }
        if let Some(value) = &self.authorization {
            show(Place::Authorization, authorization(Place::Authorization, value)?);
        }
        if places.tokens
            && self.origin_checked
            && !places.cookie.is_empty()
            && let Some(cookies) = &self.cookie
        {
            shown.cookie = in_cookies(cookies, &places.cookie)?.map(Proof::Token);
        }
        Ok(shown)
    }

    /// The name that a client gives itself without proof.
    pub(crate) fn said_name(&self) -> Option<&str> {
        self.header(|name| name == "login").filter(|login| !login.is_empty())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.connect.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("Credentials")
            .field("authorization", &self.authorization.is_some())
            .field("cookie", &self.cookie.is_some())
            .field("origin_checked", &self.origin_checked)
            .field("query", &self.query.is_some())
            .field("connect", &headers)
            .finish()
    }
}

/// Without what would let somebody in.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(***)"),
            Self::Passcode { name, .. } => write!(f, "Passcode({name:?}, ***)"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectAuthorization => "the header Authorization of CONNECT",
            Self::ConnectToken => "the token in CONNECT",
            Self::ConnectLogin => "login and passcode of CONNECT",
            Self::Query => "access_token in the URL",
            Self::Authorization => "the HTTP header Authorization",
            Self::Cookie => "the cookie",
        })
    }
}

/// The token of an `Authorization` header, which must be by `Bearer`.
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer")).then(|| rest.trim())
}

/// What an `Authorization` header shows; none if its scheme is not for us.
fn authorization(place: Place, value: &str) -> Result<Option<Proof>, Unreadable> {
    if let Some(token) = bearer(value) {
        return Ok(Some(Proof::Token(token.to_owned())));
    }
    let Some((scheme, encoded)) = value.trim().split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let wrong = |why| Unreadable { place, why };
    let decoded =
        STANDARD.decode(encoded.trim()).map_err(|_| wrong("holds Basic that is no base64"))?;
    let text = String::from_utf8(decoded).map_err(|_| wrong("holds Basic that is no UTF-8"))?;
    let (name, passcode) =
        text.split_once(':').ok_or_else(|| wrong("holds Basic without a colon"))?;
    Ok(Some(Proof::Passcode { name: name.to_owned(), passcode: passcode.to_owned() }))
}

fn in_query(query: &str) -> Result<Option<String>, Unreadable> {
    let mut token = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if percent_decode_str(name).ne(PARAMETER.bytes()) {
            continue;
        }
        let wrong = |why| Unreadable { place: Place::Query, why };
        let value = percent_decode_str(value).decode_utf8().map_err(|_| wrong("is no UTF-8"))?;
        if token.replace(value.into_owned()).is_some() {
            return Err(wrong("is there twice"));
        }
    }
    Ok(token.filter(|token| !token.is_empty()))
}

/// RFC 6265, section 4.2. Two of one name, which a sibling domain can bring about, are refused.
fn in_cookies(cookies: &str, wanted: &str) -> Result<Option<String>, Unreadable> {
    let mut found: Option<&str> = None;
    for cookie in cookies.split(';') {
        let Some((name, value)) = cookie.trim().split_once('=') else { continue };
        if name != wanted {
            continue;
        }
        let value =
            value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if found.replace(value).is_some_and(|other| other != value) {
            return Err(Unreadable { place: Place::Cookie, why: "is there twice" });
        }
    }
    Ok(found.filter(|value| !value.is_empty()).map(str::to_owned))
}

#[cfg(test)]
mod tests;
