//! What one caller has stored, one after the other where it is for the same inboxes, and else side by side.
//!
//! Invariant: at most as many are under way as their caller may leave unanswered, and each ends by its deadline.

use std::sync::Arc;

use broker::MessageId;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::keep::Keep;
use crate::keeper::Keeper;
use crate::outcomes::Outcomes;
use crate::outgoing::Reach;
use crate::publisher::Taken;
use crate::refusal::Refusal;

/// What is being stored.
#[derive(Default)]
pub(crate) struct UnderWay(Vec<(Arc<Keep>, CancellationToken)>);

/// Something that is being stored.
pub(crate) struct Storing {
    id: MessageId,
    task: JoinHandle<Result<Outcomes, Refusal>>,
}

impl UnderWay {
    /// Begins once what goes before it is done.
    pub(crate) async fn begin(
        &mut self,
        keeper: Arc<Keeper>,
        keep: Keep,
        deadline: Instant,
    ) -> Result<Storing, Refusal> {
        self.0.retain(|(_, done)| !done.is_cancelled());
        let keep = Arc::new(keep);
        for (_, done) in self.0.iter().filter(|(before, _)| before.meets(&keep)) {
            timeout_at(deadline, done.cancelled()).await.map_err(|_| {
                let why = "what goes before it is not stored yet: the message was not stored";
                Refusal::StoreAway(why.to_owned())
            })?;
        }
        let (done, id) = (CancellationToken::new(), MessageId::of(keep.draft.id));
        self.0.push((Arc::clone(&keep), done.clone()));
        // A task of its own: it goes on whether or not the caller reads its answers.
        let task = tokio::spawn(async move {
            let _done = done.drop_guard();
            keeper.store(&keep, deadline).await
        });
        Ok(Storing { id, task })
    }
}

impl Storing {
    /// What became of it.
    pub(crate) async fn stored(self) -> Result<Taken, Refusal> {
        let Self { id, task } = self;
        let outcomes = task.await.map_err(|error| {
            let why = format!("storing broke off: {error}");
            Refusal::StoreUnconfirmed { why, id }
        })??;
        let id = MessageId::of(outcomes.id(id.ulid()));
        let reach = Reach::unknown(0);
        Ok(Taken { id, reach, targets: Vec::new(), stored: Some(outcomes) })
    }
}
