//! Where RabbitMQ itself takes replies: an AMQP application that asks with `amq.rabbitmq.reply-to` as its
//! `reply-to` has a name of its own put in that place, which leads to the channel it asked on.
//!
//! A part of the name is a process of RabbitMQ's as Erlang writes it. Where it is none, RabbitMQ ends
//! the whole connection of whoever publishes there (3.10.8: `INTERNAL_ERROR`), and each one that names
//! another node of a cluster stays in RabbitMQ's memory. So names are not taken from clients.
//!
//! Invariants
//! - Replies go only to names that came here as the `reply-to` of a message, and that RabbitMQ can read.
//! - The last [`LENGTH`] of those are known; who asked before them gets no reply.

use std::collections::{HashSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lapin::BasicProperties;
use lapin::types::ShortString;
use parking_lot::Mutex;

/// What such names begin with.
const PREFIX: &str = "amq.rabbitmq.reply-to.";

/// How many are known.
const LENGTH: usize = 10_000;

/// The names that came here of late.
#[derive(Debug, Default)]
pub(crate) struct DirectReplies {
    /// Held for a lookup.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    names: HashSet<ShortString>,
    /// The same names, oldest first.
    order: VecDeque<ShortString>,
}

/// Whether replies to `name` are RabbitMQ's own affair.
pub(crate) fn is_one(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl DirectReplies {
    /// Notes whom a message with these properties asks to reply to.
    pub(crate) fn note(&self, properties: &BasicProperties) {
        let Some(name) = properties.reply_to() else { return };
        if !is_readable(name.as_str()) {
            return;
        }
        let mut known = self.known.lock();
        if !known.names.insert(name.clone()) {
            return;
        }
        known.order.push_back(name.clone());
        if known.order.len() > LENGTH
            && let Some(oldest) = known.order.pop_front()
        {
            known.names.remove(&oldest);
        }
    }

    /// Whether a reply may go to `name`.
    pub(crate) fn permit(&self, name: &str) -> bool {
        // A longer one came from nobody.
        ShortString::try_new(name).is_ok_and(|name| self.known.lock().names.contains(&name))
    }
}

/// Whether `name` is written as RabbitMQ writes one: the prefix, a process and a key, both in base 64.
fn is_readable(name: &str) -> bool {
    let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(process, key)| {
        let key = STANDARD.decode(key).is_ok_and(|key| !key.is_empty());
        key && STANDARD.decode(process).is_ok_and(|process| is_process(&process))
    })
}

/// Whether `bytes` are a process in Erlang's external term format, and nothing besides.
fn is_process(bytes: &[u8]) -> bool {
    const VERSION: u8 = 131;
    const ATOM: u8 = 100;
    const ATOM_UTF8: u8 = 118;
    const SMALL_ATOM: u8 = 115;
    const SMALL_ATOM_UTF8: u8 = 119;
    // After the node: its number and serial, and the node's creation.
    let (rest, after) = match bytes {
        [VERSION, 103, rest @ ..] => (rest, 4 + 4 + 1),
        [VERSION, 88, rest @ ..] => (rest, 4 + 4 + 4),
        _ => return false,
    };
    let (length, rest) = match rest {
        [ATOM | ATOM_UTF8, high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
        [SMALL_ATOM | SMALL_ATOM_UTF8, length, rest @ ..] => (u16::from(*length), rest),
        _ => return false,
    };
    let length = usize::from(length);
    rest.len() == length + after && length <= 255 && is_node(&rest[..length])
}

/// Whether `name` is a node's, as far as those are plain.
fn is_node(name: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"@._-".contains(byte);
    name.iter().all(plain) && name.iter().filter(|byte| **byte == b'@').count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RabbitMQ 3.10.8 wrote it.
    const NAME: &str =
        "amq.rabbitmq.reply-to.g1h2AA1yZXBseUA5MzgzNjUyAAAEGgAAAABrCSaJ.SifnP0kgA/mumBVciONV6g==";

    fn properties(reply_to: &str) -> BasicProperties {
        BasicProperties::default().with_reply_to(reply_to.into())
    }

    fn process(bytes: &[u8]) -> String {
        format!("{PREFIX}{}.a2V5", STANDARD.encode(bytes))
    }

    #[test]
    fn a_name_is_known_once_a_message_came_with_it() {
        let replies = DirectReplies::default();
        assert!(is_one(NAME) && !replies.permit(NAME));
        replies.note(&properties(NAME));
        replies.note(&BasicProperties::default());
        assert!(replies.permit(NAME));
        assert!(!replies.permit(&NAME.replace("Sifn", "AAAA")));
        assert!(!replies.permit(&NAME.repeat(5)));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let replies = DirectReplies::default();
        replies.note(&properties(NAME));
        for n in 0..LENGTH {
            let key = STANDARD.encode(n.to_string());
            replies.note(&properties(&NAME.replace("SifnP0kgA/mumBVciONV6g==", &key)));
        }
        assert!(!replies.permit(NAME));
        assert_eq!(replies.known.lock().names.len(), LENGTH);
        assert_eq!(replies.known.lock().order.len(), LENGTH);
    }

    #[test]
    fn what_rabbitmq_could_not_read_is_not_known() {
        let whole = [&[131, 88, 119, 3][..], b"a@b", &[0; 12]].concat();
        assert!(is_readable(&process(&whole)));
        let old = [&[131, 103, 100, 0, 3][..], b"a@b", &[0; 9]].concat();
        assert!(is_readable(&process(&old)));
        for cut in 0..whole.len() {
            assert!(!is_readable(&process(&whole[..cut])), "{cut}");
        }
        let longer = [&whole[..], &[0]].concat();
        let no_node = [&[131, 88, 119, 3][..], b"a b", &[0; 12]].concat();
        let compressed = [&[131, 80][..], &whole[1..]].concat();
        for bytes in [longer, no_node, compressed] {
            assert!(!is_readable(&process(&bytes)));
        }
        for name in [
            "amq.rabbitmq.reply-to",
            "amq.rabbitmq.reply-to.",
            "amq.rabbitmq.reply-to.x",
            "amq.rabbitmq.reply-to.x.y",
            &NAME.replace("==", ""),
            &format!("{NAME}.x"),
            &NAME.replace("amq.", ""),
        ] {
            assert!(!is_readable(name), "{name}");
        }
    }
}
