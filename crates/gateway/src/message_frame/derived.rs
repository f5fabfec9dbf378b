//! The destination of a message as RabbitMQ's STOMP plugin shows it: from the exchange it was published
//! to and its routing key, whatever the subscriber asked for.

use std::fmt::Write;

use broker::Destination;
use bytestring::ByteString;

/// The exchange of topics.
const TOPICS: &str = "amq.topic";

/// `/queue/<name>`, `/topic/<key>` or `/exchange/<name>[/<key>]`.
pub(super) fn destination(destination: &Destination) -> ByteString {
    let mut out = String::with_capacity(64);
    match destination {
        Destination::Topic(topic) => words(&mut out, topic.prefix(), [Some(&**topic.key())]),
        Destination::Exchange { exchange, key } if **exchange == *TOPICS => {
            words(&mut out, "/topic", [key.as_deref()]);
        }
        Destination::Exchange { exchange, key } => {
            words(&mut out, "/exchange", [Some(&**exchange), key.as_deref()]);
        }
        // All of them are reached through the exchange without a name.
        Destination::Queue(name)
        | Destination::AmqQueue(name)
        | Destination::TempQueue(name)
        | Destination::ReplyQueue(name) => words(&mut out, "/queue", [Some(&**name)]),
        Destination::User(_) | Destination::Group(_) | Destination::App(_) => {
            return destination.to_string().into();
        }
    }
    out.into()
}

fn words<'a>(out: &mut String, prefix: &str, words: impl IntoIterator<Item = Option<&'a str>>) {
    out.push_str(prefix);
    for word in words.into_iter().flatten() {
        out.push('/');
        for c in word.chars() {
            match c {
                '/' | '%' | '\0'..='\x1f' | '\u{80}'.. => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        // Writing to a string does not fail.
                        let _ = write!(out, "%{byte:02X}");
                    }
                }
                c => out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::Destinations;
    use broker::destination::Verb;

    use super::*;

    #[test]
    fn by_exchange_and_routing_key() {
        for (sent, shown) in [
            ("/topic/a.b", "/topic/a.b"),
            ("/topic/a/b", "/topic/a.b"),
            ("/topic/a/b.c", "/topic/a.b%252Ec"),
            ("/topic/a%2Fb", "/topic/a%2Fb"),
            ("/topic/100%", "/topic/100%25"),
            ("/topic/gr\u{fc}n", "/topic/gr%C3%BCn"),
            ("/queue/q", "/queue/q"),
            ("q", "/queue/q"),
            ("/queue/a%2Fb", "/queue/a%2Fb"),
            ("/amq/queue/q", "/queue/q"),
            ("/reply-queue/amq.gen-1", "/queue/amq.gen-1"),
            ("/exchange/amq.topic/a.b", "/topic/a.b"),
            ("/exchange/x/k", "/exchange/x/k"),
            ("/exchange/x", "/exchange/x"),
        ] {
            let parsed = Destinations::default().parse(sent, Verb::Send).unwrap();
            assert_eq!(destination(&parsed), shown, "{sent}");
        }
    }
}
