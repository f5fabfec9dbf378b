//! JSESSIONID, for load balancers that look at nothing else.

use crate::support::{Exchange, serve};

fn assert_cookie(answer: &Exchange, value: &str) {
    let cookie = answer.header("set-cookie").unwrap();
    assert_eq!(cookie, format!("JSESSIONID={value}; path=/"));
}

#[tokio::test]
async fn every_request_for_a_session_sets_it_and_info_does_not() {
    let server = serve().await;
    server.get("/cookie_needed_echo/info").await.assert_no_cookie();
    let session = || server.session("/cookie_needed_echo");
    assert_cookie(&server.post(&format!("{}/xhr", session()), "").await, "dummy");
    assert_cookie(&server.post(&format!("{}/xhr_streaming", session()), "").await, "dummy");
    assert_cookie(&server.get(&format!("{}/eventsource", session())).await, "dummy");
    assert_cookie(&server.get(&format!("{}/htmlfile?c=x", session())).await, "dummy");
    let session = session();
    assert_cookie(&server.get(&format!("{session}/jsonp?c=x")).await, "dummy");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let path = format!("{session}/jsonp_send");
    assert_cookie(&server.ask("POST", &path, &form, "d=%5B%22x%22%5D").await, "dummy");
    assert_cookie(&server.post(&format!("{session}/xhr_send"), "[\"x\"]").await, "dummy");
    server.post(&format!("{}/xhr", server.session("/echo")), "").await.assert_no_cookie();
}

#[tokio::test]
async fn one_that_is_there_keeps_its_value() {
    let server = serve().await;
    let path = format!("{}/xhr", server.session("/cookie_needed_echo"));
    let headers = [("Cookie", "theme=dark; JSESSIONID=abcdef; x=y")];
    assert_cookie(&server.ask("POST", &path, &headers, "").await, "abcdef");
}
