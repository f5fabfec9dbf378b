//! The transports of one frame for each response: `xhr` and `jsonp`, and both ways to send.

use crate::support::serve;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

#[tokio::test]
async fn xhr_opens_sends_and_receives() {
    let server = serve().await;
    let session = server.session("/echo");
    let mut opened = server.post(&format!("{session}/xhr"), "").await;
    assert_eq!(
        (opened.status, &*opened.content_type()),
        (200, "application/javascript;charset=UTF-8")
    );
    opened.assert_cors(None);
    opened.assert_not_cached();
    assert_eq!(opened.body().await, "o\n");
    let mut sent = server.post(&format!("{session}/xhr_send"), "[\"x\"]").await;
    assert_eq!((sent.status, &*sent.content_type()), (204, "text/plain;charset=UTF-8"));
    sent.assert_cors(None);
    sent.assert_not_cached();
    assert_eq!(sent.body().await, "");
    assert_eq!(server.poll(&session).await, "a[\"x\"]\n");
}

#[tokio::test]
async fn to_send_to_a_session_that_is_not_there_is_not_found() {
    let server = serve().await;
    let session = server.session("/echo");
    assert_eq!(server.posted(&format!("{session}/xhr_send"), "[\"a\"]").await.0, 404);
    assert_eq!(server.posted(&format!("{session}/jsonp_send"), "[\"a\"]").await.0, 404);
}

#[tokio::test]
async fn bad_payloads_are_refused_and_the_session_goes_on() {
    let server = serve().await;
    let session = server.session("/echo");
    assert_eq!(server.poll(&session).await, "o\n");
    let send = format!("{session}/xhr_send");
    for (payload, told) in [
        ("[\"x", "Broken JSON encoding."),
        ("", "Payload expected."),
        ("\"x\"", "Payload expected."),
        ("{}", "Payload expected."),
        ("[1]", "Payload expected."),
    ] {
        let (status, text) = server.posted(&send, payload).await;
        assert!(status == 500 && text.contains(told), "{payload}: {status} {text}");
    }
    server.send(&session, "[\"a\"]").await;
    assert_eq!(server.poll(&session).await, "a[\"a\"]\n");
}

#[tokio::test]
async fn any_content_type_may_carry_messages() {
    let server = serve().await;
    let session = server.session("/echo");
    assert_eq!(server.poll(&session).await, "o\n");
    let types = [
        "text/plain",
        "T",
        "application/json",
        "application/xml",
        "",
        "application/json; charset=utf-8",
        "text/xml; charset=utf-8",
        "text/xml",
    ];
    for kind in types {
        let headers = [("Content-Type", kind)];
        let path = format!("{session}/xhr_send");
        assert_eq!(server.ask("POST", &path, &headers, "[\"a\"]").await.status, 204, "{kind}");
    }
    let mut received = 0;
    while received < types.len() {
        let frame = server.poll(&session).await;
        received += frame.matches("\"a\"").count();
    }
}

#[tokio::test]
async fn headers_that_a_page_asks_for_are_allowed() {
    let server = serve().await;
    for (asked, allowed) in [(Some("a, b, c"), Some("a, b, c")), (Some(""), None), (None, None)] {
        let path = format!("{}/xhr", server.session("/echo"));
        let headers: Vec<_> =
            asked.iter().map(|asked| ("Access-Control-Request-Headers", *asked)).collect();
        let answer = server.ask("POST", &path, &headers, "").await;
        answer.assert_cors(None);
        assert_eq!(answer.header("access-control-allow-headers"), allowed);
    }
}

#[tokio::test]
async fn jsonp_opens_sends_and_receives() {
    let server = serve().await;
    let session = server.session("/echo");
    let mut opened = server.get(&format!("{session}/jsonp?c=%63allback")).await;
    assert_eq!(
        (opened.status, &*opened.content_type()),
        (200, "application/javascript;charset=UTF-8")
    );
    opened.assert_not_cached();
    assert_eq!(opened.body().await, "callback(\"o\");\r\n");
    let path = format!("{session}/jsonp_send");
    let mut sent = server.ask("POST", &path, &[FORM], "d=%5B%22x%22%5D").await;
    assert_eq!((sent.status, &*sent.content_type()), (200, "text/plain;charset=UTF-8"));
    sent.assert_not_cached();
    assert_eq!(sent.body().await, "ok");
    let (_, received) = server.got(&format!("{session}/jsonp?c=%63allback")).await;
    assert_eq!(received, "callback(\"a[\\\"x\\\"]\");\r\n");
}

#[tokio::test]
async fn jsonp_and_htmlfile_need_a_callback() {
    let server = serve().await;
    for transport in ["jsonp", "htmlfile"] {
        let (status, text) = server.got(&format!("/echo/a/a/{transport}")).await;
        assert!(status == 500 && text.contains("\"callback\" parameter required"), "{text}");
    }
}

#[tokio::test]
async fn bad_forms_are_refused_and_the_session_goes_on() {
    let server = serve().await;
    let session = server.session("/echo");
    server.got(&format!("{session}/jsonp?c=x")).await;
    let path = format!("{session}/jsonp_send");
    for (form, told) in [
        ("d=%5B%22x", "Broken JSON encoding."),
        ("", "Payload expected."),
        ("d=", "Payload expected."),
        ("p=p", "Payload expected."),
    ] {
        let (status, text) = server.ask("POST", &path, &[FORM], form).await.whole().await;
        assert!(status == 500 && text.contains(told), "{form}: {status} {text}");
    }
    let (_, ok) = server.ask("POST", &path, &[FORM], "d=%5B%22b%22%5D").await.whole().await;
    assert_eq!(ok, "ok");
    let (_, received) = server.got(&format!("{session}/jsonp?c=x")).await;
    assert_eq!(received, "x(\"a[\\\"b\\\"]\");\r\n");
}

#[tokio::test]
async fn jsonp_takes_forms_and_plain_bodies() {
    let server = serve().await;
    let session = server.session("/echo");
    server.got(&format!("{session}/jsonp?c=x")).await;
    let path = format!("{session}/jsonp_send");
    server.ask("POST", &path, &[FORM], "d=%5B%22abc%22%5D").await.whole().await;
    let plain = [("Content-Type", "text/plain")];
    server.ask("POST", &path, &plain, "[\"%61bc\"]").await.whole().await;
    let mut received = String::new();
    while !received.contains("%61bc") {
        received += &server.got(&format!("{session}/jsonp?c=x")).await.1;
    }
    assert!(received.starts_with("x(\"a[\\\"abc\\\""), "{received}");
}

#[tokio::test]
async fn all_that_has_come_up_comes_in_one_frame_in_order() {
    let server = serve().await;
    let session = server.session("/echo");
    assert_eq!(server.poll(&session).await, "o\n");
    let sent: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    for some in sent.chunks(37) {
        server.send(&session, &serde_json::to_string(some).unwrap()).await;
    }
    let mut received: Vec<String> = Vec::new();
    while received.len() < sent.len() {
        let frame = server.poll(&session).await;
        received.extend(serde_json::from_str::<Vec<String>>(&frame[1..]).unwrap());
    }
    assert_eq!(received, sent);
}
