//! Why a question has no answer.

use redis::RedisError;

/// Why a question has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// There is no connection; nothing was sent.
    #[error("{0}")]
    Down(String),
    /// It was sent, or may have been, and no answer came: nobody knows what became of it.
    #[error("{0}")]
    Lost(String),
    /// A server refused it, and did none of it.
    #[error("{0}")]
    Refused(RedisError),
}

impl Failure {
    /// What `error` of a connection says of the question.
    pub(crate) fn of(error: RedisError) -> Self {
        match error.code() {
            Some(_) => Self::Refused(error),
            None => Self::Lost(error.to_string()),
        }
    }
}
