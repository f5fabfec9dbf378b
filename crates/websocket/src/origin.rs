//! Whose pages may open a session: RFC 6455 section 10.2, origins as RFC 6454 writes them.
//!
//! A browser names the origin of the page in every opening handshake and sends the user's cookies along; a
//! page cannot forge it. Other clients can say anything, or nothing, and are let in when they say nothing:
//! this check protects users of browsers, it is no authentication.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The origins whose pages are let in. A page of the server's own origin always is; the default adds none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origins(Vec<OriginPattern>);

/// One entry: an exact origin (`https://app.example.com`), one with `*` for a whole label or the port
/// (`https://*.example.com`, `http://localhost:*`), or `*` for any origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OriginPattern(Pattern);

/// Text that is no origin and no pattern of origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{given}\" is not an origin: {why}; write scheme://host or scheme://host:port, as in \
     \"https://app.example.com\", with * for one label or the port, as in \"https://*.example.com\" or \
     \"http://localhost:*\", or \"*\" alone for any origin"
)]
pub struct InvalidOrigin {
    /// The text.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Any,
    Like {
        scheme: String,
        /// Labels joined by dots, `*` stands for one.
        host: String,
        port: Port,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Any,
    /// The scheme's own.
    Default,
    Number(u16),
}

impl Origins {
    /// Lets in pages of any origin, as `"*"` does.
    pub fn any() -> Self {
        Self(vec![OriginPattern(Pattern::Any)])
    }

    /// Whether a page of `origin` may open a session with the server it knows as `host` (the `Host` header).
    /// `secure` says that the connection is known to be TLS: then a page that came in the clear is not of the
    /// same origin. Without it the page's own scheme is believed, so that a proxy that ends TLS in front of the
    /// server changes nothing. No `origin` means no browser. An opaque origin, `null`, is let in by `*` alone.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>, secure: bool) -> bool {
        origin.is_none()
            || self.0.iter().any(|allowed| matches!(allowed.0, Pattern::Any))
            || self.allow_by_name(origin, host, secure)
    }

    /// Whether there is an `origin` and it is let in by name: for being the server's own, or by another entry
    /// than `*`. Only then does a cookie of the request say anything, for any page can have it sent.
    pub fn allow_by_name(&self, origin: Option<&str>, host: Option<&str>, secure: bool) -> bool {
        let Some(Ok(origin)) = origin.map(Origin::parse) else { return false };
        host.is_some_and(|host| origin.is_same(host, secure))
            || self.0.iter().any(|allowed| allowed.0.names(&origin))
    }
}

impl Origins {
    /// The origins that are let in by name, besides the server's own, as they were written.
    pub fn named(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|allowed| !matches!(allowed.0, Pattern::Any)).map(ToString::to_string)
    }
}

impl FromIterator<OriginPattern> for Origins {
    fn from_iter<I: IntoIterator<Item = OriginPattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

impl Pattern {
    fn names(&self, origin: &Origin<'_>) -> bool {
        match self {
            Pattern::Any => false,
            Pattern::Like { scheme, host, port } => {
                scheme.eq_ignore_ascii_case(origin.scheme)
                    && labels_match(host, origin.host)
                    && match port {
                        Port::Any => true,
                        Port::Default => origin.port() == default_port(scheme),
                        Port::Number(port) => origin.port() == Some(*port),
                    }
            }
        }
    }
}

fn labels_match(pattern: &str, host: &str) -> bool {
    let mut labels = host.split('.');
    pattern.split('.').all(|pattern| {
        labels.next().is_some_and(|label| {
            pattern.eq_ignore_ascii_case(label) || (pattern == "*" && !label.is_empty())
        })
    }) && labels.next().is_none()
}

/// An origin, or a pattern of origins, as it is written: `scheme "://" host [ ":" port ]`.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<&'a str>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (scheme, authority) = text.split_once("://").ok_or("it has no scheme")?;
        let starts_well = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts_well || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        {
            return Err("its scheme is not a name such as https");
        }
        if authority.contains(['/', '?', '#']) {
            return Err("it goes on after host and port");
        }
        let (host, port) = split_port(authority);
        if host.split('.').any(str::is_empty) {
            return Err("its host is empty or has an empty label");
        }
        // Names in other scripts are written in Punycode, in an origin too.
        let in_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.*".contains(&b);
        let in_address = |b: u8| b.is_ascii_hexdigit() || b":.".contains(&b);
        let lawful = match host.strip_prefix('[') {
            Some(address) => address.strip_suffix(']').is_some_and(|a| a.bytes().all(in_address)),
            None => host.bytes().all(in_name),
        };
        if !lawful {
            return Err("its host is neither a name nor an address");
        }
        Ok(Self { scheme, host, port })
    }

    fn port(&self) -> Option<u16> {
        match self.port {
            Some(port) => port.parse().ok(),
            None => default_port(self.scheme),
        }
    }

    fn is_same(&self, server: &str, secure: bool) -> bool {
        let scheme_fits = self.scheme.eq_ignore_ascii_case("https")
            || (!secure && self.scheme.eq_ignore_ascii_case("http"));
        let (host, port) = split_port(server);
        let port = match port {
            Some(port) => port.parse().ok(),
            None => default_port(self.scheme),
        };
        scheme_fits && host.eq_ignore_ascii_case(self.host) && port.is_some() && port == self.port()
    }
}

/// `host [ ":" port ]`, where the host may be an IPv6 address in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}

impl FromStr for OriginPattern {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        if text == "*" {
            return Ok(Self(Pattern::Any));
        }
        let invalid = |why| InvalidOrigin { given: text.to_owned(), why };
        let Origin { scheme, host, port } = Origin::parse(text).map_err(invalid)?;
        if host.split('.').any(|label| label.contains('*') && label != "*") {
            return Err(invalid("its * is only a part of a label"));
        }
        let port = match port {
            None => Port::Default,
            Some("*") => Port::Any,
            Some(number) => match number.parse() {
                Ok(number) => Port::Number(number),
                Err(_) => return Err(invalid("its port is not a number up to 65535")),
            },
        };
        let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
        Ok(Self(Pattern::Like { scheme, host, port }))
    }
}

impl TryFrom<String> for OriginPattern {
    type Error = InvalidOrigin;

    fn try_from(text: String) -> Result<Self, InvalidOrigin> {
        text.parse()
    }
}

impl From<OriginPattern> for String {
    fn from(pattern: OriginPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Any => f.write_str("*"),
            Pattern::Like { scheme, host, port } => {
                write!(f, "{scheme}://{host}")?;
                match port {
                    Port::Any => f.write_str(":*"),
                    Port::Default => Ok(()),
                    Port::Number(number) => write!(f, ":{number}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
