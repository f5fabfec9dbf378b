//! The way of a client into the node: who it is, whether the application wants it, and that it is known.
//!
//! Invariant: whom the application has let in and who does not come in, for whatever reason, is said to have
//! gone.

use std::sync::Arc;

use access::Principal;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::registration::{Newcomer, Registration, register};
use crate::application::Caller;
use crate::close::CloseReason;
use crate::door::IN_TIME;
use crate::hook::{self, Shown};
use crate::node::Node;
use crate::relay::Refused;

/// Whose session it is, if it may be. A refusal comes before `connect_by`.
pub(crate) async fn enter(
    node: &Arc<Node>,
    mut newcomer: Newcomer,
    shown: Shown,
    connect_by: Instant,
) -> Result<(Registration, Caller), Refused> {
    let (id, address) = (newcomer.id.clone(), newcomer.address);
    let principal: Principal = node.door.enter(address, &shown.credentials, connect_by).await?;
    let latest = connect_by.checked_sub(IN_TIME).unwrap_or(connect_by);
    let session = id.as_str().into();
    let mut annotations = hook::ask(node, &principal, &session, address, shown, latest).await?;
    annotations.append(&mut newcomer.annotations);
    newcomer.annotations = annotations.clone();
    let (principal, attributes) = (Arc::new(principal), Arc::new(annotations));
    let caller = Caller { principal, session, address, attributes };
    let mut let_in = LetIn { node, caller: Some(caller.clone()), reason: CloseReason::ClientLost };
    let registration = register(node, &caller.principal, newcomer, latest).await;
    match &registration {
        Ok(_) => let_in.caller = None,
        Err(refused) => let_in.reason = refused.reason,
    }
    Ok((registration?, caller))
}

/// Whom the application has let in. Dropping it with its caller tells the application that it has gone.
struct LetIn<'a> {
    node: &'a Arc<Node>,
    caller: Option<Caller>,
    reason: CloseReason,
}

impl Drop for LetIn<'_> {
    fn drop(&mut self) {
        let hook = self.node.application.hook();
        // There is no runtime when the process ends.
        let (Some(caller), Some(_), Ok(runtime)) =
            (self.caller.take(), hook, Handle::try_current())
        else {
            return;
        };
        let (node, reason) = (Arc::clone(self.node), self.reason);
        let application = Arc::clone(&node.application);
        let told = async move { application.disconnect(caller, reason).await };
        runtime.spawn(node.tasks.track_future(told));
    }
}
