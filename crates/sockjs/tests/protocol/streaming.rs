//! The transports of many frames for each response.

use crate::support::{Exchange, Server, serve};

/// A response that streams, behind its prelude and `o`.
async fn opened(server: Server, session: &str, transport: &str) -> Exchange {
    let method = if transport.starts_with("xhr") { "POST" } else { "GET" };
    let mut response = server.ask(method, &format!("{session}/{transport}"), &[], "").await;
    assert_eq!(response.status, 200);
    response.assert_not_cached();
    assert_eq!(response.header("x-accel-buffering"), Some("no"));
    response.chunk().await;
    response.chunk().await;
    response
}

#[tokio::test]
async fn xhr_streaming_begins_with_2_kib_and_has_a_line_for_each_frame() {
    let server = serve().await;
    let session = server.session("/echo");
    let mut response = server.post(&format!("{session}/xhr_streaming"), "").await;
    assert_eq!(response.content_type(), "application/javascript;charset=UTF-8");
    response.assert_cors(None);
    response.assert_not_cached();
    assert_eq!(response.chunk().await, format!("{}\n", "h".repeat(2048)));
    assert_eq!(response.chunk().await, "o\n");
    server.send(&session, "[\"x\"]").await;
    assert_eq!(response.chunk().await, "a[\"x\"]\n");
}

#[tokio::test]
async fn eventsource_has_an_event_for_each_frame() {
    let server = serve().await;
    let session = server.session("/echo");
    let mut response = server.get(&format!("{session}/eventsource")).await;
    assert_eq!(response.content_type(), "text/event-stream;charset=UTF-8");
    response.assert_not_cached();
    assert_eq!(response.chunk().await, "\r\n");
    assert_eq!(response.chunk().await, "data: o\r\n\r\n");
    server.send(&session, "[\"x\"]").await;
    assert_eq!(response.chunk().await, "data: a[\"x\"]\r\n\r\n");
    server.send(&session, r#"["  \u0000\n\r "]"#).await;
    assert_eq!(response.chunk().await, "data: a[\"  \\u0000\\n\\r \"]\r\n\r\n");
}

#[tokio::test]
async fn htmlfile_has_a_script_for_each_frame() {
    let server = serve().await;
    let session = server.session("/echo");
    let mut response = server.get(&format!("{session}/htmlfile?c=%63allback")).await;
    assert_eq!(response.content_type(), "text/html;charset=UTF-8");
    response.assert_not_cached();
    let page = response.chunk().await;
    assert!(page.len() > 1024);
    let page = page.trim();
    assert!(page.starts_with("<!doctype html>\n<html><head>\n  <meta http-equiv"), "{page}");
    assert!(page.contains("var c = parent.callback;\n    c.start();"), "{page}");
    assert!(page.ends_with("window.onload = function() {c.stop();};\n  </script>"), "{page}");
    assert_eq!(response.chunk().await, "<script>\np(\"o\");\n</script>\r\n");
    server.send(&session, "[\"x\"]").await;
    assert_eq!(response.chunk().await, "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n");
    server.send(&session, "[\"</script>\"]").await;
    let script = response.chunk().await;
    assert_eq!(script.matches("</script>").count(), 1, "{script}");
}

#[tokio::test]
async fn a_response_ends_once_it_is_long_and_the_next_goes_on() {
    let server = serve().await;
    for transport in ["xhr_streaming", "eventsource", "htmlfile?c=x"] {
        let session = server.session("/echo");
        let mut response = opened(server, &session, transport).await;
        let (mut bytes, mut last) = (0, 0);
        for count in 0.. {
            let message = format!("{count}{}", "x".repeat(128));
            server.send(&session, &format!("[\"{message}\"]")).await;
            let chunk = response.chunk().await;
            if chunk.is_empty() {
                assert_eq!(server.poll(&session).await, format!("a[\"{message}\"]\n"));
                break;
            }
            assert!(chunk.contains(&message), "{chunk}");
            last = chunk.len();
            bytes += last;
        }
        // The frame `o` counts as well.
        assert!(bytes - last < 4096 && bytes + 50 > 4096, "{transport} ended after {bytes} bytes");
        server.send(&session, "[\"later\"]").await;
        assert_eq!(server.poll(&session).await, "a[\"later\"]\n");
    }
}

#[tokio::test]
async fn a_thousand_messages_come_in_order_over_responses_that_end() {
    let server = serve().await;
    for transport in ["xhr_streaming", "eventsource", "htmlfile?c=x"] {
        let session = server.session("/echo");
        let mut response = opened(server, &session, transport).await;
        let sending = async {
            for n in 0..50 {
                let some: Vec<String> = (n * 20..n * 20 + 20).map(|n| format!("<{n}>")).collect();
                server.send(&session, &serde_json::to_string(&some).unwrap()).await;
            }
        };
        let receiving = async {
            let mut text = String::new();
            while !text.contains("<999>") && !text.contains("u003c999>") {
                let chunk = response.chunk().await;
                if chunk.is_empty() {
                    let method = if transport.starts_with("xhr") { "POST" } else { "GET" };
                    let path = format!("{session}/{transport}");
                    response = server.ask(method, &path, &[], "").await;
                    response.chunk().await;
                }
                text += &chunk.replace("\\u003c", "<");
            }
            text
        };
        let ((), text) = tokio::join!(sending, receiving);
        let seen: Vec<u32> =
            text.split('<').filter_map(|part| part.split_once('>')?.0.parse().ok()).collect();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>(), "{transport}");
    }
}

#[tokio::test]
async fn what_is_more_than_a_client_reads_waits_for_it() {
    let server = serve().await;
    let session = server.session("/amplify");
    let mut response = opened(server, &session, "xhr_streaming").await;
    // 20 times 256 KiB: more than sockets hold.
    for _ in 0..20 {
        server.send(&session, "[\"18\"]").await;
    }
    let mut letters = 0;
    while letters < 20 << 18 {
        let chunk = response.chunk().await;
        if chunk.is_empty() {
            response = server.post(&format!("{session}/xhr_streaming"), "").await;
            response.chunk().await;
        }
        letters += chunk.matches('x').count();
    }
    assert_eq!(letters, 20 << 18);
}
