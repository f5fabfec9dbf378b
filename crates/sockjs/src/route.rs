//! Which resource a path below an endpoint names (protocol 0.3.3, "Static URLs", "Session URLs").

use crate::transport::{Receiving, Sending};

/// Longest session id that is taken, in bytes: clients choose 8 characters, or a UUID.
const MAX_ID: usize = 256;

/// A resource. Methods are looked at elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/`, or the endpoint's path itself.
    Greeting,
    /// `/info`.
    Info,
    /// `/iframe.html` and its versioned names.
    Iframe,
    /// `/websocket`: WebSocket without SockJS's framing.
    RawWebSocket,
    /// `/<server>/<session>/<transport>`.
    Session {
        /// The session's id as the client wrote it.
        id: &'a str,
        resource: Resource,
    },
}

/// What a session's URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    WebSocket,
    Receiving(Receiving),
    Sending(Sending),
}

impl<'a> Route<'a> {
    /// The resource at `path`, which is what follows the endpoint's own; none if there is none.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let rest = match path {
            "" | "/" => return Some(Self::Greeting),
            "/info" => return Some(Self::Info),
            "/websocket" => return Some(Self::RawWebSocket),
            _ => path.strip_prefix('/')?,
        };
        let mut segments = rest.split('/');
        let first = segments.next()?;
        let Some(id) = segments.next() else { return is_iframe(first).then_some(Self::Iframe) };
        let last = segments.next()?;
        // The server's name is for load balancers, and means nothing here.
        let named = [first, id].iter().all(|name| !name.is_empty() && !name.contains('.'));
        if !named || id.len() > MAX_ID || segments.next().is_some() {
            return None;
        }
        let resource = match last {
            "websocket" => Resource::WebSocket,
            "xhr" => Resource::Receiving(Receiving::Xhr),
            "xhr_streaming" => Resource::Receiving(Receiving::XhrStreaming),
            "eventsource" => Resource::Receiving(Receiving::EventSource),
            "htmlfile" => Resource::Receiving(Receiving::HtmlFile),
            "jsonp" => Resource::Receiving(Receiving::Jsonp),
            "xhr_send" => Resource::Sending(Sending::Xhr),
            "jsonp_send" => Resource::Sending(Sending::Jsonp),
            _ => return None,
        };
        Some(Self::Session { id, resource })
    }

    /// The methods of the resource, as `Allow` names them.
    pub(crate) fn methods(&self) -> &'static str {
        match self {
            Self::Greeting | Self::Iframe | Self::RawWebSocket => "GET",
            Self::Info => "OPTIONS, GET",
            Self::Session { resource, .. } => match resource {
                Resource::WebSocket => "GET",
                Resource::Receiving(Receiving::Xhr | Receiving::XhrStreaming) => "OPTIONS, POST",
                Resource::Receiving(Receiving::EventSource) => "OPTIONS, GET",
                Resource::Receiving(Receiving::HtmlFile | Receiving::Jsonp) => "GET",
                Resource::Sending(Sending::Xhr) => "OPTIONS, POST",
                Resource::Sending(Sending::Jsonp) => "POST",
            },
        }
    }
}

/// `iframe<version>.html`.
fn is_iframe(name: &str) -> bool {
    let version = name.strip_prefix("iframe").and_then(|rest| rest.strip_suffix(".html"));
    version.is_some_and(|version| {
        let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
        version.bytes().all(|byte| is_plain(byte) || matches!(byte, b'-' | b'.' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_resources_are_found() {
        for path in ["", "/"] {
            assert_eq!(Route::parse(path), Some(Route::Greeting));
        }
        assert_eq!(Route::parse("/info"), Some(Route::Info));
        assert_eq!(Route::parse("/websocket"), Some(Route::RawWebSocket));
        for path in ["", "-a", "-", "-0.1.2", "-0.1.2abc-dirty.2144"] {
            assert_eq!(Route::parse(&format!("/iframe{path}.html")), Some(Route::Iframe), "{path}");
        }
    }

    #[test]
    fn what_the_protocol_calls_not_found_is_not() {
        for path in [
            "/a",
            "/a.html",
            "//",
            "///",
            "/a/a",
            "/a/a/",
            "/a/",
            "/iframe.htm",
            "/iframe",
            "/IFRAME.HTML",
            "/IFRAME",
            "/iframe.HTML",
            "/iframe.xml",
            "/iframe-/.html",
            "///xhr",
            "/a./a/xhr",
            "/a/a./xhr",
            "/./././xhr",
            "//xhr",
            "////xhr",
            "/a/a/xhr/",
            "/a/a/b/xhr",
            "/a/a/XHR",
            "/a/a/xhr;x",
            "info",
            "/info/",
            "/websocket/",
            "/a//xhr",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
        let long = format!("/0/{}/xhr", "x".repeat(MAX_ID + 1));
        assert_eq!(Route::parse(&long), None);
    }

    #[test]
    fn any_value_names_a_session_and_the_server_means_nothing() {
        for (path, expected) in [
            ("/a/b/xhr", "b"),
            ("/_/_/xhr", "_"),
            ("/abcdefgh_i-j%20/abcdefg_i-j%20/xhr", "abcdefg_i-j%20"),
        ] {
            let Some(Route::Session { id, resource }) = Route::parse(path) else {
                panic!("{path}")
            };
            assert_eq!((id, resource), (expected, Resource::Receiving(Receiving::Xhr)));
        }
    }
}
