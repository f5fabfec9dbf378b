//! The broker's word on a publish.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

/// Resolves when the broker has taken responsibility for a message, or has said that it will not.
///
/// Dropping it changes nothing for the message.
#[derive(Debug)]
#[must_use = "a publish is not done before its confirm"]
pub struct Confirm(Inner);

#[derive(Debug)]
enum Inner {
    Known(Result<(), ConfirmError>),
    Awaited(oneshot::Receiver<Result<(), ConfirmError>>),
    /// What is left of several.
    All(Vec<Confirm>),
}

/// The broker's end of a [`Confirm`]. Dropping it unused resolves to [`ConfirmError::Lost`].
#[derive(Debug)]
pub struct Confirmer(oneshot::Sender<Result<(), ConfirmError>>);

/// Why a message that was handed over was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// The broker refused the message, for the reason given, and will not take it if it is sent again.
    #[error("the broker refused the message: {0}")]
    Refused(String),
    /// There is no room for the message now: where, and how much there is.
    #[error("the broker has no room for the message: {0}")]
    Full(String),
    /// No queue took the message.
    #[error(
        "no queue took the message: what it names is not there; /queue/<name> declares its queue, \
         /amq/queue/<name> does not"
    )]
    Unroutable,
    /// The broker said nothing in time, for the reason given; the message may or may not be there.
    #[error("the broker did not confirm the message: {0}")]
    Lost(String),
}

impl Confirm {
    /// A confirm that is known already.
    pub fn known(result: Result<(), ConfirmError>) -> Self {
        Self(Inner::Known(result))
    }

    /// The word on several messages together: all were taken, or why one was not.
    pub fn all(mut confirms: Vec<Self>) -> Self {
        match confirms.len() {
            0 => Self::known(Ok(())),
            1 => confirms.swap_remove(0),
            _ => Self(Inner::All(confirms)),
        }
    }

    /// A confirm to come, and the end that gives it.
    pub fn pending() -> (Confirmer, Self) {
        let (sender, receiver) = oneshot::channel();
        (Confirmer(sender), Self(Inner::Awaited(receiver)))
    }
}

impl Confirmer {
    /// Gives the broker's word.
    pub fn confirm(self, result: Result<(), ConfirmError>) {
        // An error means that nobody waits for it any more.
        let _ = self.0.send(result);
    }
}

impl Future for Confirm {
    type Output = Result<(), ConfirmError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match &mut self.0 {
            Inner::Known(result) => result.clone(),
            Inner::All(confirms) => {
                while let Some(last) = confirms.last_mut() {
                    ready!(Pin::new(last).poll(cx))?;
                    confirms.pop();
                }
                Ok(())
            }
            Inner::Awaited(receiver) => ready!(Pin::new(receiver).poll(cx))
                .unwrap_or_else(|_| Err(ConfirmError::Lost("it is closing".to_owned()))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn several_are_confirmed_once_all_are() {
        assert_eq!(Confirm::all(vec![]).await, Ok(()));
        let (one, first) = Confirm::pending();
        let (other, second) = Confirm::pending();
        let mut all = Confirm::all(vec![first, second]);
        other.confirm(Ok(()));
        assert!(at_once(&mut all).await.is_none());
        one.confirm(Ok(()));
        assert_eq!(all.await, Ok(()));
    }

    #[tokio::test]
    async fn one_that_fails_fails_all() {
        let (one, first) = Confirm::pending();
        let (_never, second) = Confirm::pending();
        let all = Confirm::all(vec![second, first]);
        one.confirm(Err(ConfirmError::Unroutable));
        assert_eq!(all.await, Err(ConfirmError::Unroutable));
    }

    /// What it says at once.
    async fn at_once(confirm: &mut Confirm) -> Option<Result<(), ConfirmError>> {
        std::future::poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut *confirm).poll(cx) {
                Poll::Ready(word) => Some(word),
                Poll::Pending => None,
            })
        })
        .await
    }
}
