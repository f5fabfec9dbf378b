//! The transports over HTTP: how each wraps frames, and when its response ends.

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::write_literal;

/// Bytes before the first frame of a streaming response, beyond which browsers begin to show what comes.
const XHR_PRELUDE: usize = 2048;
const HTMLFILE_PRELUDE: usize = 1024;

/// Longest name of a callback.
const MAX_CALLBACK: usize = 128;

/// A transport by which a client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Receiving {
    /// One frame for each request.
    Xhr,
    /// Frames on lines, until the response is long.
    XhrStreaming,
    /// Server-sent events.
    EventSource,
    /// Scripts in a page that never ends.
    HtmlFile,
    /// One frame for each request, as a script that calls back.
    Jsonp,
}

/// A transport by which a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sending {
    Xhr,
    /// A form, or a plain body.
    Jsonp,
}

/// Why there is no callback. The texts are those the protocol demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallbackError {
    #[error("\"callback\" parameter required\n")]
    Missing,
    #[error("invalid \"callback\" parameter\n")]
    Invalid,
}

/// How the frames of one response are wrapped.
#[derive(Debug, Clone)]
pub(crate) struct Wrapping {
    transport: Receiving,
    /// What the client's page calls it; empty where the transport has no callback.
    callback: String,
}

impl Receiving {
    /// Whether a response carries more than one frame.
    pub fn is_streaming(self) -> bool {
        match self {
            Self::XhrStreaming | Self::EventSource | Self::HtmlFile => true,
            Self::Xhr | Self::Jsonp => false,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Xhr | Self::XhrStreaming | Self::Jsonp => "application/javascript; charset=UTF-8",
            Self::EventSource => "text/event-stream; charset=UTF-8",
            Self::HtmlFile => "text/html; charset=UTF-8",
        }
    }

    /// The wrapping for a request with this query.
    pub(crate) fn wrapping(self, query: &str) -> Result<Wrapping, CallbackError> {
        let callback = match self {
            Self::Xhr | Self::XhrStreaming | Self::EventSource => String::new(),
            Self::HtmlFile | Self::Jsonp => callback(query)?,
        };
        Ok(Wrapping { transport: self, callback })
    }
}

/// The name of the function to call. It becomes part of a script, so nothing but a name will do.
fn callback(query: &str) -> Result<String, CallbackError> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, name) = pairs.find(|(key, _)| key == "c").ok_or(CallbackError::Missing)?;
    if name.is_empty() {
        return Err(CallbackError::Missing);
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.len() > MAX_CALLBACK || !name.bytes().all(is_plain) {
        return Err(CallbackError::Invalid);
    }
    Ok(name.into_owned())
}

impl Wrapping {
    pub(crate) fn transport(&self) -> Receiving {
        self.transport
    }

    /// What comes before the first frame.
    pub(crate) fn prelude(&self) -> Option<Bytes> {
        match self.transport {
            Receiving::Xhr | Receiving::Jsonp => None,
            Receiving::XhrStreaming => {
                let mut prelude = vec![b'h'; XHR_PRELUDE];
                prelude.push(b'\n');
                Some(prelude.into())
            }
            // Opera needs it.
            Receiving::EventSource => Some(Bytes::from_static(b"\r\n")),
            Receiving::HtmlFile => Some(self.page()),
        }
    }

    /// The page that frames come into, as the protocol has it, and spaces until browsers show it.
    fn page(&self) -> Bytes {
        let mut page = format!(
            "<!doctype html>\n\
             <html><head>\n  \
             <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n  \
             <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n\
             </head><body><h2>Don't panic!</h2>\n  \
             <script>\n    \
             document.domain = document.domain;\n    \
             var c = parent.{};\n    \
             c.start();\n    \
             function p(d) {{c.message(d);}};\n    \
             window.onload = function() {{c.stop();}};\n  \
             </script>\n",
            self.callback
        );
        page.push_str(&" ".repeat(HTMLFILE_PRELUDE));
        page.push_str("\r\n\r\n");
        page.into()
    }

    /// A frame as this transport sends it.
    pub(crate) fn wrap(&self, frame: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(frame.len() + 32);
        match self.transport {
            Receiving::Xhr | Receiving::XhrStreaming => {
                out.put_slice(frame);
                out.put_u8(b'\n');
            }
            Receiving::EventSource => {
                // JSON has no bare line ends, and frames do not begin with a space.
                out.put_slice(b"data: ");
                out.put_slice(frame);
                out.put_slice(b"\r\n\r\n");
            }
            Receiving::HtmlFile => {
                out.put_slice(b"<script>\np(");
                write_script_literal(frame, &mut out);
                out.put_slice(b");\n</script>\r\n");
            }
            Receiving::Jsonp => {
                out.put_slice(self.callback.as_bytes());
                out.put_u8(b'(');
                write_script_literal(frame, &mut out);
                out.put_slice(b");\r\n");
            }
        }
        out.freeze()
    }
}

/// A frame as a JavaScript string that may stand in a page: no message ends the script it is in.
fn write_script_literal(frame: &[u8], out: &mut BytesMut) {
    // Frames are made from text.
    let mut literal = BytesMut::new();
    write_literal(&String::from_utf8_lossy(frame), &mut literal);
    let mut parts = literal[..].split(|byte: &u8| *byte == b'<');
    out.put_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.put_slice(b"\\u003c");
        out.put_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(transport: Receiving, query: &str, frame: &str) -> String {
        let wrapped = transport.wrapping(query).unwrap().wrap(frame.as_bytes());
        String::from_utf8(wrapped.to_vec()).unwrap()
    }

    #[test]
    fn each_transport_delimits_frames_its_own_way() {
        use Receiving::{EventSource, HtmlFile, Jsonp, Xhr, XhrStreaming};
        assert_eq!(wrapped(Xhr, "", "a[\"x\"]"), "a[\"x\"]\n");
        assert_eq!(wrapped(XhrStreaming, "", "o"), "o\n");
        assert_eq!(wrapped(EventSource, "", "a[\"x\"]"), "data: a[\"x\"]\r\n\r\n");
        assert_eq!(wrapped(HtmlFile, "c=cb", "o"), "<script>\np(\"o\");\n</script>\r\n");
        assert_eq!(wrapped(Jsonp, "c=%63allback", "o"), "callback(\"o\");\r\n");
        assert_eq!(wrapped(Jsonp, "t=1&c=a.b_1", "a[\"x\"]"), "a.b_1(\"a[\\\"x\\\"]\");\r\n");
    }

    #[test]
    fn no_message_ends_the_script_it_is_in() {
        let frame = "a[\"</script><script>x\"]";
        let page = wrapped(Receiving::HtmlFile, "c=cb", frame);
        assert_eq!(page.matches("</script>").count(), 1);
        let literal = page.split_once("p(").unwrap().1.split_once(");\n").unwrap().0;
        assert_eq!(serde_json::from_str::<String>(literal).unwrap(), frame);
    }

    #[test]
    fn a_callback_is_a_name() {
        let error = |query: &str| Receiving::Jsonp.wrapping(query).unwrap_err();
        for query in ["", "c", "c=", "d=x"] {
            assert_eq!(error(query), CallbackError::Missing, "{query}");
        }
        for query in ["c=a%3Balert(1)", "c=a(b", "c=a%20b", "c=%3Cscript%3E", "c=%C3%A9"] {
            assert_eq!(error(query), CallbackError::Invalid, "{query}");
        }
        assert_eq!(error(&format!("c={}", "x".repeat(200))), CallbackError::Invalid);
        assert!(Receiving::Xhr.wrapping("").is_ok());
    }

    #[test]
    fn preludes_are_as_long_as_browsers_need_them() {
        let prelude = |transport: Receiving| transport.wrapping("c=cb").unwrap().prelude();
        assert_eq!(prelude(Receiving::Xhr), None);
        assert_eq!(prelude(Receiving::Jsonp), None);
        assert_eq!(prelude(Receiving::EventSource).unwrap(), "\r\n");
        assert_eq!(prelude(Receiving::XhrStreaming).unwrap(), format!("{}\n", "h".repeat(2048)));
        let page = prelude(Receiving::HtmlFile).unwrap();
        assert!(page.len() > 1024 && page.ends_with(b"\r\n\r\n"));
        assert!(String::from_utf8_lossy(&page).contains("var c = parent.cb;"));
    }
}
