//! How a queue is declared: what a client says of it, over what is usual.
//!
//! Invariants
//! - Every spec is within what RabbitMQ 3.10 to 4.4 accept: none is both transient and open to others,
//!   which 4.3 denies. One that shall not be durable is exclusive, as RabbitMQ's STOMP plugin makes it.
//! - Quorum queues and streams are durable and open to all.
//! - Equal specs are the same declaration, in whatever order their arguments were said.
//! - An exclusive queue expires when nobody consumes it, besides ending with its connection: a session
//!   that only declared it leaves none behind.

use std::time::Duration;

use broker::{Argument, Arguments, QueueOptions, SubscribeError};
use lapin::options::QueueDeclareOptions;

use crate::arguments::{self, QUEUE_TYPE};
use crate::operation::Operation;

/// A declaration of a queue, but for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueSpec {
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) exclusive: bool,
    /// By name, each once.
    arguments: Arguments,
}

/// How a queue is where nothing is said of it: always durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usual {
    /// It stays.
    Stays,
    /// It goes some time after its last consumer.
    Expires,
    /// The same, and it only ever has one consumer, on one connection after the other: the one of a
    /// connection that is broken and not yet known to be must not take a share.
    Alone {
        /// How many messages it holds, where it is bounded; beyond it the oldest are dropped.
        length: Option<u32>,
    },
}

const EXPIRES: &str = "x-expires";
const LENGTH: &str = "x-max-length";

impl QueueSpec {
    /// What a queue is that nobody says anything of: durable, and it stays.
    pub(crate) fn plain() -> Self {
        Self { durable: true, auto_delete: false, exclusive: false, arguments: Vec::new() }
    }

    /// What `options` say, over what is usual. `expiry` is how long a queue stays without a consumer,
    /// where it does not stay for good.
    pub(crate) fn new(
        options: &QueueOptions,
        usual: Usual,
        expiry: Duration,
    ) -> Result<Self, SubscribeError> {
        arguments::check_queue(&options.arguments)?;
        let QueueOptions { durable, auto_delete, exclusive, arguments } = options;
        let mut arguments = arguments.clone();
        // Stable, so that of two of one name the first stays.
        arguments.sort_by(|(one, _), (other, _)| one.cmp(other));
        arguments.dedup_by(|(later, _), (first, _)| later == first);
        let kind = kind(&arguments);
        let replicated = matches!(kind, Some("quorum" | "stream"));
        let transient = !replicated && *durable == Some(false);
        let exclusive = !replicated && (transient || *exclusive == Some(true));
        let mut usually = Vec::new();
        // A stream takes none of these.
        if kind != Some("stream") {
            if exclusive || usual != Usual::Stays {
                let expiry = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
                usually.push((EXPIRES, Argument::Integer(expiry)));
            }
            if let Usual::Alone { length } = usual {
                // The other connection is locked out of an exclusive one.
                if !exclusive {
                    usually.push(("x-single-active-consumer", Argument::Flag(true)));
                }
                let length = length.map(|length| Argument::Integer(length.into()));
                usually.extend(length.map(|length| (LENGTH, length)));
            }
        }
        for (name, value) in usually {
            if let Err(place) = arguments.binary_search_by(|(known, _)| (**known).cmp(name)) {
                arguments.insert(place, (name.into(), value));
            }
        }
        Ok(Self {
            durable: replicated || durable.unwrap_or(!exclusive),
            auto_delete: auto_delete.unwrap_or(transient),
            exclusive,
            arguments,
        })
    }

    /// Whether it is a stream.
    pub(crate) fn is_stream(&self) -> bool {
        kind(&self.arguments) == Some("stream")
    }

    /// How many messages it holds, where it is bounded.
    pub(crate) fn length(&self) -> Option<i64> {
        self.number(LENGTH)
    }

    /// How long RabbitMQ keeps it without a consumer.
    pub(crate) fn expiry(&self) -> Duration {
        let millis = self.number(EXPIRES).and_then(|millis| millis.try_into().ok());
        millis.map_or(Duration::MAX, Duration::from_millis)
    }

    fn number(&self, wanted: &str) -> Option<i64> {
        self.arguments.iter().find_map(|(name, value)| match value {
            Argument::Integer(number) if **name == *wanted => Some(*number),
            _ => None,
        })
    }

    /// The declaration of queue `name`.
    pub(crate) fn declare<'a>(&self, name: &'a str) -> Operation<'a> {
        let options = QueueDeclareOptions {
            durable: self.durable,
            auto_delete: self.auto_delete,
            exclusive: self.exclusive,
            ..QueueDeclareOptions::default()
        };
        Operation::DeclareQueue { name, options, arguments: arguments::table(&self.arguments) }
    }
}

fn kind(arguments: &Arguments) -> Option<&str> {
    arguments.iter().find_map(|(name, value)| match value {
        Argument::Text(kind) if **name == *QUEUE_TYPE => Some(&**kind),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: Duration = Duration::from_secs(120);

    fn spec(options: &QueueOptions, usual: Usual) -> QueueSpec {
        QueueSpec::new(options, usual, EXPIRY).unwrap()
    }

    fn flags(spec: &QueueSpec) -> (bool, bool, bool) {
        (spec.durable, spec.auto_delete, spec.exclusive)
    }

    fn of_type(kind: &str) -> QueueOptions {
        let arguments = vec![(QUEUE_TYPE.into(), Argument::Text(kind.into()))];
        QueueOptions { arguments, ..Default::default() }
    }

    #[test]
    fn what_nothing_is_said_of_is_durable_and_stays() {
        assert_eq!(spec(&QueueOptions::default(), Usual::Stays), QueueSpec::plain());
        let said = QueueOptions { durable: Some(true), exclusive: Some(false), ..<_>::default() };
        assert_eq!(spec(&said, Usual::Stays), QueueSpec::plain());
    }

    #[test]
    fn what_is_not_durable_is_exclusive_and_ends_with_its_consumers() {
        let said = QueueOptions { durable: Some(false), ..<_>::default() };
        assert_eq!(flags(&spec(&said, Usual::Stays)), (false, true, true));
        let said = QueueOptions { auto_delete: Some(false), exclusive: Some(false), ..said };
        assert_eq!(flags(&spec(&said, Usual::Stays)), (false, false, true));
    }

    #[test]
    fn what_is_replicated_is_durable_and_open_to_all() {
        for kind in ["quorum", "stream"] {
            let said = QueueOptions {
                durable: Some(false),
                exclusive: Some(true),
                auto_delete: None,
                ..of_type(kind)
            };
            for usual in [Usual::Stays, Usual::Alone { length: None }] {
                assert_eq!(flags(&spec(&said, usual)), (true, false, false), "{kind}");
            }
            let options = QueueOptions { auto_delete: Some(true), ..of_type(kind) };
            assert!(spec(&options, Usual::Stays).auto_delete, "RabbitMQ says what it thinks of it");
        }
        assert!(spec(&of_type("stream"), Usual::Stays).is_stream());
        assert!(!spec(&of_type("quorum"), Usual::Stays).is_stream());
    }

    /// What newer versions refuse: queues that are neither durable nor exclusive.
    #[test]
    fn no_spec_is_transient_and_open() {
        let flags = [None, Some(false), Some(true)];
        for durable in flags {
            for auto_delete in flags {
                for exclusive in flags {
                    for usual in [Usual::Stays, Usual::Expires, Usual::Alone { length: Some(1) }] {
                        let said =
                            QueueOptions { durable, auto_delete, exclusive, ..<_>::default() };
                        let spec = spec(&said, usual);
                        assert!(spec.durable || spec.exclusive, "{said:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_stay_expires() {
        let names = |spec: &QueueSpec| -> Vec<String> {
            spec.arguments.iter().map(|(name, _)| name.to_string()).collect()
        };
        let none = QueueOptions::default();
        let alone = spec(&none, Usual::Alone { length: Some(7) });
        assert_eq!(names(&alone), ["x-expires", "x-max-length", "x-single-active-consumer"]);
        assert_eq!(alone.length(), Some(7));
        assert_eq!(names(&spec(&none, Usual::Expires)), ["x-expires"]);
        let exclusive = QueueOptions { exclusive: Some(true), ..<_>::default() };
        assert_eq!(names(&spec(&exclusive, Usual::Stays)), ["x-expires"]);
        assert_eq!(spec(&exclusive, Usual::Stays).expiry(), EXPIRY);
        let stream = of_type("stream");
        assert_eq!(names(&spec(&stream, Usual::Alone { length: None })), [QUEUE_TYPE]);
        let said = QueueOptions {
            arguments: vec![(EXPIRES.into(), Argument::Integer(5))],
            ..<_>::default()
        };
        let said = spec(&said, Usual::Expires);
        assert_eq!((names(&said), said.expiry().as_millis()), (vec![EXPIRES.to_owned()], 5));
    }

    #[test]
    fn the_order_of_arguments_says_nothing() {
        let mut arguments = vec![
            ("x-max-length".into(), Argument::Integer(1)),
            ("x-message-ttl".into(), Argument::Integer(2)),
        ];
        let one = QueueOptions { arguments: arguments.clone(), ..<_>::default() };
        arguments.reverse();
        let other = QueueOptions { arguments, ..<_>::default() };
        assert_eq!(spec(&one, Usual::Stays), spec(&other, Usual::Stays));
    }
}
