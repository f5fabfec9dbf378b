//! The console: one page of our own, with the stock STOMP client beside it.
//!
//! All assets are part of the program; nothing is fetched from elsewhere.

use warp::http::{Method, Response};
use warp::hyper::body::Bytes;

/// What the browser may load and where it may connect: only what this node serves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The asset at `path`, if there is one.
pub(crate) fn page(method: &Method, path: &str) -> Option<Response<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let (content_type, asset): (_, &'static [u8]) = match path {
        "/" => ("text/html; charset=utf-8", include_bytes!("../console/index.html")),
        "/console.css" => ("text/css; charset=utf-8", include_bytes!("../console/console.css")),
        "/console.js" => {
            ("text/javascript; charset=utf-8", include_bytes!("../console/console.js"))
        }
        "/stomp.umd.min.js" => {
            ("text/javascript; charset=utf-8", include_bytes!("../console/stomp.umd.min.js"))
        }
        _ => return None,
    };
    Response::builder()
        .header("content-type", content_type)
        .header("content-security-policy", POLICY)
        .header("x-content-type-options", "nosniff")
        .header("cache-control", "no-cache")
        .body(Bytes::from_static(asset))
        .ok()
}
