//! ACK and NACK: how each version names a delivery, and what becomes of one whose subscription ended.

use stomp::Config;

use crate::script::{OPEN_1_0, OPEN_1_1, check, check_open, check_with};

#[test]
fn in_1_0_the_message_id_is_enough_and_nack_is_understood() {
    check(&format!(
        "{OPEN_1_0}
         > ACK message-id:m
         = ack Message {{ id: \"m\", subscription: None }}
         > NACK message-id:m receipt:r
         = nack Message {{ id: \"m\", subscription: None }} receipt:r
         > ACK id:m receipt:r
         < ERROR message:ACK needs the header \"message-id\" receipt-id:r
         = close"
    ));
}

#[test]
fn in_1_1_subscription_and_message_id_are_needed() {
    for (headers, missing) in [("message-id:m", "subscription"), ("subscription:1", "message-id")] {
        check(&format!(
            "{OPEN_1_1}
             > SUBSCRIBE id:1 destination:/queue/a ack:client
             = subscribe #0 /queue/a Client
             > ACK {headers} receipt:r
             < ERROR message:ACK needs the header \"{missing}\" receipt-id:r
             = close"
        ));
    }
}

#[test]
fn in_1_1_a_subscription_that_ended_is_still_known_and_one_that_never_was_is_not() {
    check(&format!(
        "{OPEN_1_1}
         > SUBSCRIBE id:1 destination:/queue/a ack:client
         = subscribe #0 /queue/a Client
         > UNSUBSCRIBE id:1
         = unsubscribe Some(0)
         > ACK subscription:1 message-id:m
         = ack Message {{ id: \"m\", subscription: Some(0) }}
         > SUBSCRIBE id:1 destination:/queue/b ack:client
         = subscribe #1 /queue/b Client
         > ACK subscription:1 message-id:m
         = ack Message {{ id: \"m\", subscription: Some(1) }}
         > ACK subscription:2 message-id:m
         = ack Message {{ id: \"m\", subscription: Some(4294967295) }}"
    ));
}

#[test]
fn of_the_subscriptions_that_ended_only_the_last_are_known() {
    check_with(
        Config { max_subscriptions: 1, ..Config::default() },
        &format!(
            "{OPEN_1_1}
             > SUBSCRIBE id:1 destination:/queue/a
             = subscribe #0 /queue/a Auto
             > UNSUBSCRIBE id:1
             = unsubscribe Some(0)
             > SUBSCRIBE id:2 destination:/queue/a
             = subscribe #1 /queue/a Auto
             > ACK subscription:1 message-id:m
             = ack Message {{ id: \"m\", subscription: Some(0) }}
             > UNSUBSCRIBE id:2
             = unsubscribe Some(1)
             > UNSUBSCRIBE id:2
             = unsubscribe None
             > ACK subscription:2 message-id:m
             = ack Message {{ id: \"m\", subscription: Some(1) }}
             > ACK subscription:1 message-id:m
             = ack Message {{ id: \"m\", subscription: Some(4294967295) }}"
        ),
    );
}

#[test]
fn a_nack_says_whether_to_deliver_again_or_leaves_it_to_the_server() {
    check_open(
        "> NACK id:t
         = nack Token(\"t\")
         > NACK id:t requeue:true
         = nack-requeue Token(\"t\")
         > NACK id:t requeue:false
         = nack-drop Token(\"t\")",
    );
}

#[test]
fn an_unsubscribe_carries_what_it_says_of_its_queue() {
    check_open(
        "> SUBSCRIBE id:1 destination:/topic/a durable:true
         = subscribe #0 /topic/a Auto
         > UNSUBSCRIBE id:1 durable:true receipt:r
         = unsubscribe Some(0) durable:true receipt:r",
    );
    check(&format!(
        "{OPEN_1_0}
         > SUBSCRIBE destination:/topic/a
         = subscribe #0 /topic/a Auto
         > UNSUBSCRIBE destination:/topic/a durable:true
         = unsubscribe Some(0) durable:true"
    ));
}
