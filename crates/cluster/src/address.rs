//! The topics by which nodes and groups are reached. Clients cannot name them: no prefix of a
//! configuration is theirs, and in RabbitMQ their exchanges begin with the namespace.

use broker::Destination;
use broker::destination::Topic;
use broker::internal::{Internal, ROSTER};
use bytestring::ByteString;
use presence::{Boot, GroupName};

/// The prefix of the nodes' topics.
pub const NODES: &str = Internal::Nodes.prefix();

/// The prefix of the groups' topics.
pub const GROUPS: &str = Internal::Groups.prefix();

/// The prefix of the topics of presence events.
pub const EVENTS: &str = Internal::Events.prefix();

/// The longest key of a topic in bytes, as AMQP has it.
const LIMIT: usize = 255;

/// A group whose name cannot be written in AMQP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name of a group takes {length} bytes when it is encoded, and may take {limit}")]
pub struct NameTooLong {
    /// What it takes.
    pub length: usize,
    /// What it may take.
    pub limit: usize,
}

/// What comes for one node.
pub(crate) fn node(boot: Boot) -> Destination {
    exact(NODES, boot.to_string().into())
}

/// What comes for every node.
pub(crate) fn all() -> Destination {
    exact(NODES, ByteString::from_static("all"))
}

/// Where nodes say how they are.
pub(crate) fn roster() -> Destination {
    exact(NODES, ByteString::from_static(ROSTER))
}

/// What comes for that process from itself.
pub(crate) fn calls(boot: Boot) -> Destination {
    exact(NODES, format!("call.{boot}").into())
}

/// Where nodes tell that something of that kind happened.
pub(crate) fn event(kind: &'static str) -> Destination {
    exact(EVENTS, ByteString::from_static(kind))
}

/// All that nodes tell, as a pattern.
pub(crate) fn every_event() -> Destination {
    exact(EVENTS, ByteString::from_static("#"))
}

/// What comes for the subscribers of a group, in the form of a topic with one word.
///
/// # Errors
/// When its name is too long for that.
pub fn group(name: &GroupName) -> Result<Topic, NameTooLong> {
    let mut key = String::with_capacity(name.as_str().len());
    for c in name.as_str().chars() {
        match c {
            // What means something in a key, and the sign that says so.
            '.' | '*' | '#' | '%' => key.push_str(&format!("%{:02X}", u32::from(c))),
            c => key.push(c),
        }
    }
    match key.len() {
        length if length > LIMIT => Err(NameTooLong { length, limit: LIMIT }),
        _ => Ok(Topic::exact(ByteString::from_static(GROUPS), key.into())),
    }
}

fn exact(prefix: &'static str, key: ByteString) -> Destination {
    Destination::Topic(Topic::exact(ByteString::from_static(prefix), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_one_word_whatever_its_name() {
        for (name, key) in
            [("dev", "dev"), ("a.b", "a%2Eb"), ("*", "%2A"), ("#", "%23"), ("%2E", "%252E")]
        {
            let topic = group(&GroupName::new(name).unwrap()).unwrap();
            assert_eq!((&**topic.prefix(), &**topic.key()), (GROUPS, key));
            assert!(!topic.is_pattern());
        }
    }

    #[test]
    fn a_name_that_amqp_cannot_carry_is_refused() {
        let name = GroupName::new(".".repeat(86)).unwrap();
        assert_eq!(group(&name), Err(NameTooLong { length: 258, limit: 255 }));
    }
}
