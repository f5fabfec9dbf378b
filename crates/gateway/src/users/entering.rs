//! The way of a client into the node: who it is, whether the application wants it, and that it is known.

use std::sync::Arc;

use access::Principal;
use tokio::time::Instant;

use super::registration::{Newcomer, Registration, register};
use crate::application::Caller;
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
    let registration = register(node, &principal, newcomer, latest).await?;
    let (principal, attributes) = (Arc::new(principal), Arc::new(annotations));
    Ok((registration, Caller { principal, session, address, attributes }))
}
