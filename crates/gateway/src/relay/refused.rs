//! What a client asked for and does not get: why its session ends, and what its ERROR says.
//!
//! Every error of the parts below becomes one here, so that what may be tried again and what may not
//! is decided in one place: what the broker will never do is [`CloseReason::Protocol`], what it has no
//! room for [`CloseReason::Limit`], what it cannot do now [`CloseReason::BrokerUnavailable`].
//!
//! Invariant: why the broker is not to be had, which may name its host, is for the log and not for clients.

use access::Forbidden;
use broker::destination::{DestinationError, Problem};
use broker::{ConfirmError, DeleteError, PublishError, SubscribeError};
use stomp::{Fault, Title};

use crate::close::CloseReason;

/// What a client is told while the broker is not to be had.
const AWAY: &str = "the broker is not to be had now: try again later";

/// What a client is told of a message that the broker may or may not have.
const LOST: &str =
    "the broker did not confirm the message, which may or may not have been delivered";

/// See the module.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: CloseReason,
    /// What RabbitMQ would call it.
    pub(crate) title: Title,
    /// All there is to say.
    pub(crate) message: String,
}

impl Refused {
    /// One that RabbitMQ has no words of its own for.
    pub(crate) fn new(reason: CloseReason, message: impl Into<String>) -> Self {
        Self::titled(Title::ProcessingError, reason, message)
    }

    pub(crate) fn titled(title: Title, reason: CloseReason, message: impl Into<String>) -> Self {
        Self { reason, title, message: message.into() }
    }

    /// What the broker cannot do now, `why` not being for the client.
    fn for_now(told: &str, why: &str) -> Self {
        tracing::debug!(why, "{told}");
        Self::new(CloseReason::BrokerUnavailable, told)
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { reason: (&fault).into(), title: (&fault).into(), message: fault.to_string() }
    }
}

impl From<DestinationError> for Refused {
    fn from(error: DestinationError) -> Self {
        let title = match error.problem {
            Problem::Unknown { .. } => Title::UnknownDestination,
            _ => Title::InvalidDestination,
        };
        Self::titled(title, CloseReason::Protocol, error.to_string())
    }
}

impl From<Forbidden> for Refused {
    fn from(forbidden: Forbidden) -> Self {
        Self::titled(Title::AccessRefused, CloseReason::Forbidden, forbidden.to_string())
    }
}

impl From<PublishError> for Refused {
    fn from(error: PublishError) -> Self {
        let (title, reason) = match &error {
            PublishError::Unavailable(why) => return Self::for_now(AWAY, why),
            PublishError::TooLarge { .. } => (Title::PreconditionFailed, CloseReason::TooBig),
            PublishError::Unfit(_) => (Title::PreconditionFailed, CloseReason::Protocol),
            PublishError::Misnamed(_) => (Title::InvalidDestination, CloseReason::Protocol),
            PublishError::LimitReached { .. } => (Title::ProcessingError, CloseReason::Limit),
            _ => (Title::ProcessingError, CloseReason::Protocol),
        };
        Self::titled(title, reason, error.to_string())
    }
}

impl From<SubscribeError> for Refused {
    fn from(error: SubscribeError) -> Self {
        let (title, reason) = match &error {
            SubscribeError::Unavailable(why) => return Self::for_now(AWAY, why),
            SubscribeError::Refused(why) => (title_of(why), CloseReason::Protocol),
            SubscribeError::Misnamed(_) => (Title::InvalidDestination, CloseReason::Protocol),
            SubscribeError::LimitReached { .. } => (Title::ProcessingError, CloseReason::Limit),
            _ => (Title::ProcessingError, CloseReason::Protocol),
        };
        Self::titled(title, reason, error.to_string())
    }
}

impl From<ConfirmError> for Refused {
    fn from(error: ConfirmError) -> Self {
        let (title, reason) = match &error {
            ConfirmError::Lost(why) => return Self::for_now(LOST, why),
            ConfirmError::Refused(why) => (title_of(why), CloseReason::Protocol),
            ConfirmError::Full(_) => (Title::ProcessingError, CloseReason::Limit),
            // Its queue was there and is not any more: another try declares it again.
            ConfirmError::Unroutable => (Title::NotFound, CloseReason::BrokerUnavailable),
            _ => (Title::ProcessingError, CloseReason::Protocol),
        };
        Self::titled(title, reason, error.to_string())
    }
}

impl From<DeleteError> for Refused {
    fn from(error: DeleteError) -> Self {
        match &error {
            DeleteError::Unavailable(why) => Self::for_now(AWAY, why),
            _ => Self::new(CloseReason::Protocol, error.to_string()),
        }
    }
}

/// What AMQP calls the reason that a broker gives, such as `NOT_FOUND - no queue 'q'`.
fn title_of(why: &str) -> Title {
    match why.split_once(" - ").map(|(code, _)| code) {
        Some("NOT_FOUND") => Title::NotFound,
        Some("PRECONDITION_FAILED") => Title::PreconditionFailed,
        Some("ACCESS_REFUSED") => Title::AccessRefused,
        Some("RESOURCE_LOCKED") => Title::ResourceLocked,
        _ => Title::ProcessingError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: impl Into<Refused>) -> (&'static str, CloseReason) {
        let refused = error.into();
        (refused.title.as_str(), refused.reason)
    }

    #[test]
    fn never_is_told_from_not_now() {
        let why = |code: &str| format!("{code} - because");
        for (code, title) in [
            ("NOT_FOUND", "not_found"),
            ("PRECONDITION_FAILED", "precondition_failed"),
            ("ACCESS_REFUSED", "access_refused"),
            ("RESOURCE_LOCKED", "resource_locked"),
            ("SOMETHING_ELSE", "Processing error"),
        ] {
            assert_eq!(of(SubscribeError::Refused(why(code))), (title, CloseReason::Protocol));
            assert_eq!(of(ConfirmError::Refused(why(code))), (title, CloseReason::Protocol));
        }
        let unavailable = ("Processing error", CloseReason::BrokerUnavailable);
        assert_eq!(of(SubscribeError::Unavailable("down".into())), unavailable);
        assert_eq!(of(ConfirmError::Lost("down".into())), unavailable);
        assert_eq!(of(DeleteError::Unavailable("down".into())), unavailable);
        assert_eq!(of(PublishError::Unavailable("down".into())), unavailable);
        assert_eq!(
            of(ConfirmError::Full("its queue holds 10".into())),
            ("Processing error", CloseReason::Limit)
        );
        let unsupported =
            SubscribeError::UnsupportedOption { what: "x-max-age".into(), instead: "nothing" };
        assert_eq!(of(unsupported), ("Processing error", CloseReason::Protocol));
    }

    #[test]
    fn where_the_broker_is_stays_here() {
        let why = || "cannot connect to RabbitMQ at rabbit.internal:5672".to_owned();
        for refused in [
            Refused::from(PublishError::Unavailable(why())),
            SubscribeError::Unavailable(why()).into(),
            DeleteError::Unavailable(why()).into(),
            ConfirmError::Lost(why()).into(),
        ] {
            assert!(!refused.message.contains("internal"), "{refused:?}");
        }
    }
}
