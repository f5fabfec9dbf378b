//! What is there without a session: the greeting, the iframe's page, the info.

use serde_json::Value;

use crate::support::serve;

#[tokio::test]
async fn the_endpoint_itself_greets() {
    let server = serve().await;
    for path in ["/echo", "/echo/"] {
        let mut answer = server.get(path).await;
        assert_eq!((answer.status, &*answer.content_type()), (200, "text/plain;charset=UTF-8"));
        answer.assert_no_cookie();
        assert_eq!(answer.body().await, "Welcome to SockJS!\n");
    }
}

#[tokio::test]
async fn what_is_nothing_is_not_found() {
    let server = serve().await;
    for below in ["/a", "/a.html", "//", "///", "/a/a", "/a/a/", "/a/"] {
        assert_eq!(server.get(&format!("/echo{below}")).await.status, 404, "{below}");
    }
}

#[tokio::test]
async fn the_iframe_page_is_there_for_each_version_and_query() {
    let server = serve().await;
    for name in [
        "iframe.html",
        "iframe-a.html",
        "iframe-.html",
        "iframe-0.1.2.html",
        "iframe-0.1.2abc-dirty.2144.html",
        "iframe-a.html?t=1234",
        "iframe-0.1.2abc-dirty.2144.html?t=qweqweq123",
    ] {
        let mut answer = server.get(&format!("/echo/{name}")).await;
        assert_eq!((answer.status, &*answer.content_type()), (200, "text/html;charset=UTF-8"));
        answer.assert_cached();
        answer.assert_no_cookie();
        assert!(answer.header("etag").is_some());
        let page = answer.body().await;
        let (before, after) = page.split_once("<script src=\"").unwrap();
        let (url, after) = after.split_once("\"></script>").unwrap();
        assert!(url.starts_with('/') || url.starts_with("http"), "{url}");
        assert!(
            before.starts_with("<!DOCTYPE html>\n<html>\n<head>\n  <meta http-equiv"),
            "{before}"
        );
        assert!(before.contains("_sockjs_onload = function(){SockJS.bootstrap_iframe();};"));
        assert!(after.starts_with("\n</head>\n<body>\n  <h2>Don't panic!</h2>\n"), "{after}");
    }
}

#[tokio::test]
async fn malformed_names_of_the_iframe_page_are_not_found() {
    let server = serve().await;
    for name in [
        "iframe.htm",
        "iframe",
        "IFRAME.HTML",
        "IFRAME",
        "iframe.HTML",
        "iframe.xml",
        "iframe-/.html",
    ] {
        assert_eq!(server.get(&format!("/echo/{name}")).await.status, 404, "{name}");
    }
}

#[tokio::test]
async fn the_iframe_page_is_not_sent_again_to_who_has_it() {
    let server = serve().await;
    let tag = server.get("/echo/iframe.html").await.header("etag").unwrap().to_owned();
    assert_eq!(server.get("/echo/iframe-1.html").await.header("etag"), Some(&*tag));
    let mut known = server.ask("GET", "/echo/iframe.html", &[("If-None-Match", &tag)], "").await;
    assert_eq!((known.status, known.header("content-type")), (304, None));
    assert_eq!(known.header("content-length").unwrap_or("0"), "0");
    assert_eq!(known.body().await, "");
    let other = server.ask("GET", "/echo/iframe.html", &[("If-None-Match", "\"x\"")], "").await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn only_pages_that_may_connect_by_name_may_frame_the_iframe_page() {
    let server = serve().await;
    let answer = server.get("/echo/iframe.html").await;
    assert_eq!(answer.header("content-security-policy"), Some("frame-ancestors 'self'"));
}

#[tokio::test]
async fn info_says_what_the_endpoint_can_do() {
    let server = serve().await;
    for (endpoint, websocket, cookie) in [
        ("/echo", true, false),
        ("/disabled_websocket_echo", false, false),
        ("/cookie_needed_echo", true, true),
    ] {
        let mut answer = server.get(&format!("{endpoint}/info")).await;
        assert_eq!(
            (answer.status, &*answer.content_type()),
            (200, "application/json;charset=UTF-8")
        );
        answer.assert_no_cookie();
        answer.assert_not_cached();
        answer.assert_cors(None);
        let info: Value = serde_json::from_str(&answer.body().await).unwrap();
        assert_eq!(info["websocket"], websocket);
        assert_eq!(info["cookie_needed"], cookie);
        assert_eq!(info["origins"], serde_json::json!(["*:*"]));
        assert!(info["entropy"].as_u64().unwrap() < 1 << 32);
    }
}

#[tokio::test]
async fn each_info_has_other_entropy() {
    let server = serve().await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..4 {
        let (_, info) = server.got("/echo/info").await;
        let info: Value = serde_json::from_str(&info).unwrap();
        seen.insert(info["entropy"].as_u64().unwrap());
    }
    assert!(seen.len() > 1, "{seen:?}");
}

#[tokio::test]
async fn options_are_answered_for_caches_and_for_each_origin() {
    let server = serve().await;
    for (path, allowed) in [
        ("/echo/info", "OPTIONS, GET"),
        ("/echo/abc/abc/xhr", "OPTIONS, POST"),
        ("/echo/abc/abc/xhr_send", "OPTIONS, POST"),
        ("/echo/abc/abc/xhr_streaming", "OPTIONS, POST"),
    ] {
        for origin in [None, Some("http://test"), Some("null")] {
            let headers: Vec<_> = origin.iter().map(|origin| ("Origin", *origin)).collect();
            let mut answer = server.ask("OPTIONS", path, &headers, "").await;
            assert_eq!(answer.status, 204, "{path}");
            answer.assert_cached();
            answer.assert_cors(origin);
            assert_eq!(answer.header("access-control-allow-methods"), Some(allowed));
            let age: u64 = answer.header("access-control-max-age").unwrap().parse().unwrap();
            assert!(age > 1_000_000);
            assert_eq!(answer.body().await, "");
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones_and_nothing_else() {
    let server = serve().await;
    for (method, path, allowed) in [
        ("POST", "/echo", "GET"),
        ("DELETE", "/echo/info", "OPTIONS, GET"),
        ("POST", "/echo/iframe.html", "GET"),
        ("GET", "/echo/a/a/xhr", "OPTIONS, POST"),
        ("GET", "/echo/a/a/xhr_send", "OPTIONS, POST"),
        ("PUT", "/echo/a/a/xhr_streaming", "OPTIONS, POST"),
        ("POST", "/echo/a/a/eventsource", "OPTIONS, GET"),
        ("POST", "/echo/a/a/htmlfile?c=x", "GET"),
        ("POST", "/echo/a/a/jsonp?c=x", "GET"),
        ("GET", "/echo/a/a/jsonp_send", "POST"),
        ("POST", "/echo/0/0/websocket", "GET"),
        ("POST", "/echo/websocket", "GET"),
    ] {
        let mut answer = server.ask(method, path, &[], "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
        assert_eq!(answer.header("content-type"), None);
        assert_eq!(answer.body().await, "");
    }
}
