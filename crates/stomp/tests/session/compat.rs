//! What differs for clients that were written against RabbitMQ's STOMP plugin.

use stomp::{Compat, Config};

use crate::script::check_with;

#[track_caller]
fn check(transcript: &str) {
    check_with(Config { compat: Compat::RabbitMq, ..Config::default() }, transcript);
}

const OPEN: &str = "
    > CONNECT accept-version:1.2
    = connect login:None
    ! accept ann
    < CONNECTED version:1.2 session:s1 heart-beat:0,0 user-name:ann
    ";

#[test]
fn heart_beats_are_the_clients_in_whole_seconds() {
    for (wanted, offered) in
        [("4500,900", "1000,4000"), ("0,0", "0,0"), ("0,60000", "60000,0"), ("1,1", "1000,1000")]
    {
        check(&format!(
            "> CONNECT accept-version:1.2 heart-beat:{wanted}
             = connect login:None
             ! accept ann
             < CONNECTED version:1.2 session:s1 heart-beat:{offered} user-name:ann"
        ));
    }
}

#[test]
fn the_heart_beats_offered_are_kept() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:0,3000
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:3000,0 user-name:ann
         + 2000
         < heart-beat
         + 1999
         + 1
         < heart-beat",
    );
}

#[test]
fn an_error_has_its_title_as_message_and_says_the_rest_in_its_body() {
    for (frame, title, body) in [
        ("SEND x:y", "Missing destination", "SEND needs the header \"destination\"\n"),
        ("BEGIN x:y", "Missing transaction", "BEGIN needs the header \"transaction\"\n"),
        ("ACK x:y", "Missing header", "ACK needs the header \"id\"\n"),
        (
            "COMMIT transaction:t",
            "Bad transaction",
            "COMMIT names the transaction \"t\", which is not open\n",
        ),
        ("MESSAGE x:y", "Bad command", "MESSAGE is a frame that servers send, not clients\n"),
        (
            "NACK id:1 requeue:maybe",
            "Invalid header",
            "NACK has requeue:maybe, which should be true or false\n",
        ),
        (
            "SUBSCRIBE id:1 destination:/topic/a ack:maybe",
            "Processing error",
            "SUBSCRIBE has ack:maybe, which should be auto, client or client-individual",
        ),
    ] {
        check(&format!(
            "{OPEN}
             > {frame} receipt:r
             < ERROR message:{title} receipt-id:r version:1.0,1.1,1.2 | {body:?}
             = close"
        ));
    }
}

#[test]
fn what_the_broker_says_ends_in_no_line_feed() {
    check(&format!(
        "{OPEN}
         ! fail NOT_FOUND - no queue
         < ERROR message:not_found version:1.0,1.1,1.2 | \"NOT_FOUND - no queue\""
    ));
    check(&format!(
        "{OPEN}
         > SUBSCRIBE id:1 destination:/topic/a
         = subscribe #0 /topic/a Auto
         > SUBSCRIBE id:1 destination:/topic/a
         < ERROR message:Duplicated subscription identifier version:1.0,1.1,1.2 | \"a subscription with the id \\\"1\\\" exists already in this session\"
         = close"
    ));
}

#[test]
fn before_connected_too() {
    check(
        "> SEND destination:/topic/a | x
         < ERROR message:Illegal command version:1.0,1.1,1.2 | \"expected CONNECT or STOMP as the first frame, got SEND\"
         = close",
    );
    check(
        "> CONNECT accept-version:3.0
         < ERROR message:Version mismatch version:1.0,1.1,1.2 | \"no common version: the client accepts \\\"3.0\\\", this server speaks 1.0,1.1,1.2\\n\"
         = close",
    );
}
