//! The console's assets: a page of our own, with the stock clients of STOMP and SockJS beside it.
//!
//! Not here: what the page shows of the node.

use warp::http::{Method, Response};
use warp::hyper::body::Bytes;

/// What the browser may load and where it may connect: only what this node serves, and WebSockets
/// anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The asset at `path`, if there is one.
pub(crate) fn page(method: &Method, path: &str) -> Option<Response<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    macro_rules! asset {
        ($content_type:expr, $name:literal) => {
            ($content_type, include_bytes!(concat!("../../console/", $name)))
        };
    }
    let (content_type, asset): (_, &'static [u8]) = match path {
        "/" => asset!(HTML, "index.html"),
        "/console.css" => asset!(CSS, "console.css"),
        "/console.js" => asset!(SCRIPT, "console.js"),
        "/stomp.umd.min.js" => asset!(SCRIPT, "stomp.umd.min.js"),
        "/console/sockjs.min.js" => asset!(SCRIPT, "sockjs.min.js"),
        "/console/chart.js" => asset!(SCRIPT, "chart.js"),
        "/console/connection.js" => asset!(SCRIPT, "connection.js"),
        "/console/element.js" => asset!(SCRIPT, "element.js"),
        "/console/feed.js" => asset!(SCRIPT, "feed.js"),
        "/console/row.js" => asset!(SCRIPT, "row.js"),
        "/console/view.js" => asset!(SCRIPT, "view.js"),
        "/console/views.js" => asset!(SCRIPT, "views.js"),
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
