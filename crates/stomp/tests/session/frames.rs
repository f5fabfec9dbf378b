//! What each frame of a connected session asks for, and what is wrong with it.

use stomp::Config;

use crate::script::{OPEN, OPEN_1_0, check, check_open, check_with};

#[test]
fn bytes_that_are_not_stomp_are_an_error_with_the_receipt_where_it_was_read() {
    check_open(
        "> raw HELLO\\n
         < ERROR message:unknown command \"HELLO\"
         = close",
    );
    check_open(
        "> raw SEND\\nreceipt:r1\\nno colon\\n\\n\\0
         < ERROR message:a header line without a colon receipt-id:r1
         = close",
    );
}

#[test]
fn required_headers_are_named() {
    for (frame, header) in [
        ("SEND receipt:r1", "destination"),
        ("SUBSCRIBE id:1 receipt:r1", "destination"),
        ("SUBSCRIBE destination:/topic/a receipt:r1", "id"),
        ("UNSUBSCRIBE receipt:r1", "id"),
        ("ACK receipt:r1", "id"),
        ("NACK receipt:r1", "id"),
        ("BEGIN receipt:r1", "transaction"),
        ("COMMIT receipt:r1", "transaction"),
        ("ABORT receipt:r1", "transaction"),
    ] {
        let command = frame.split(' ').next().unwrap();
        check_open(&format!(
            "> {frame}
             < ERROR message:{command} needs the header \"{header}\" receipt-id:r1
             = close"
        ));
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    check_open(
        "> SUBSCRIBE id:1 destination:/queue/a ack:maybe
         < ERROR message:SUBSCRIBE has ack:maybe, which should be auto, client or client-individual
         = close",
    );
    check(
        "> CONNECT accept-version:1.2 heart-beat:soon
         < ERROR message:CONNECT has heart-beat:soon, which should be two numbers of milliseconds such as 10000,10000
         = close",
    );
    check_open(
        "> NACK id:0.1 requeue:perhaps
         < ERROR message:NACK has requeue:perhaps, which should be true or false
         = close",
    );
}

#[test]
fn a_frame_that_servers_send_is_refused() {
    check_open(
        "> MESSAGE destination:/topic/a | x
         < ERROR message:MESSAGE is a frame that servers send, not clients
         = close",
    );
}

#[test]
fn a_live_subscription_id_is_not_given_twice_and_free_again_after_unsubscribe() {
    check_open(
        "> SUBSCRIBE id:1 destination:/topic/a
         = subscribe #0 /topic/a Auto
         > UNSUBSCRIBE id:1
         = unsubscribe Some(0)
         > SUBSCRIBE id:1 destination:/topic/b
         = subscribe #1 /topic/b Auto
         > SUBSCRIBE id:1 destination:/topic/c receipt:r
         < ERROR message:a subscription with the id \"1\" exists already in this session receipt-id:r
         = close",
    );
}

#[test]
fn unsubscribing_what_is_not_live_is_no_fault() {
    check_open(
        "> UNSUBSCRIBE id:7 receipt:r
         = unsubscribe None receipt:r",
    );
}

#[test]
fn subscriptions_are_limited() {
    check_with(
        Config { max_subscriptions: 1, ..Config::default() },
        &format!(
            "{OPEN}
             > SUBSCRIBE id:1 destination:/topic/a
             = subscribe #0 /topic/a Auto
             > SUBSCRIBE id:2 destination:/topic/a
             < ERROR message:more than 1 subscriptions in one session
             = close"
        ),
    );
}

#[test]
fn in_1_0_a_destination_names_its_subscription() {
    check(&format!(
        "{OPEN_1_0}
         > SUBSCRIBE destination:/topic/a
         = subscribe #0 /topic/a Auto
         > SUBSCRIBE destination:/topic/b id:/topic/a
         = subscribe #1 /topic/b Auto
         > UNSUBSCRIBE destination:/topic/a
         = unsubscribe Some(0)
         > SUBSCRIBE destination:/topic/b id:/topic/a
         < ERROR message:a subscription with the id \"/topic/a\" exists already in this session
         = close"
    ));
}

#[test]
fn every_frame_counts_against_the_rate() {
    check_with(
        Config { max_frames_per_second: 1, ..Config::default() },
        &format!(
            "{OPEN}
             > BEGIN transaction:t
             > SEND destination:/queue/a transaction:t
             > ABORT transaction:t
             > BEGIN transaction:t
             > ABORT transaction:t receipt:r
             < ERROR message:more than 1 frames per second receipt-id:r
             = close"
        ),
    );
}

#[test]
fn a_receipt_that_is_due_is_given_although_an_error_follows() {
    check_open(
        "> SEND destination:/topic/a receipt:r1 | x
         = publish /topic/a \"x\" receipt:r1
         ! receipt r1
         < RECEIPT receipt-id:r1
         ! fail not that
         < ERROR message:not that",
    );
}

#[test]
fn nothing_follows_a_fault() {
    check_open(
        "> SEND receipt:r
         < ERROR message:SEND needs the header \"destination\" receipt-id:r
         = close
         > SEND destination:/topic/a | x
         + 60000
         ! receipt late",
    );
}
