//! What becomes of messages, as those are told who watch.

use super::*;

#[tokio::test]
async fn a_watch_tells_each_state_once_and_ends_with_the_last() {
    let keeping = Keeping::new();
    let dispatcher = keeping.inner.node.keeper().unwrap().dispatcher().clone();
    let (running, stopping) = (dispatcher.clone(), keeping.inner.stopping.clone());
    tokio::spawn(async move { running.run(stopping).await });
    let sent = keeping.to_users(&["ann", "bob"], Durable::default()).await.unwrap();
    let of = DeliveryRef {
        users: ["ann", "bob", "nobody"].map(str::to_owned).to_vec(),
        destination: "/queue/news".to_owned(),
        message_id: sent.message_id.clone(),
    };
    let mut watch = keeping.watch(vec![of], true).await.unwrap();
    assert!(keeping.inner.metrics().contains("notifier_delivery_watches 1"));
    let mut next = async || {
        let event = soon(watch.next()).await?.unwrap();
        assert_eq!((&*event.destination, &event.message_id), ("/queue/news", &sent.message_id));
        Some((event.user, event.delivery.unwrap().state()))
    };
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(next().await.unwrap());
    }
    let told = |name: &str, state| (name.to_owned(), state);
    let expected = [
        told("ann", DeliveryState::Pending),
        told("bob", DeliveryState::Pending),
        told("nobody", DeliveryState::Unknown),
    ];
    assert_eq!(first, expected);
    for (name, settlement, state) in [
        ("bob", Settlement::Reject, DeliveryState::Failed),
        ("ann", Settlement::Ack, DeliveryState::Acked),
    ] {
        let of = inbox_of(name);
        let take = Take { of: &of, after: None, limit: 1, max_bytes: 1_000 };
        let taken = keeping.inbox.take(&take).await.unwrap();
        dispatcher.settled(&of, ::inbox::Settled { changes: taken.changes, ..Default::default() });
        assert_eq!(next().await, Some(told(name, DeliveryState::Delivered)));
        let seq = taken.entries[0].seq;
        let settled = keeping.inbox.settle(&of, taken.epoch, &[(seq, settlement)]).await.unwrap();
        // Of the last nobody tells: the store is read again.
        if name == "bob" {
            dispatcher.settled(&of, settled);
        }
        assert_eq!(next().await, Some(told(name, state)));
    }
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn watches_are_bounded_and_name_what_can_be() {
    let keeping = Keeping::new();
    let of = |users: usize, destination: &str, id: &str| DeliveryRef {
        users: (0..users).map(|n| format!("u{n}")).collect(),
        destination: destination.to_owned(),
        message_id: id.to_owned(),
    };
    let id = MessageId::new().to_string();
    for (deliveries, field) in [
        (vec![], "deliveries"),
        (vec![of(600, "/queue/a", &id), of(401, "/queue/b", &id)], "deliveries"),
        (vec![of(1, "/queue/a", "x")], "deliveries[0].message_id"),
        (vec![of(1, "/queue/a", &id), of(1, "/queue/a", &id)], "deliveries[1].message_id"),
        (vec![of(1, "queue", &id)], "deliveries[0].destination"),
        (vec![of(0, "", &id)], "deliveries[0].destination"),
    ] {
        let status = keeping.watch(deliveries, false).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field);
    }
    let mut open = Vec::new();
    for _ in 0..keeping.inner.node.config.max_watches {
        open.push(keeping.watch(vec![of(1, "/queue/a", &id)], false).await.unwrap());
    }
    let status = keeping.watch(vec![of(1, "/queue/a", &id)], false).await.err().unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    open.pop();
    assert!(keeping.watch(vec![of(1, "/queue/a", &id)], false).await.is_ok());
}
