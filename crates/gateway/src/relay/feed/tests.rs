//! Which feed follows from what is asked for, and from what is allowed.

use access::rules::{Config as Rules, Effect, Otherwise, Rule, Who};

use broker::Destinations;
use broker::destination::Verb;
use bytestring::ByteString;

use super::*;
use crate::close::CloseReason;

/// The feed of a SUBSCRIBE with these headers, `destination` among them.
fn feed(rules: Rules, text: &str) -> Result<Feed, Refused> {
    let headers: stomp::Headers = text
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let destination = headers.get("destination").unwrap();
    let parsed = Destinations::default().parse(destination, Verb::Subscribe).unwrap();
    let subscribe = Subscribe {
        number: 0,
        id: headers.get("id").cloned(),
        destination: destination.clone(),
        ack: match headers.get("ack").map(|ack| &**ack) {
            Some("client") => AckMode::Client,
            Some("client-individual") => AckMode::ClientIndividual,
            _ => AckMode::Auto,
        },
        headers: headers.clone(),
        receipt: None,
    };
    let asked = Asked::of(&headers).unwrap();
    let ann = Principal { name: "ann".into(), ..Principal::anonymous() };
    let otherwise = match &rules {
        Rules::List(_) => Otherwise::Deny,
        Rules::Default | Rules::Open => Otherwise::Default,
    };
    let config = access::Config { rules, otherwise, ..access::Config::default() };
    let access = Access::start(&config, &Destinations::default()).unwrap();
    choose(&access, &ann, &subscribe, &parsed, &asked)
}

#[track_caller]
fn open(text: &str) -> Feed {
    feed(Rules::Open, text).unwrap()
}

fn kept(id: &'static str) -> Feed {
    let owner = Some(ByteString::from_static("ann"));
    Feed::Kept { owner, id: ByteString::from_static(id) }
}

#[test]
fn a_topic_or_exchange_is_shared_unless_something_needs_a_queue() {
    for destination in ["/topic/a", "/topic/a.*", "/exchange/x", "/exchange/x/a.#"] {
        let open = |more: &str| open(&format!("id:1\ndestination:{destination}\n{more}"));
        for more in ["", "ack:auto", "prefetch-count:5", "durable:false\nauto-delete:true"] {
            assert_eq!(open(more), Feed::Shared, "{destination} {more}");
        }
        for more in [
            "ack:client",
            "ack:client-individual\nprefetch-count:5",
            "x-message-ttl:1000",
            "x-priority:1",
            "auto-delete:false",
            "exclusive:true",
        ] {
            assert_eq!(open(more), Feed::Own, "{destination} {more}");
        }
        for more in ["durable:true", "persistent:true", "durable:true\nack:client"] {
            assert_eq!(open(more), kept("1"), "{destination} {more}");
        }
        for more in ["x-queue-name:q", "x-queue-name:q\ndurable:true\nack:client"] {
            assert_eq!(open(more), Feed::Named("q".into()), "{destination} {more}");
        }
    }
}

#[test]
fn other_kinds_name_their_queue() {
    for destination in ["/queue/q", "/amq/queue/q", "/reply-queue/q"] {
        let text =
            format!("id:1\ndestination:{destination}\ndurable:true\nx-max-length:1\nack:client");
        assert_eq!(open(&text), Feed::Shared);
        let refused = feed(Rules::Open, &format!("{text}\nx-queue-name:other")).unwrap_err();
        assert_eq!(
            refused.message,
            "SUBSCRIBE has x-queue-name:other, which should be left out: the destination names the queue"
        );
    }
}

#[test]
fn who_may_have_no_queue_acknowledges_what_all_share_but_is_told_if_it_asks_for_more() {
    let default = |more: &str| feed(Rules::Default, &format!("id:1\ndestination:/topic/a\n{more}"));
    for more in ["", "ack:client", "ack:client-individual\nprefetch-count:1", "durable:false"] {
        assert_eq!(default(more).unwrap(), Feed::Shared, "{more}");
    }
    for more in ["durable:true", "x-max-length:1", "ack:client\nexclusive:true", "x-queue-name:q"] {
        let refused = default(more).unwrap_err();
        assert_eq!(refused.reason, CloseReason::Forbidden, "{more}: {}", refused.message);
    }
}

/// Somebody who may have queues of its own for topics, and subscribe to one queue.
fn clerk(text: &str) -> Result<Feed, Refused> {
    let rule = |actions: &[Action], destination: &str| Rule {
        effect: Effect::Allow,
        actions: actions.to_vec(),
        destinations: vec![destination.to_owned()],
        who: Who::Everyone,
    };
    let rules = Rules::List(vec![
        rule(&[Action::Subscribe, Action::Queue], "/topic/**"),
        rule(&[Action::Subscribe], "/queue/mine"),
    ]);
    feed(rules, text)
}

#[test]
fn a_named_queue_is_for_who_may_subscribe_to_it() {
    let named = |name| clerk(&format!("id:1\ndestination:/topic/a\nx-queue-name:{name}"));
    assert_eq!(named("mine").unwrap(), Feed::Named("mine".into()));
    let refused = named("yours").unwrap_err();
    assert_eq!(
        (refused.reason, &*refused.message),
        (
            CloseReason::Forbidden,
            "SUBSCRIBE to /queue/yours is not allowed: no rule of this server allows it (access.rules)"
        )
    );
}

#[test]
fn a_queue_sends_what_it_gives_up_only_where_its_owner_may() {
    let text = "id:1\ndestination:/topic/a\nx-dead-letter-exchange:amq.topic";
    assert_eq!(open(text), Feed::Own);
    let refused = clerk(text).unwrap_err();
    assert_eq!(
        (refused.reason, &*refused.message),
        (
            CloseReason::Forbidden,
            "SEND to /exchange/amq.topic is not allowed: no rule of this server allows it (access.rules)"
        )
    );
}

#[test]
fn with_rabbitmqs_manners_a_kept_queue_goes_with_its_consumer() {
    let options = |compat, feed: &Feed, auto_delete| {
        let said = QueueOptions { auto_delete, ..QueueOptions::default() };
        completed(compat, feed, said).auto_delete
    };
    for feed in [kept("1"), Feed::Named("q".into())] {
        assert_eq!(options(Compat::Footbridge, &feed, None), None);
        assert_eq!(options(Compat::RabbitMq, &feed, None), Some(true));
        assert_eq!(options(Compat::RabbitMq, &feed, Some(false)), Some(false));
    }
    assert_eq!(options(Compat::RabbitMq, &Feed::Own, None), None);
    assert_eq!(options(Compat::RabbitMq, &Feed::Shared, None), None, "/queue stays");
}
