//! All that a client can do wrong: what it says, and what it is told.
//!
//! Of some that cannot be written down as frames, what they do is in `doings`.

/// What is too much only as fast as the node takes it.
const FLOOD: &str = "a flood";

/// One thing to do wrong.
pub(crate) struct Misdeed {
    pub(crate) name: &'static str,
    pub(crate) deed: Deed,
}

impl Misdeed {
    /// Whether it is answered as it should be only if few do it at a time: many floods slow each other
    /// down, until none is one.
    pub(crate) fn is_flood(&self) -> bool {
        self.name == FLOOD
    }

    /// Whether RabbitMQ refuses it on the connection that consumes, which costs that the number of a channel:
    /// a consumer, and queues for oneself, which are locked to that connection.
    pub(crate) fn costs_a_channel(&self) -> bool {
        let told = ["exclusive use", "check.0", "m.own.{other}"];
        match &self.deed {
            Deed::Said { words, .. } => {
                words.iter().any(|word| told.iter().any(|told| word.contains(told)))
            }
            Deed::Unconnected { .. } | Deed::Done(_) => false,
        }
    }
}

/// What is done.
pub(crate) enum Deed {
    /// Frames, each without its NUL; the last one is answered by an ERROR with these words in it.
    Said { frames: Vec<String>, words: &'static [&'static str] },
    /// The same on a connection without a session.
    Unconnected { frames: Vec<String>, words: &'static [&'static str] },
    /// Something that takes more.
    Done(Doing),
}

/// See `doings`.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    /// An ACK of what another session got.
    ForeignToken,
    /// An ACK of what is not to be acknowledged.
    AutoToken,
    /// A second ACK.
    TokenTwice,
    /// A frame that does not end.
    HalfFrame,
    /// A CONNECT that does not end.
    HalfConnect,
    /// A transaction that does not end.
    CutTransaction,
    /// Deliveries that are never acknowledged.
    Hoard,
    /// A client that reads nothing.
    Deaf,
    /// A stream of which some is refused, and the rest left.
    Stream,
    /// A message for a queue that is not there, of which RabbitMQ tells nobody.
    NowhereReply,
    /// Temporary queues, and a cut.
    TempQueues,
}

/// `{node}` is the number of the node, and `{other}` that of the other one.
#[rustfmt::skip]
pub(crate) fn all() -> Vec<Misdeed> {
    let long = "x".repeat(256);
    let send = |headers: &str| format!("SEND\n{headers}\n\nbody");
    let subscribe = |headers: &str| format!("SUBSCRIBE\nid:1\n{headers}\n\n");
    let to_queue = |header: &str| send(&format!("destination:/queue/check.0\n{header}"));
    let many = |count: usize, frame: &dyn Fn(usize) -> String| -> Vec<String> {
        (0..count).map(frame).collect()
    };
    let otherwise = &["PRECONDITION_FAILED - inequivalent arg", "declared otherwise", "use /amq/queue/"];
    let mut all = Vec::new();
    let mut said = |name, frames: Vec<String>, words: &'static [&'static str]| {
        all.push(Misdeed { name, deed: Deed::Said { frames, words } });
    };

    // What the protocol does not allow.
    said("an unknown token", vec!["ACK\nid:9.9.nobody\n\n".into()], &["nothing to acknowledge under \"9.9.nobody\""]);
    said("a NACK of nothing", vec!["NACK\nid:nothing\n\n".into()], &["nothing to acknowledge under \"nothing\""]);
    said("a COMMIT of nothing", vec!["COMMIT\ntransaction:t\n\n".into()], &["COMMIT names the transaction \"t\", which is not open"]);
    said("an ABORT of nothing", vec!["ABORT\ntransaction:t\n\n".into()], &["ABORT names the transaction \"t\", which is not open"]);
    said("a SEND in no transaction", vec![to_queue("transaction:t")], &["SEND names the transaction \"t\", which is not open"]);
    said("a transaction twice", many(2, &|_| "BEGIN\ntransaction:t\n\n".into()), &["transaction with the id \"t\" is open already"]);
    said("too many transactions", many(17, &|n| format!("BEGIN\ntransaction:{n}\n\n")), &["more than 16 open transactions"]);
    said("too much in a transaction", [vec!["BEGIN\ntransaction:t\n\n".into()], many(1025, &|_| to_queue("transaction:t"))].concat(), &["more than 1024 frames in one transaction"]);
    said("an ACK of nothing in a transaction", vec!["BEGIN\ntransaction:t\n\n".into(), to_queue("transaction:t"), "ACK\nid:9.9.nobody\ntransaction:t\n\n".into(), "COMMIT\ntransaction:t\n\n".into()], &["nothing to acknowledge under"]);
    said("a subscription twice", many(2, &|_| subscribe("destination:/topic/m.none")), &["subscription with the id \"1\" exists already"]);
    said("too many subscriptions", many(101, &|n| format!("SUBSCRIBE\nid:{n}\ndestination:/topic/m.none\n\n")), &["more than 100 subscriptions"]);
    said("a second CONNECT", vec!["CONNECT\naccept-version:1.2\nhost:h\n\n".into()], &["connected already"]);
    said("a frame of servers", vec!["MESSAGE\ndestination:/queue/check.0\n\n".into()], &["MESSAGE is a frame that servers send"]);
    said("no command", vec!["GET / HTTP/1.1\n\n".into()], &["unknown command"]);
    said("no destination", vec!["SEND\n\nbody".into()], &["SEND needs the header \"destination\""]);
    said("no mode", vec![subscribe("destination:/queue/check.0\nack:perhaps")], &["ack:perhaps", "client-individual"]);
    said("a selector", vec![subscribe("destination:/queue/check.0\nselector:a=1")], &["selector:a=1 is not available"]);

    // What is too much.
    said("a long body", vec![to_queue(&format!("content-length:{}", (64 << 10) + 1))], &["a body of more than 65536 bytes"]);
    said("a body without end", vec![format!("SEND\ndestination:/queue/check.0\n\n{}", "x".repeat((64 << 10) + 1))], &["of more than 65536 bytes"]);
    said("a long header", vec![to_queue(&format!("h:{}", "x".repeat(8 << 10)))], &["a header line of more than 8192 bytes"]);
    said("many headers", vec![to_queue(&(0..100).map(|n| format!("h{n}:x")).collect::<Vec<_>>().join("\n"))], &["more than 100 headers"]);
    said("a long frame", vec![to_queue(&(0..9).map(|n| format!("h{n}:{}", "x".repeat(8_000))).collect::<Vec<_>>().join("\n"))], &["a frame of more than 65536 bytes"]);
    said(FLOOD, many(20_000, &|_| "UNSUBSCRIBE\nid:none\n\n".into()), &["more than 1000 frames per second"]);

    // Names that are none.
    said("a long name of a queue", vec![send(&format!("destination:/queue/{long}"))], &["has 256 bytes and may have 255"]);
    said("a long name of a queue to subscribe to", vec![subscribe(&format!("destination:/queue/{long}"))], &["has 256 bytes and may have 255"]);
    said("a long topic", vec![send(&format!("destination:/topic/{long}"))], &["has 256 bytes and may have 255"]);
    said("a long exchange", vec![send(&format!("destination:/exchange/{long}/k"))], &["has 256 bytes and may have 255"]);
    said("a SEND to a pattern", vec![send("destination:/topic/check.*")], &["is a pattern"]);
    said("a name of RabbitMQ's", vec![send("destination:/queue/amq.mine")], &["RabbitMQ's own"]);
    said("a subscription to a name of RabbitMQ's", vec![subscribe("destination:/queue/amq.mine")], &["RabbitMQ's own"]);
    said("no destination that is one", vec![send("destination:/nowhere")], &["is not a valid destination"]);
    said("a temp-queue by itself", vec![subscribe("destination:/temp-queue/t")], &["only be named in the reply-to header"]);

    // What RabbitMQ would close a channel over.
    said("an expiration of words", vec![to_queue("expiration:soon")], &["header expiration must be a whole number of milliseconds"]);
    said("an expiration of ages", vec![to_queue("expiration:99999999999999")], &["header expiration must be", "at most ten years"]);
    said("a priority of words", vec![to_queue("priority:high")], &["header priority must be 0 to 255"]);
    said("copies", vec![to_queue("CC:check.1")], &["header CC is RabbitMQ's own"]);
    said("blind copies", vec![to_queue("BCC:check.1")], &["header BCC is RabbitMQ's own"]);
    said("another user", vec![to_queue("user-id:root")], &["header user-id must be the name by which this node is known"]);
    said("a delay of words", vec![to_queue("x-delay:soon")], &["header x-delay must be"]);
    said("a long property", vec![to_queue(&format!("correlation-id:{long}"))], &["header correlation-id is longer than 255 bytes"]);
    said("a long name of a header", vec![to_queue(&format!("{long}:x"))], &["header's name is longer than 255 bytes"]);
    said("an expiration of words on a topic", vec![send("destination:/topic/check.0\nexpiration:soon")], &["header expiration must be"]);

    // What is declared otherwise, or somebody else's.
    said("a queue of another length", vec![subscribe("destination:/queue/check.0\nx-max-length:5")], otherwise);
    said("a queue that goes", vec![subscribe("destination:/queue/check.0\nauto-delete:true")], otherwise);
    said("a SEND to a queue of another length", vec![to_queue("x-max-length:5")], otherwise);
    said("a SEND to a queue with priorities", vec![to_queue("x-max-priority:5")], otherwise);
    said("a queue of another type", vec![subscribe("destination:/queue/check.0\nx-queue-type:quorum")], otherwise);
    said("a queue for oneself", vec![subscribe("destination:/queue/check.0\nexclusive:true")], &["check.0"]);
    said("a SEND to a queue for oneself", vec![to_queue("exclusive:true")], &["check.0"]);
    said("a queue that does not stay", vec![subscribe("destination:/queue/check.0\ndurable:false")], &["check.0"]);
    said("an argument of another type", vec![subscribe("destination:/queue/check.0\nx-max-length:many")], &["x-max-length:many"]);
    said("a SEND to a stream as a queue", vec![send("destination:/queue/m.stream")], &["PRECONDITION_FAILED - inequivalent arg 'x-queue-type'"]);
    said("a stream as a queue", vec![subscribe("destination:/queue/m.stream")], &["PRECONDITION_FAILED - inequivalent arg 'x-queue-type'"]);
    said("a stream with what streams have not", vec![subscribe("destination:/queue/m.new\nx-queue-type:stream\nx-max-priority:5")], &["PRECONDITION_FAILED - invalid arg 'x-max-priority'"]);
    said("a position in no stream", vec![subscribe("destination:/amq/queue/m.stream\nx-stream-offset:tomorrow")], &["x-stream-offset:tomorrow"]);
    said("a locked queue", vec![subscribe("destination:/amq/queue/m.locked")], &["RESOURCE_LOCKED", "'m.locked'"]);
    said("a locked queue, declared", vec![subscribe("destination:/queue/m.locked")], &["RESOURCE_LOCKED", "'m.locked'"]);
    said("a SEND to a locked queue", vec![send("destination:/queue/m.locked")], &["RESOURCE_LOCKED", "'m.locked'"]);
    said("another session's queue", vec![subscribe("destination:/queue/m.own.{node}\nexclusive:true")], &["RESOURCE_LOCKED", "it is another session's own"]);
    said("a SEND to another session's queue", vec![send("destination:/queue/m.own.{node}")], &["RESOURCE_LOCKED", "it is another session's own"]);
    said("another node's queue", vec![subscribe("destination:/queue/m.own.{other}\nexclusive:true")], &["RESOURCE_LOCKED", "'m.own.{other}'"]);
    said("a queue that is taken", vec![subscribe("destination:/queue/m.taken")], &["ACCESS_REFUSED", "'m.taken'", "exclusive use"]);
    said("a queue that is taken, found", vec![subscribe("destination:/amq/queue/m.taken")], &["ACCESS_REFUSED", "'m.taken'", "exclusive use"]);

    // What is not there, or not for clients.
    said("no exchange", vec![send("destination:/exchange/m.nope/k")], &["NOT_FOUND - no exchange 'm.nope'"]);
    said("no exchange to subscribe to", vec![subscribe("destination:/exchange/m.nope/k")], &["NOT_FOUND - no exchange 'm.nope'"]);
    said("no queue", vec![subscribe("destination:/amq/queue/m.nope")], &["NOT_FOUND - no queue 'm.nope'"]);
    said("no queue to reply to", vec![send("destination:/amq/queue/m.nope")], &["no queue took the message"]);
    said("an internal exchange", vec![send("destination:/exchange/m.internal/k")], &["ACCESS_REFUSED - cannot publish to internal exchange 'm.internal'"]);
    said("the default exchange", vec![subscribe("destination:/exchange//check.0")], &["check.0"]);
    said("a node's queue", vec![subscribe("destination:/amq/queue/footbridge.topic.x.1")], &["ACCESS_REFUSED", "a node's own"]);
    said("a forged reply", vec![send("destination:/reply-queue/amq.rabbitmq.reply-to.x.y")], &["only to what has come here"]);
    said("a forged reply by another name", vec![send("destination:/amq/queue/amq.rabbitmq.reply-to.x.y")], &["name it as a reply queue"]);
    said("a forged asker", vec![to_queue("reply-to:amq.rabbitmq.reply-to")], &["header reply-to must be a queue"]);
    said("more temp-queues than allowed", many(5, &|n| send(&format!("destination:/topic/m.none\nreply-to:/temp-queue/{n}"))), &["more than 4 queues of its own in one session"]);
    said("more queues of its own than allowed", many(5, &|n| format!("SUBSCRIBE\nid:{n}\ndestination:/topic/m.none\nack:client\n\n")), &["more than 4 queues of its own in one session"]);

    for (name, frames, words) in [
        ("no CONNECT", vec![to_queue("")], &["expected CONNECT or STOMP"][..]),
        ("no version", vec!["CONNECT\naccept-version:3.0\nhost:h\n\n".into()], &["no common version"]),
        ("no STOMP", vec!["GET /ws HTTP/1.1\nhost:h\n\n".into()], &["unknown command"]),
    ] {
        all.push(Misdeed { name, deed: Deed::Unconnected { frames, words } });
    }
    for (name, doing) in [
        ("another session's token", Doing::ForeignToken),
        ("a token where there is none", Doing::AutoToken),
        ("a token twice", Doing::TokenTwice),
        ("half a frame", Doing::HalfFrame),
        ("half a CONNECT", Doing::HalfConnect),
        ("half a transaction", Doing::CutTransaction),
        ("deliveries kept", Doing::Hoard),
        ("a client that reads nothing", Doing::Deaf),
        ("a stream left", Doing::Stream),
        ("a reply to nobody", Doing::NowhereReply),
        ("temp-queues left", Doing::TempQueues),
    ] {
        all.push(Misdeed { name, deed: Deed::Done(doing) });
    }
    all
}
