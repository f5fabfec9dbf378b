//! The service `footbridge.v1.Inbox`.
//!
//! Invariant: what is settled or dropped here is told to senders, and published where failures go, as what clients
//! settle is.
//!
//! Not here: who may call (`door`), what is put in (`keeper`).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use ::inbox::{Address, Count, Listed, Purge, Settlement};
use async_trait::async_trait;
use broker::MessageId;
use presence::PageRequest;
use proto::v1::list_inbox_response::Waiting;
use proto::v1::settle_inbox_request::Settlement as Said;
use proto::v1::{
    CountInboxRequest, CountInboxResponse, ForgetUserRequest, ForgetUserResponse,
    InboxPathsRequest, InboxPathsResponse, InboxStatusRequest, InboxStatusResponse,
    ListInboxRequest, ListInboxResponse, PurgeInboxRequest, PurgeInboxResponse, SettleInboxRequest,
    SettleInboxResponse, inbox_server,
};
use tonic::{Request, Response, Status};
use ulid::Ulid;

use crate::node::Node;
use crate::refusal::Refusal;
use crate::watch::delivery;
use crate::{keep, names, sends};

/// See the module.
#[derive(Clone)]
pub(crate) struct Inboxes(Arc<Node>);

impl Inboxes {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self(node)
    }

    /// The inbox that a request names.
    fn address(&self, user: &str, destination: &str) -> Result<Address, Refusal> {
        let user = names::user("user", user)?;
        let path = sends::path(destination, &self.0.destinations)?;
        keep::fits(&path)?;
        Ok(Address::of_user(user, path))
    }

    /// Where in an inbox some messages are. Those that have no place are left out.
    async fn places(&self, of: &Address, ids: &[Ulid]) -> Result<HashMap<Ulid, u64>, Refusal> {
        let inbox = self.0.keeper()?.inbox();
        let (mut places, mut page) = (HashMap::new(), PageRequest::first(presence::MAX_PAGE));
        loop {
            let listed = inbox.list(of, &page).await?;
            let asked = listed.items.iter().filter(|listed| ids.contains(&listed.id));
            places.extend(asked.filter_map(|listed| Some((listed.id, listed.seq?))));
            match listed.next {
                Some(next) if places.len() < ids.len() => {
                    page = PageRequest::after(next, presence::MAX_PAGE);
                }
                _ => return Ok(places),
            }
        }
    }
}

#[async_trait]
impl inbox_server::Inbox for Inboxes {
    async fn list(
        &self,
        request: Request<ListInboxRequest>,
    ) -> Result<Response<ListInboxResponse>, Status> {
        let ListInboxRequest { user, destination, page_size, page_token } = request.into_inner();
        let of = self.address(&user, &destination)?;
        let page = names::page(page_size, page_token)?;
        let page = self.0.keeper()?.inbox().list(&of, &page).await.map_err(Refusal::from)?;
        let next_page_token = page.next.map(|next| next.as_str().to_owned()).unwrap_or_default();
        let messages = page.items.into_iter().map(waiting).collect();
        Ok(Response::new(ListInboxResponse { messages, next_page_token }))
    }

    async fn count(
        &self,
        request: Request<CountInboxRequest>,
    ) -> Result<Response<CountInboxResponse>, Status> {
        let CountInboxRequest { user, destination } = request.into_inner();
        let of = self.address(&user, &destination)?;
        let count = self.0.keeper()?.inbox().count(&of).await.map_err(Refusal::from)?;
        let Count { scheduled, pending, delivered, failed, bytes, oldest } = count;
        let oldest = oldest.map(Into::into);
        let count = CountInboxResponse { scheduled, pending, delivered, failed, bytes, oldest };
        Ok(Response::new(count))
    }

    async fn paths(
        &self,
        request: Request<InboxPathsRequest>,
    ) -> Result<Response<InboxPathsResponse>, Status> {
        let user = names::user("user", &request.into_inner().user)?;
        let paths = self.0.keeper()?.inbox().paths(&user).await.map_err(Refusal::from)?;
        let destinations = paths.iter().map(ToString::to_string).collect();
        Ok(Response::new(InboxPathsResponse { destinations }))
    }

    async fn status(
        &self,
        request: Request<InboxStatusRequest>,
    ) -> Result<Response<InboxStatusResponse>, Status> {
        let InboxStatusRequest { user, destination, message_ids } = request.into_inner();
        let of = self.address(&user, &destination)?;
        let ids = ids(&message_ids)?;
        let found = self.0.keeper()?.inbox().status(&of, &ids).await.map_err(Refusal::from)?;
        let deliveries = found.into_iter().map(delivery).collect();
        Ok(Response::new(InboxStatusResponse { deliveries }))
    }

    async fn settle(
        &self,
        request: Request<SettleInboxRequest>,
    ) -> Result<Response<SettleInboxResponse>, Status> {
        let settlement = match request.get_ref().settlement() {
            Said::Ack => Settlement::Ack,
            Said::Reject => Settlement::Reject,
            Said::Unspecified => {
                let problem = "is missing, or none that this version knows: set ACK or REJECT";
                return Err(Refusal::invalid("settlement", problem).into());
            }
        };
        let SettleInboxRequest { user, destination, message_ids, .. } = request.into_inner();
        let of = self.address(&user, &destination)?;
        let ids = ids(&message_ids)?;
        let keeper = self.0.keeper()?;
        // Before the places: those of another epoch are left alone.
        let epoch = keeper.inbox().epoch(&of).await.map_err(Refusal::from)?;
        let places = self.places(&of, &ids).await?;
        let mut settlements: Vec<_> = places.into_values().map(|seq| (seq, settlement)).collect();
        settlements.sort_unstable_by_key(|(seq, _)| *seq);
        let settled = keeper.inbox().settle(&of, epoch, &settlements).await;
        let settled = settled.map_err(Refusal::from)?;
        let count = settled.changes.len() as u64;
        keeper.dispatcher().settled(&of, settled);
        Ok(Response::new(SettleInboxResponse { settled: count }))
    }

    async fn purge(
        &self,
        request: Request<PurgeInboxRequest>,
    ) -> Result<Response<PurgeInboxResponse>, Status> {
        let PurgeInboxRequest { user, destination, message_ids, all } = request.into_inner();
        let of = self.address(&user, &destination)?;
        let which = match (all, message_ids.is_empty()) {
            (true, true) => Purge::All,
            (true, false) => {
                let problem = "is set, and messages are named besides";
                return Err(Refusal::invalid("all", problem).into());
            }
            (false, true) => {
                let problem = "is empty: name messages, or set all";
                return Err(Refusal::invalid("message_ids", problem).into());
            }
            (false, false) => Purge::Ids(ids(&message_ids)?),
        };
        let keeper = self.0.keeper()?;
        let purged = keeper.inbox().purge(&of, &which).await.map_err(Refusal::from)?;
        let dropped = purged.changes.len() as u64;
        keeper.dispatcher().settled(&of, purged);
        Ok(Response::new(PurgeInboxResponse { dropped }))
    }

    async fn forget(
        &self,
        request: Request<ForgetUserRequest>,
    ) -> Result<Response<ForgetUserResponse>, Status> {
        let user = names::user("user", &request.into_inner().user)?;
        self.0.keeper()?.inbox().forget(&user).await.map_err(Refusal::from)?;
        Ok(Response::new(ForgetUserResponse {}))
    }
}

/// The ids of a request, each once.
fn ids(texts: &[String]) -> Result<Vec<Ulid>, Refusal> {
    names::messages("message_ids", texts).map(|ids| ids.into_iter().map(MessageId::ulid).collect())
}

fn waiting(listed: Listed) -> Waiting {
    let Listed { id, seq, appended, deliver_at, expires_at, cost, status, preview: _ } = listed;
    Waiting {
        message_id: id.to_string(),
        sequence: seq.unwrap_or_default(),
        delivery: Some(delivery(Some(status))),
        stored_at: Some(appended.into()),
        deliver_at: deliver_at.map(Into::into),
        expires_at: Some(expires_at.into()),
        bytes: cost,
    }
}
