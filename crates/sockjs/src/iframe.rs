//! The page that clients put into an iframe where their browser cannot ask across origins otherwise
//! (protocol 0.3.3, "IFrame page").
//!
//! What it asks for is asked in this server's own origin, so only pages that may connect may frame it:
//! otherwise any page could act as the user whose cookies the browser has for this server. Pages let in by `*`
//! alone are not told apart from any page, and have to do without.

use http::header::{self, HeaderName};
use http::{HeaderMap, StatusCode};
use sha1::{Digest, Sha1};
use websocket::Origins;

use crate::answer::{Answer, Answering};

/// See the module.
pub(crate) struct Iframe {
    page: String,
    tag: String,
    policy: String,
}

impl Iframe {
    pub(crate) fn new(client_url: &str, origins: &Origins) -> Self {
        // As the protocol demands it, letter by letter.
        let page = format!(
            "<!DOCTYPE html>\n\
             <html>\n\
             <head>\n  \
             <meta http-equiv=\"X-UA-Compatible\" content=\"IE=edge\" />\n  \
             <meta http-equiv=\"Content-Type\" content=\"text/html; charset=UTF-8\" />\n  \
             <script>\n    \
             document.domain = document.domain;\n    \
             _sockjs_onload = function(){{SockJS.bootstrap_iframe();}};\n  \
             </script>\n  \
             <script src=\"{client_url}\"></script>\n\
             </head>\n\
             <body>\n  \
             <h2>Don't panic!</h2>\n  \
             <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>\n\
             </body>\n\
             </html>\n"
        );
        let tag = Sha1::digest(&page).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let named: String = origins.named().map(|origin| format!(" {origin}")).collect();
        Self { page, tag: format!("\"{tag}\""), policy: format!("frame-ancestors 'self'{named}") }
    }

    pub(crate) fn answer(&self, headers: &HeaderMap) -> Answer {
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| {
            tags.to_str().is_ok_and(|tags| tags.split(',').any(|tag| tag.trim() == self.tag))
        });
        let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let answering = Answering::status(status)
            .cached()
            .header(header::ETAG, &self.tag)
            .header(HeaderName::from_static("content-security-policy"), &self.policy);
        if known {
            return answering.empty();
        }
        answering.content_type("text/html; charset=UTF-8").body(self.page.clone())
    }
}
