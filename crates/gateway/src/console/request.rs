//! A request for a view, and whether it comes from where it should.
//!
//! Not here: who asks (`login`).

use std::net::{IpAddr, Ipv6Addr};

use presence::{Cursor, PageRequest, UserName};
use serde::de::DeserializeOwned;
use warp::http::{HeaderMap, HeaderName, Method, header};
use warp::hyper::body::Bytes;

use super::{ROWS, Refusal};

/// See the module.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    pub(super) peer: IpAddr,
    body: Bytes,
}

impl Request {
    pub(super) fn new(
        method: Method,
        path: &str,
        headers: HeaderMap,
        query: &str,
        peer: IpAddr,
        body: Bytes,
    ) -> Self {
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let path = path.to_owned();
        Self { method, path, headers, query, peer, body }
    }

    /// The value of a header that is there once.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    }

    /// A parameter of the query; empty where it is not there.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(super) fn user(&self) -> Result<UserName, Refusal> {
        let name = UserName::new(self.parameter("user").to_owned());
        name.map_err(|why| Refusal::Malformed(format!("user: {why}")))
    }

    /// Which page of a list that is kept in a store.
    pub(super) fn page(&self) -> PageRequest {
        match self.parameter("after") {
            "" => PageRequest::first(ROWS),
            after => PageRequest::after(Cursor::new(after), ROWS),
        }
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body)
            .map_err(|why| Refusal::Malformed(format!("the body is not what is expected: {why}")))
    }

    /// Refuses what a page of another site could have had the browser do: it must be JSON, for which a page
    /// elsewhere would have to ask first, and name an Origin, which no page can forge.
    pub(super) fn check_same_page(&self) -> Result<(), Refusal> {
        let content_type = self.header(&header::CONTENT_TYPE).unwrap_or_default();
        let media = content_type.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::Forbidden("send JSON".to_owned()));
        }
        match self.origin() {
            Origin::Own => Ok(()),
            Origin::None | Origin::Other => {
                Err(Refusal::Forbidden("only the console's own page may ask for that".to_owned()))
            }
        }
    }

    /// Refuses a page of another site where no login keeps it out: one that names another Origin, and one whose
    /// name was made to lead here, for then the browser takes this node for a part of it. So the node must be
    /// called by an address or as localhost, which are nobody's to lead elsewhere.
    pub(super) fn check_called_by_address(&self) -> Result<(), Refusal> {
        let is_known = self.header(&header::HOST).is_some_and(is_nobodys_name);
        if !is_known {
            return Err(Refusal::Forbidden(
                "open the console by an IP address or as localhost, or have it ask for a login: \
                 gateway.console_role"
                    .to_owned(),
            ));
        }
        let site = self.headers.get("sec-fetch-site").map(|site| site.as_bytes());
        let is_foreign = !matches!(site, None | Some(b"same-origin" | b"none"));
        match self.origin() {
            Origin::None | Origin::Own if !is_foreign => Ok(()),
            _ => Err(Refusal::Forbidden("only the console's own page may ask for that".to_owned())),
        }
    }

    /// Whether the page it comes from came by https.
    pub(super) fn is_secure(&self) -> bool {
        self.header(&header::ORIGIN).is_some_and(|origin| origin.starts_with("https://"))
    }

    fn origin(&self) -> Origin {
        if !self.headers.contains_key(header::ORIGIN) {
            return Origin::None;
        }
        let origin = self.header(&header::ORIGIN).unwrap_or_default();
        let schemes = ["http://", "https://"];
        let host = schemes.iter().find_map(|scheme| origin.strip_prefix(scheme));
        match (host, self.header(&header::HOST)) {
            (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Origin::Own,
            _ => Origin::Other,
        }
    }
}

/// Which page a request comes from.
enum Origin {
    /// It does not say.
    None,
    /// One of this node.
    Own,
    Other,
}

/// Whether it is an address, or localhost, with or without a port.
fn is_nobodys_name(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if let Some(address) = without_port.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
    }
    without_port.eq_ignore_ascii_case("localhost")
        || without_port.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_nobodys_names() {
        for host in
            ["localhost", "LocalHost:8080", "127.0.0.1", "192.0.2.1:80", "[::1]:8080", "[::1]"]
        {
            assert!(is_nobodys_name(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
            "::1",
            "[::1",
        ] {
            assert!(!is_nobodys_name(host), "{host}");
        }
    }
}
