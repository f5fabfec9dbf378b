//! From the first byte to CONNECTED.

use crate::script::{OPEN_1_0, OPEN_1_1, check, check_open};

#[test]
fn connect_subscribe_send_unsubscribe_disconnect() {
    check(
        "> CONNECT accept-version:1.0,1.1,1.2 host:h login:ann heart-beat:0,0
         = connect login:Some(\"ann\")
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         > SUBSCRIBE id:sub-0 destination:/topic/a receipt:r1
         = subscribe #0 /topic/a Auto receipt:r1
         ! receipt r1
         < RECEIPT receipt-id:r1
         > SEND destination:/topic/a receipt:r2 | hello
         = publish /topic/a \"hello\" receipt:r2
         > UNSUBSCRIBE id:sub-0 receipt:r3
         = unsubscribe Some(0) receipt:r3
         > DISCONNECT receipt:r4
         = disconnect receipt:r4
         ! receipt r4
         < RECEIPT receipt-id:r4",
    );
}

#[test]
fn no_accept_version_is_1_0() {
    check(
        "> CONNECT login:ann
         = connect login:Some(\"ann\")
         ! accept ann
         < CONNECTED version:1.0 session:s1 heart-beat:10000,10000 user-name:ann",
    );
}

#[test]
fn the_highest_common_version_is_chosen() {
    check(
        "> STOMP accept-version:1.1,2.0,1.0
         = connect login:None
         ! accept bob
         < CONNECTED version:1.1 session:s1 heart-beat:10000,10000 user-name:bob",
    );
}

#[test]
fn no_common_version_is_an_error_that_lists_ours() {
    check(
        "> CONNECT accept-version:2.0,3.0
         < ERROR message:no common version: the client accepts \"2.0,3.0\", this server speaks 1.0,1.1,1.2 version:1.0,1.1,1.2
         = close",
    );
}

#[test]
fn nothing_is_decoded_while_connect_is_decided() {
    check(
        "> raw CONNECT\\naccept-version:1.2\\n\\n\\0SEND\\ndestination:/topic/a\\n\\nx\\0
         = connect login:None
         > SEND destination:/topic/a | y
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         = publish /topic/a \"x\"
         = publish /topic/a \"y\"",
    );
}

#[test]
fn a_refused_connect_is_an_error_and_the_end() {
    check(
        "> CONNECT accept-version:1.2
         = connect login:None
         ! fail no such user
         < ERROR message:no such user
         > CONNECT accept-version:1.2",
    );
}

#[test]
fn the_first_frame_must_be_connect() {
    check(
        "> SEND destination:/topic/a receipt:r1 | x
         < ERROR message:expected CONNECT or STOMP as the first frame, got SEND receipt-id:r1
         = close",
    );
}

#[test]
fn a_second_connect_is_refused() {
    check(
        "> CONNECT accept-version:1.2
         = connect login:None
         ! accept ann
         < CONNECTED version:1.2 session:s1 heart-beat:10000,10000 user-name:ann
         > STOMP accept-version:1.2
         < ERROR message:this session is connected already; a second STOMP is not allowed
         = close",
    );
}

#[test]
fn each_version_names_what_it_acknowledges_its_own_way() {
    check_open(
        "> SUBSCRIBE id:s destination:/queue/q ack:client
         = subscribe #0 /queue/q Client
         > ACK id:0.1 receipt:r
         = ack Token(\"0.1\") receipt:r
         > NACK id:0.2 requeue:false
         = nack-drop Token(\"0.2\")",
    );
    check(&format!(
        "{OPEN_1_1}
         > SUBSCRIBE id:s destination:/queue/q ack:client-individual
         = subscribe #0 /queue/q ClientIndividual
         > NACK message-id:m subscription:s
         = nack Message {{ id: \"m\", subscription: Some(0) }}
         > ACK message-id:m
         < ERROR message:ACK needs the header \"subscription\"
         = close"
    ));
    check(&format!(
        "{OPEN_1_0}
         > ACK message-id:m
         = ack Message {{ id: \"m\", subscription: None }}"
    ));
}

#[test]
fn nothing_is_escaped_before_connected() {
    check(
        "> CONNECT accept-version:1.2 heart-beat:a:b
         < ERROR message:CONNECT has heart-beat:a:b, which should be two numbers of milliseconds such as 10000,10000
         = close",
    );
}
