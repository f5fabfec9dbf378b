//! Settings of the port for other nodes, section `[cluster]`.

use std::net::SocketAddr;

use access::Secret;
use http::uri::Authority;
use serde::{Deserialize, Serialize};

use crate::config::or_none;

/// The shortest secret in bytes: as long as what it makes.
const MIN_SECRET: usize = 32;

/// Where other nodes hand over requests about this node's sessions, and how they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port for other nodes; none, written `""`, by default. Port 0 takes a free one.
    #[serde(with = "or_none")]
    pub listen: Option<SocketAddr>,
    /// Host and port at which the others reach it; empty where that is `listen`.
    pub advertise: String,
    /// What all nodes know and nobody else; at least 32 bytes, `base64:` in front of bytes in base64.
    pub secret: Secret,
}

/// A value that cannot work, with its key in its section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct Invalid {
    /// The key, as written in the section.
    pub key: &'static str,
    /// What is wrong with its value, and what would be right.
    pub why: String,
}

impl Config {
    /// Refuses what no gateway could work with.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |key, why: &str| Err(Invalid { key, why: why.into() });
        if self.secret.is_hidden() {
            let why = "was shown without the secret; write the secret in place of the ***";
            return invalid("secret", why);
        }
        let length = match self.secret.bytes() {
            Ok(bytes) => bytes.len(),
            Err(why) => return invalid("secret", why),
        };
        if !self.secret.is_empty() && length < MIN_SECRET {
            let why = format!("has {length} bytes, and fewer than {MIN_SECRET} could be guessed");
            return Err(Invalid { key: "secret", why });
        }
        if !self.advertise.is_empty() && !is_reachable(&self.advertise) {
            return invalid("advertise", "is no host and port such as \"gateway-1:8083\"");
        }
        match self.listen {
            None if self.advertise.is_empty() => Ok(()),
            None => invalid("advertise", "leads nowhere while listen is \"\""),
            Some(_) if self.secret.is_empty() => invalid(
                "secret",
                "is needed where listen is set: whoever knows none could be anybody; give all gateways the same, 32 bytes or more",
            ),
            Some(listen) if self.advertise.is_empty() && listen.ip().is_unspecified() => invalid(
                "advertise",
                "is needed where listen is every interface: name host and port at which the others reach this node",
            ),
            Some(_) => Ok(()),
        }
    }
}

/// Whether it may be reached by a name and a port, and is nothing else.
fn is_reachable(advertise: &str) -> bool {
    let Ok(authority) = advertise.parse::<Authority>() else { return false };
    let host = authority.host();
    authority.port_u16().is_some_and(|port| port != 0)
        && !host.is_empty()
        && !advertise.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret that is long enough: 32 bytes";

    fn config(listen: &str, advertise: &str, secret: &str) -> Config {
        let listen = (!listen.is_empty()).then(|| listen.parse().unwrap());
        Config { listen, advertise: advertise.into(), secret: secret.into() }
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        for (listen, advertise, secret, wrong) in [
            ("", "", "", None),
            ("", "", SECRET, None),
            ("10.0.0.1:8083", "", SECRET, None),
            ("127.0.0.1:0", "", SECRET, None),
            ("0.0.0.0:8083", "gateway-1:8083", SECRET, None),
            ("[::]:8083", "[2001:db8::1]:8083", SECRET, None),
            ("", "gateway-1:8083", SECRET, Some("advertise")),
            ("0.0.0.0:8083", "", SECRET, Some("advertise")),
            ("[::]:8083", "", SECRET, Some("advertise")),
            ("0.0.0.0:8083", "gateway-1", SECRET, Some("advertise")),
            ("0.0.0.0:8083", "gateway-1:0", SECRET, Some("advertise")),
            ("0.0.0.0:8083", ":8083", SECRET, Some("advertise")),
            ("0.0.0.0:8083", "a@gateway-1:8083", SECRET, Some("advertise")),
            ("0.0.0.0:8083", "http://gateway-1:8083", SECRET, Some("advertise")),
            ("0.0.0.0:8083", "gateway-1:8083/x", SECRET, Some("advertise")),
            ("10.0.0.1:8083", "", "", Some("secret")),
            ("10.0.0.1:8083", "", "short", Some("secret")),
            ("10.0.0.1:8083", "", "base64:c2hvcnQ=", Some("secret")),
            ("10.0.0.1:8083", "", "base64:!", Some("secret")),
            ("10.0.0.1:8083", "", "***", Some("secret")),
            ("", "", "short", Some("secret")),
        ] {
            let refused = config(listen, advertise, secret).check().err();
            assert_eq!(refused.map(|it| it.key), wrong, "{listen:?} {advertise:?} {secret:?}");
        }
    }

    #[test]
    fn what_is_wrong_does_not_show_the_secret() {
        let config = config("10.0.0.1:8083", "", "a sesame");
        let shown = format!("{config:?} {}", config.check().unwrap_err());
        assert!(!shown.contains("sesame"), "{shown}");
    }
}
