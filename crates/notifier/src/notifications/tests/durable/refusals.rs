//! What is refused, what fails, and what is left half done.

use super::*;

#[tokio::test]
async fn each_failure_of_the_store_has_a_status_of_its_own() {
    let why = || "gone".to_owned();
    for (error, code, retries, is_unconfirmed) in [
        (Error::Unavailable(why()), Code::Unavailable, true, false),
        (Error::Unknown(why()), Code::Unavailable, true, true),
        (Error::NoSpace(why()), Code::ResourceExhausted, false, false),
        (Error::NotDurable(why()), Code::FailedPrecondition, false, false),
        (Error::Corrupt(why()), Code::FailedPrecondition, false, false),
    ] {
        let keeping = Keeping::new();
        keeping.inbox.on_append([OnAppend::Fail(error.clone())]);
        let status = keeping.to_users(&["ann"], Durable::default()).await.unwrap_err();
        assert_eq!(status.code(), code, "{error}: {status:?}");
        assert_eq!(status.get_details_retry_info().is_some(), retries, "{error}");
        let unconfirmed = reason(&status).filter(|(reason, _)| reason == "UNCONFIRMED");
        assert_eq!(unconfirmed.is_some(), is_unconfirmed, "{error}");
        assert!(status.message().contains("gone"), "{status:?}");
        assert!(keeping.inner.metrics().contains("appends_total{outcome=\"failed\"} 1"));
    }
    let nowhere = crate::fixture::Fixture::over(
        Arc::new(FakeBroker::new(Link::Up, OnPublish::Answer(Ok(())))),
        Config::default(),
    );
    let notifications = Notifications::new(nowhere.node.clone());
    let request = Request::new(to_users(&["ann"], Durable::default()));
    let status = notifications.send_to_user(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("no inbox is configured"), "{status:?}");
}

#[tokio::test]
async fn an_answer_of_the_store_that_got_lost_is_asked_for_again_by_the_key() {
    let keeping = Keeping::new();
    let lost = || OnAppend::DoAndFail(Error::Unknown("timed out".to_owned()));
    keeping.inbox.on_append([lost(), lost()]);
    let sent = keeping.to_users(&["ann"], key("k")).await.unwrap();
    assert_eq!(keeping.ids_of("ann").await, [&*sent.message_id]);
    // Without one the caller is told the id.
    keeping.inbox.on_append([lost()]);
    let status = keeping.to_users(&["bob"], Durable::default()).await.unwrap_err();
    let (_, id) = reason(&status).unwrap();
    assert_eq!(keeping.ids_of("bob").await, [id]);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_given_up_at_the_deadline() {
    let keeping = Keeping::new();
    keeping.inbox.on_append([OnAppend::Hang]);
    let mut request = Request::new(to_users(&["ann"], Durable::default()));
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let status = soon(keeping.notifications.send_to_user(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(reason(&status).unwrap().0, "UNCONFIRMED");
}

#[tokio::test]
async fn a_message_for_all_is_never_left_half_done_unsaid() {
    let keeping = Keeping::new();
    keeping.know(2_500).await;
    let away = || OnAppend::Fail(Error::Unavailable("refused".to_owned()));
    // Nothing is done yet: told at once.
    keeping.inbox.on_append([away()]);
    let status = keeping.to_all(Durable::default()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, None));
    // In the middle: tried again.
    keeping.inbox.on_append([OnAppend::Do, away(), away()]);
    let sent = keeping.to_all(key("first")).await.unwrap();
    assert_eq!(counts(&sent), [2_500, 0, 0, 0]);
    // Given up in the middle, and gone on with by its key.
    keeping.inbox.on_append([OnAppend::Do, OnAppend::Fail(Error::NoSpace("full".to_owned()))]);
    let status = keeping.to_all(key("second")).await.unwrap_err();
    let (reason, first) = reason(&status).unwrap();
    assert_eq!((status.code(), &*reason), (Code::Unavailable, "UNCONFIRMED"));
    assert!(status.message().contains("1000 inboxes have the message"), "{status:?}");
    let sent = keeping.to_all(key("second")).await.unwrap();
    assert_eq!(counts(&sent), [1_500, 0, 1_000, 0]);
    let mut ids = vec![first, sent.message_id];
    ids.dedup();
    assert_eq!(ids.len(), 2);
    for name in ["u0", "u999", "u1234", "u2499"] {
        assert_eq!(keeping.ids_of(name).await.len(), 2, "{name}");
    }
    let again = keeping.to_all(key("second")).await.unwrap();
    assert_eq!(counts(&again), [0, 0, 2_500, 0]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let keeping = Keeping::new();
    let session = SessionId::generate(keeping.inner.boot);
    let durable = |durable| To::Users(to_users(&["ann"], durable));
    let ttl = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let group = |destination: &str| {
        To::Groups(SendToGroupRequest {
            groups: vec!["dev".to_owned()],
            destination: destination.to_owned(),
            message: message("x"),
            durable: Some(Durable::default()),
            ..Default::default()
        })
    };
    let cases = [
        (
            To::Users(SendToUserRequest {
                audience: audience(),
                ..to_users(&["ann"], Durable::default())
            }),
            "users.audience",
        ),
        (
            To::Users(SendToUserRequest {
                destination: format!("/queue/{}", "x".repeat(600)),
                ..to_users(&["ann"], Durable::default())
            }),
            "users.destination",
        ),
        (durable(Durable { ttl: ttl(-1), ..Durable::default() }), "users.durable.ttl"),
        (durable(Durable { ttl: ttl(8 * 86_400), ..Durable::default() }), "users.durable.ttl"),
        (
            durable(Durable { ttl: ttl(5), deliver_at: later(60), ..Durable::default() }),
            "users.durable.ttl",
        ),
        (
            durable(Durable { deliver_at: later(3651 * 86_400), ..Durable::default() }),
            "users.durable.deliver_at",
        ),
        (durable(key(&"x".repeat(256))), "users.durable.idempotency_key"),
        (group(""), "groups.destination"),
    ];
    for (to, field) in cases {
        let request = SendRequest { to: Some(to) };
        let refused = crate::sends::of_stream(request, &keeping.inner.node).unwrap_err();
        assert!(matches!(&refused, Refusal::Invalid { field: of, .. } if of == field), "{refused}");
    }
    let publish = |destination: &str| PublishRequest {
        destination: destination.to_owned(),
        deliver_at: later(60),
        ..request("x")
    };
    for (request, field) in [
        (publish("/reply-queue/r"), "deliver_at"),
        (PublishRequest { deliver_at: later(3651 * 86_400), ..publish("/topic/a") }, "deliver_at"),
        (
            PublishRequest {
                deliver_at: None,
                idempotency_key: "k".to_owned(),
                ..publish("/topic/a")
            },
            "idempotency_key",
        ),
        (
            PublishRequest {
                deliver_at: None,
                idempotency_key: "k".to_owned(),
                ..publish(&format!("/user/{session}/queue/news"))
            },
            "idempotency_key",
        ),
    ] {
        let refused = crate::publishes::publish(request.clone(), &keeping.inner.node).unwrap_err();
        let is = matches!(&refused, Refusal::Invalid { field: of, .. } if of == field);
        assert!(is, "{refused}: {request:?}");
    }
}
