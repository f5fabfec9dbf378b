//! The targets that one lane waits for: each is declared apart from the others, so that one that
//! cannot be had just now holds up none.
//!
//! Invariants
//! - A target is asked for once at a time, however many messages wait for it.
//! - Nobody asks for longer than the message waits that it was asked for.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::declarations::{Declarations, Target};

/// What one lane asks for.
pub(crate) struct Asking {
    declarations: Arc<Declarations>,
    asked: HashSet<Target>,
    /// One for each in `asked`.
    answers: FuturesUnordered<Asked>,
}

type Asked = Pin<Box<dyn Future<Output = (Target, Answer)> + Send>>;

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The target is there.
    There,
    /// It is an exchange that must be asked for with each key.
    ByKey,
    /// RabbitMQ does not want to have it, for the reason given.
    Refused(String),
    /// It could not be had in time.
    Late,
}

impl Asking {
    pub(crate) fn new(declarations: Arc<Declarations>) -> Self {
        Self { declarations, asked: HashSet::new(), answers: FuturesUnordered::new() }
    }

    /// Asks for `target` until `deadline`, unless it is asked for already.
    pub(crate) fn ask(&mut self, target: &Target, deadline: Instant) {
        if !self.asked.insert(target.clone()) {
            return;
        }
        let (declarations, target) = (self.declarations.clone(), target.clone());
        self.answers.push(Box::pin(async move {
            let ensured = tokio::time::timeout_at(deadline, declarations.ensure(&target)).await;
            let answer = match ensured {
                Ok(Ok(())) => match &target {
                    Target::Foreign(name) if declarations.is_by_key(name) => Answer::ByKey,
                    _ => Answer::There,
                },
                Ok(Err(why)) => Answer::Refused(why),
                Err(_) => Answer::Late,
            };
            (target, answer)
        }));
    }

    /// The next answer. None if nothing is asked for.
    pub(crate) async fn answer(&mut self) -> Option<(Target, Answer)> {
        let (target, answer) = self.answers.next().await?;
        self.asked.remove(&target);
        Some((target, answer))
    }
}
