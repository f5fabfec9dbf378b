//! How sessions end, by either side, and what is said of it.

use crate::support::serve;

const AWAY: &str = "c[3000,\"Go away!\"]\n";
const STILL_OPEN: &str = "c[2010,\"Another connection still open\"]\n";

#[tokio::test]
async fn a_closed_session_says_so_to_whoever_asks() {
    let server = serve().await;
    let session = server.session("/close");
    assert_eq!(server.poll(&session).await, "o\n");
    for _ in 0..3 {
        assert_eq!(server.poll(&session).await, AWAY);
    }
    let session = server.session("/close");
    let jsonp = format!("{session}/jsonp?c=x");
    assert_eq!(server.got(&jsonp).await.1, "x(\"o\");\r\n");
    for _ in 0..2 {
        assert_eq!(server.got(&jsonp).await.1, "x(\"c[3000,\\\"Go away!\\\"]\");\r\n");
    }
}

#[tokio::test]
async fn a_close_ends_the_response_and_the_next_request_hears_of_it() {
    let server = serve().await;
    let session = server.session("/close");
    let path = format!("{session}/xhr_streaming");
    let mut first = server.post(&path, "").await;
    first.chunk().await;
    assert_eq!(first.chunk().await, "o\n");
    assert_eq!(first.chunk().await, AWAY);
    let mut second = server.post(&path, "").await;
    second.chunk().await;
    assert_eq!(second.chunk().await, AWAY);
    assert_eq!((first.chunk().await, second.chunk().await), (String::new(), String::new()));
}

#[tokio::test]
async fn one_request_receives_at_a_time() {
    let server = serve().await;
    let transports = ["xhr", "xhr_streaming", "eventsource", "htmlfile?c=x", "jsonp?c=x"];
    for other in transports {
        let session = server.session("/echo");
        let mut first = server.post(&format!("{session}/xhr_streaming"), "").await;
        first.chunk().await;
        assert_eq!(first.chunk().await, "o\n");
        let method = if other.starts_with("xhr") { "POST" } else { "GET" };
        let (status, said) =
            server.ask(method, &format!("{session}/{other}"), &[], "").await.whole().await;
        assert_eq!(status, 200);
        assert!(said.contains("c[2010,"), "{other}: {said}");
        if other == "xhr" {
            assert_eq!(said, STILL_OPEN);
        }
        // The first one goes on.
        server.send(&session, "[\"x\"]").await;
        assert_eq!(first.chunk().await, "a[\"x\"]\n");
    }
}

#[tokio::test]
async fn a_request_that_breaks_ends_the_session() {
    let server = serve().await;
    for transport in ["xhr_streaming", "xhr"] {
        let session = server.session("/echo");
        assert_eq!(server.poll(&session).await, "o\n");
        // Its head comes once it receives.
        let waiting = server.post(&format!("{session}/{transport}"), "").await;
        assert_eq!(server.poll(&session).await, STILL_OPEN);
        drop(waiting);
        loop {
            let said = server.poll(&session).await;
            if said == STILL_OPEN {
                continue;
            }
            assert!(["c[1002,\"Connection interrupted\"]\n", "o\n"].contains(&&*said), "{said}");
            break;
        }
    }
}

#[tokio::test]
async fn what_comes_after_the_close_is_for_nobody_and_no_error() {
    let server = serve().await;
    let session = server.session("/close");
    assert_eq!(server.poll(&session).await, "o\n");
    server.send(&session, "[\"late\"]").await;
    assert_eq!(server.poll(&session).await, AWAY);
    server.send(&session, "[\"later\"]").await;
    assert_eq!(server.poll(&session).await, AWAY);
}
