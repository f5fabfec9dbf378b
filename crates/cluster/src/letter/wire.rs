//! What stands in the bytes. Numbers are never used for something else.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Letter {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    Message(Message),
    #[prost(message, tag = "2")]
    Disconnect(Disconnect),
    #[prost(message, tag = "3")]
    Unsubscribe(Unsubscribe),
    #[prost(message, tag = "4")]
    Revoke(Members),
    #[prost(message, tag = "5")]
    Announcement(Announcement),
    #[prost(string, tag = "6")]
    GoodBye(String),
    #[prost(message, tag = "7")]
    Grant(Members),
    #[prost(message, tag = "8")]
    Doorbell(Doorbell),
    #[prost(message, tag = "9")]
    Told(AllTold),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(message, repeated, tag = "1")]
    pub(super) to: Vec<Target>,
    #[prost(string, tag = "2")]
    pub(super) path: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) audience: Vec<Pair>,
    #[prost(string, tag = "4")]
    pub(super) id: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) headers: Vec<Pair>,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Target {
    #[prost(oneof = "OneTarget", tags = "1, 2, 3")]
    pub(super) target: Option<OneTarget>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum OneTarget {
    #[prost(string, tag = "1")]
    User(String),
    #[prost(string, tag = "2")]
    Session(String),
    #[prost(bool, tag = "3")]
    All(bool),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pair {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Disconnect {
    #[prost(message, repeated, tag = "1")]
    pub(super) of: Vec<Target>,
    #[prost(string, tag = "2")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Unsubscribe {
    #[prost(message, repeated, tag = "1")]
    pub(super) of: Vec<Target>,
    #[prost(string, tag = "2")]
    pub(super) destination: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Members {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) members: Vec<Target>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Announcement {
    #[prost(string, tag = "1")]
    pub(super) boot: String,
    #[prost(string, optional, tag = "2")]
    pub(super) registered: Option<String>,
    #[prost(bool, tag = "3")]
    pub(super) draining: bool,
    /// Older nodes say none, and skip it.
    #[prost(string, optional, tag = "4")]
    pub(super) forward: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Doorbell {
    #[prost(string, tag = "1")]
    pub(super) path: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) rings: Vec<Ring>,
    #[prost(message, optional, tag = "3")]
    pub(super) content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ring {
    #[prost(string, tag = "1")]
    pub(super) user: String,
    #[prost(fixed64, tag = "2")]
    pub(super) epoch: u64,
    #[prost(uint64, tag = "3")]
    pub(super) seq: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Content {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<Pair>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AllTold {
    #[prost(message, repeated, tag = "1")]
    pub(super) told: Vec<Told>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Told {
    /// Empty where it is an outbox.
    #[prost(string, tag = "1")]
    pub(super) user: String,
    #[prost(string, tag = "2")]
    pub(super) path: String,
    #[prost(string, tag = "3")]
    pub(super) id: String,
    /// As `State` has it below.
    #[prost(uint32, tag = "4")]
    pub(super) state: u32,
    #[prost(uint32, tag = "5")]
    pub(super) attempts: u32,
    /// In milliseconds since 1970.
    #[prost(uint64, tag = "6")]
    pub(super) since: u64,
}
