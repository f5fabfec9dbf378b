//! What a client may say of the queue or the consumer behind a destination, in AMQP's terms.

use bytestring::ByteString;

/// How a queue is declared. What is not said is as is usual for the destination: the queue of a `queue`
/// destination is durable and stays; that of a subscription of its own ends with the subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct QueueOptions {
    /// Whether it outlives the broker.
    pub durable: Option<bool>,
    /// Whether it is deleted once its last consumer has gone.
    pub auto_delete: Option<bool>,
    /// Whether nobody else may use it, and it ends with its session.
    pub exclusive: Option<bool>,
    /// What else there is to say, such as `x-message-ttl`.
    pub arguments: Arguments,
}

/// Arguments by AMQP's names, each name once.
pub type Arguments = Vec<(ByteString, Argument)>;

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Argument {
    /// A whole number, 64 bits in AMQP.
    Integer(i64),
    /// A long string.
    Text(ByteString),
    /// A boolean.
    Flag(bool),
    /// A time in seconds since 1970.
    Time(u64),
    /// A list of long strings.
    List(Vec<ByteString>),
}

impl QueueOptions {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
