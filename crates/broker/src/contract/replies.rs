//! The rules for temporary queues, which `reply-to` names, and for those who reply.

use bytestring::ByteString;

use super::{
    AMPLE, PUBLISHER, assert_not_found, assert_unchanged, bodies, body, confirmed, delete,
    delicate, destination, gone, publish_all, refusal, subscribe, take, take_many, word,
};
use crate::{Broker, Destination, Message, Outcome, Subscription};

/// A temporary queue, and what reaches it.
async fn temporary(broker: &dyn Broker, prefetch: u16) -> (Subscription, Destination) {
    let subscription = subscribe(broker, &Destination::TempQueue("t".into()), prefetch).await;
    let reply_to = Destination::ReplyQueue(name(&subscription));
    (subscription, reply_to)
}

fn name(subscription: &Subscription) -> ByteString {
    subscription.queue().expect("a temporary queue has a name for others").clone()
}

/// Who is told the queue's name reaches it, though it be another publisher.
pub async fn a_reply_comes_back(broker: &dyn Broker) {
    let (mut subscription, reply_to) = temporary(broker, 1).await;
    publish_all(broker, crate::PublisherId(7), &reply_to, ["1", "2"]).await;
    for expected in ["1", "2"] {
        let delivery = take(&mut subscription).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), (expected, false));
        delivery.settle(Outcome::Ack);
    }
}

/// The name that the client chose is nothing to others who chose the same.
pub async fn each_subscription_has_a_queue_of_its_own(broker: &dyn Broker) {
    let (mut one, to_one) = temporary(broker, AMPLE).await;
    let (mut other, to_other) = temporary(broker, AMPLE).await;
    assert_ne!(to_one, to_other);
    publish_all(broker, PUBLISHER, &to_one, ["one", "one again"]).await;
    publish_all(broker, PUBLISHER, &to_other, ["other", "other again"]).await;
    assert_eq!(bodies(&take_many(&mut one, 2).await), ["one", "one again"]);
    assert_eq!(bodies(&take_many(&mut other, 2).await), ["other", "other again"]);
}

/// Id, headers, body and persistence arrive as they were sent. (The destination is the replier's
/// name for the queue, which is nothing to who waits for the reply.)
pub async fn a_message_passes_through_unchanged(broker: &dyn Broker) {
    let (mut subscription, reply_to) = temporary(broker, AMPLE).await;
    for message in delicate(&reply_to) {
        confirmed(broker, message.clone()).await.expect("the reply is confirmed");
        let delivery = take(&mut subscription).await;
        let received = Message {
            destination: message.destination.clone(),
            ..Message::clone(&delivery.message)
        };
        assert_unchanged(&received, &message);
        delivery.settle(Outcome::Ack);
    }
}

/// Replies are acked, given back and rejected as a queue's messages are.
pub async fn replies_are_kept_until_they_are_settled(broker: &dyn Broker) {
    let (mut subscription, reply_to) = temporary(broker, 1).await;
    publish_all(broker, PUBLISHER, &reply_to, ["1", "2", "3"]).await;
    take(&mut subscription).await.settle(Outcome::Requeue);
    let again = take(&mut subscription).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("1", true));
    again.settle(Outcome::Reject);
    let next = take(&mut subscription).await;
    assert_eq!((body(&next).as_str(), next.redelivered), ("2", false));
    drop(next);
    let again = take(&mut subscription).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("2", true));
    again.settle(Outcome::Ack);
    assert_eq!(body(&take(&mut subscription).await), "3");
}

/// Who asked and went away is no failure of who replies, and leaves nothing.
pub async fn a_reply_to_one_that_is_gone_is_confirmed_and_dropped(broker: &dyn Broker) {
    let (mut subscription, reply_to) = temporary(broker, 1).await;
    publish_all(broker, PUBLISHER, &reply_to, ["1", "2"]).await;
    let unsettled = take(&mut subscription).await;
    let name = name(&subscription);
    drop(subscription);
    gone(broker, &name).await;
    publish_all(broker, PUBLISHER, &reply_to, ["3"]).await;
    drop(unsettled);
    // Neither reply has made the queue anew.
    gone(broker, &name).await;
    let never = Destination::ReplyQueue(word().into());
    publish_all(broker, PUBLISHER, &never, ["to nobody"]).await;
}

/// Subscribing to a reply queue makes none.
pub async fn what_is_gone_cannot_be_subscribed_to(broker: &dyn Broker) {
    let (subscription, reply_to) = temporary(broker, 1).await;
    let name = name(&subscription);
    drop(subscription);
    gone(broker, &name).await;
    assert_not_found(&refusal(broker, &reply_to).await, &name);
    let never = word();
    let to = Destination::ReplyQueue(never.as_str().into());
    assert_not_found(&refusal(broker, &to).await, &never);
    assert_not_found(&refusal(broker, &to).await, &never);
}

/// A reply queue is a queue by its name: who replies need not know what sort it is.
pub async fn a_reply_may_go_to_any_queue(broker: &dyn Broker) {
    let name = word();
    let queue = destination(&format!("/queue/{name}"));
    let reply_to = destination(&format!("/reply-queue/{name}"));
    publish_all(broker, PUBLISHER, &queue, ["1"]).await;
    publish_all(broker, PUBLISHER, &reply_to, ["2"]).await;
    let mut consumer = subscribe(broker, &reply_to, 1).await;
    for expected in ["1", "2"] {
        let delivery = take(&mut consumer).await;
        assert_eq!(body(&delivery), expected);
        delivery.settle(Outcome::Ack);
    }
    delete(broker, &queue).await;
}
