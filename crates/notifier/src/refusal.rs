//! Why a request was refused or a message not confirmed, and how a caller is told.
//!
//! A single call ends with a gRPC status and google.rpc details; on a stream the same is an answer.

use std::time::Duration;

use broker::{ConfirmError, MessageId, PublishError};
use cluster::SendError;
use presence::Unavailable;
use proto::v1::Failure;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::metrics::Outcome;
use crate::whereabouts::{NoMembers, NotPosted};

/// When a caller may try again while the broker is away: about as long as a broker takes to be
/// found again once it is back.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Whom a reason in google.rpc.ErrorInfo is from.
const DOMAIN: &str = "footbridge";

/// The reason of those after which the message may be there nonetheless.
const UNCONFIRMED: &str = "UNCONFIRMED";

/// The reason of those after which somebody who was removed from a group may yet receive what is sent to it.
const NOT_IN_FORCE: &str = "NOT_IN_FORCE";

/// Why a request was refused, or a message not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request is wrong.
    #[error("{field} {problem}")]
    Invalid {
        /// The field, as a path from the request.
        field: String,
        /// Reads on from the field.
        problem: String,
    },
    /// No queue took the message.
    #[error("{0}")]
    Unroutable(String),
    /// What the request names is not there.
    #[error("{0}")]
    Unknown(String),
    /// The groups have more members than are sent to one by one.
    #[error("{0}")]
    TooManyMembers(String),
    /// A store that is needed (who is where, which groups there are, inboxes) does not answer.
    #[error("{0}")]
    StoreAway(String),
    /// There are no inboxes, or what they are given would not be kept.
    #[error("{0}")]
    NotKept(String),
    /// The store of inboxes is away, and may have the message, or some of it if it is for many.
    #[error("{why}: the message may or may not be stored")]
    StoreUnconfirmed {
        /// What is known of the store.
        why: String,
        /// The message.
        id: MessageId,
    },
    /// The store of inboxes is there, and has not stored the message for all in time.
    #[error("{why}: the message may or may not be stored")]
    StoreLate {
        /// How far it has come.
        why: String,
        /// The message.
        id: MessageId,
    },
    /// The nodes were not told what they shall do, or maybe not.
    #[error("{0}")]
    Untold(String),
    /// The members are removed in the store, and the nodes were not told, or maybe not.
    #[error("{0}")]
    NotInForce(String),
    /// The broker refused the message.
    #[error("{0}")]
    Refused(String),
    /// The broker is there, and did not confirm in time; it may yet do so.
    #[error("the broker did not confirm the message in time: it may or may not be delivered")]
    Late(MessageId),
    /// The broker is away, and the message was not published.
    #[error("{0}: the message was not published")]
    Away(String),
    /// The broker is away; it may have taken the message before, or take it once it is back.
    #[error("{why}: the message may or may not be delivered")]
    AwayUnconfirmed {
        /// What is known of the broker.
        why: String,
        /// The message.
        id: MessageId,
    },
}

impl Refusal {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    /// The same of a part of a request: the field is one of the field `outer`.
    pub(crate) fn within(self, outer: &str) -> Self {
        match self {
            Self::Invalid { field, problem } => {
                Self::Invalid { field: format!("{outer}.{field}"), problem }
            }
            other => other,
        }
    }

    /// What became of an order to the nodes, if it was not this refusal of a message. `so` says what the
    /// caller has to reckon with.
    pub(crate) fn of_order(self, so: &str) -> Self {
        let why = match self {
            Self::Late(_) => "the broker did not confirm in time".to_owned(),
            Self::AwayUnconfirmed { why, .. } | Self::Away(why) => why,
            other => other.to_string(),
        };
        Self::Untold(format!("{why}: {so}"))
    }

    /// What kept something from going out.
    pub(crate) fn of_not_posted(error: NotPosted) -> Self {
        match error {
            NotPosted::Send(SendError::Publish(error)) => Self::of_publish(error),
            NotPosted::Send(SendError::Group(error)) => {
                Self::invalid("groups", format!("holds no group: {error}"))
            }
            NotPosted::Members(NoMembers::Unavailable(error)) => error.into(),
            NotPosted::Members(error @ NoMembers::TooMany) => {
                Self::TooManyMembers(error.to_string())
            }
        }
    }

    /// What the broker said to a publish.
    pub(crate) fn of_publish(error: PublishError) -> Self {
        match &error {
            PublishError::Unsupported { .. } => {
                Self::invalid("destination", format!("is not to be had: {error}"))
            }
            PublishError::Misnamed(_) => {
                Self::invalid("destination", format!("is misnamed: {error}"))
            }
            PublishError::Unfit(_) => {
                Self::invalid("message.headers", format!("cannot be carried: {error}"))
            }
            PublishError::TooLarge { .. } => {
                Self::invalid("message.body", format!("is too long: {error}"))
            }
            PublishError::LimitReached { .. } => Self::Refused(error.to_string()),
            _ => Self::Away(error.to_string()),
        }
    }

    /// What the broker said of message `id` that it was handed.
    pub(crate) fn of_confirm(error: ConfirmError, id: MessageId) -> Self {
        match &error {
            ConfirmError::Refused(_) | ConfirmError::Full(_) => Self::Refused(error.to_string()),
            ConfirmError::Unroutable => Self::Unroutable(error.to_string()),
            _ => Self::AwayUnconfirmed { why: error.to_string(), id },
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Invalid { .. } => Outcome::invalid,
            Self::Unroutable(_) | Self::Unknown(_) => Outcome::unroutable,
            Self::Refused(_) | Self::TooManyMembers(_) | Self::NotKept(_) => Outcome::refused,
            Self::Late(_) | Self::StoreLate { .. } => Outcome::late,
            Self::Away(_)
            | Self::StoreUnconfirmed { .. }
            | Self::AwayUnconfirmed { .. }
            | Self::StoreAway(_)
            | Self::Untold(_)
            | Self::NotInForce(_) => Outcome::unavailable,
        }
    }

    /// Whether the same may be taken later.
    pub(crate) fn may_pass_later(&self) -> bool {
        matches!(self.code(), Code::Unavailable | Code::DeadlineExceeded)
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } => Code::InvalidArgument,
            Self::Unroutable(_) | Self::Unknown(_) => Code::NotFound,
            Self::TooManyMembers(_) | Self::NotKept(_) => Code::FailedPrecondition,
            Self::Refused(_) => Code::ResourceExhausted,
            Self::Late(_) | Self::StoreLate { .. } => Code::DeadlineExceeded,
            Self::Away(_)
            | Self::StoreUnconfirmed { .. }
            | Self::AwayUnconfirmed { .. }
            | Self::StoreAway(_)
            | Self::Untold(_)
            | Self::NotInForce(_) => Code::Unavailable,
        }
    }

    fn retry_delay(&self) -> Option<Duration> {
        (self.code() == Code::Unavailable).then_some(RETRY_DELAY)
    }

    /// The id of a message that may be there nonetheless.
    fn unconfirmed(&self) -> Option<MessageId> {
        match self {
            Self::Late(id)
            | Self::AwayUnconfirmed { id, .. }
            | Self::StoreUnconfirmed { id, .. }
            | Self::StoreLate { id, .. } => Some(*id),
            Self::Invalid { .. }
            | Self::Unroutable(_)
            | Self::Unknown(_)
            | Self::TooManyMembers(_)
            | Self::NotKept(_)
            | Self::Refused(_)
            | Self::Away(_)
            | Self::StoreAway(_)
            | Self::Untold(_)
            | Self::NotInForce(_) => None,
        }
    }
}

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Self {
        Self::StoreAway(error.to_string())
    }
}

/// Of a call that changes nothing, or may be made again.
impl From<inbox::Error> for Refusal {
    fn from(error: inbox::Error) -> Self {
        use inbox::Error;
        let why = error.to_string();
        match error {
            Error::Unavailable(_) | Error::Unknown(_) => Self::StoreAway(why),
            Error::NoSpace(_) => Self::Refused(why),
            Error::NotDurable(_) | Error::Corrupt(_) => Self::NotKept(why),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::new();
        if let Refusal::Invalid { field, problem } = &refusal {
            details.add_bad_request_violation(field, problem);
        }
        if let Some(id) = refusal.unconfirmed() {
            let about = [("message_id".to_owned(), id.to_string())];
            details.set_error_info(UNCONFIRMED, DOMAIN, about);
        }
        if let Refusal::NotInForce(_) = refusal {
            details.set_error_info(NOT_IN_FORCE, DOMAIN, []);
        }
        if let Some(delay) = refusal.retry_delay() {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(refusal.code(), refusal.to_string(), details)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code().into(),
            message: refusal.to_string(),
            retry_delay: refusal.retry_delay().and_then(|delay| delay.try_into().ok()),
            unconfirmed_message_id: refusal
                .unconfirmed()
                .map(|id| id.to_string())
                .unwrap_or_default(),
            field: match refusal {
                Refusal::Invalid { field, .. } => field,
                _ => String::new(),
            },
        }
    }
}
