//! The service `footbridge.v1.Groups`.
//!
//! Invariant: a change of members is answered once it is in the store and the broker has the word to the
//! nodes. Whatever is sent to the group later comes behind the word of a removal. It is told apart from one
//! that is in the store alone.
//!
//! Not here: who may call (`door`).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::presence::{GroupError, GroupName, Member, SessionId};
use async_trait::async_trait;
use cluster::{Letter, Target};
use proto::v1::{
    AddToGroupRequest, AddToGroupResponse, CountGroupRequest, CountGroupResponse,
    DeleteGroupRequest, DeleteGroupResponse, GroupsOfRequest, GroupsOfResponse, ListGroupRequest,
    ListGroupResponse, Member as Named, RemoveFromGroupRequest, RemoveFromGroupResponse,
    SetGroupLifetimeRequest, SetGroupLifetimeResponse, groups_server, member,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::names;
use crate::node::Node;
use crate::outgoing::Outgoing;
use crate::refusal::Refusal;

/// What a caller has to reckon with when the nodes could not be told of new members.
const NOT_HEARD: &str = "they are members, and those of their sessions that are connected without STOMP may \
                         not receive what is sent to the group: call again";

/// What a caller has to reckon with when the nodes could not be told of a removal.
const NOT_IN_FORCE: &str = "the members are removed in the store, and may yet receive what is sent to the \
                            group: call again";

/// See the module.
#[derive(Clone)]
pub(crate) struct Groups(Arc<Node>);

impl Groups {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self(node)
    }

    /// Sees to it that nothing more of the group reaches `members`; nobody in particular is everybody.
    async fn revoke(
        &self,
        group: GroupName,
        members: Vec<Target>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let revoked = self.0.post(Outgoing::Revoke(group, members), deadline).await;
        revoked.map_err(|refusal| in_store_alone(refusal, NOT_IN_FORCE))
    }

    /// Refuses sessions that are not there: their membership would never end.
    async fn all_there(&self, members: &[Member]) -> Result<(), Refusal> {
        let ids: Vec<SessionId> = members
            .iter()
            .filter_map(|member| match member {
                Member::Session(id) => Some(id.clone()),
                Member::User(_) => None,
            })
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let known = self.0.router.known(&ids).await?;
        match ids.iter().find(|id| !known.contains_key(id)) {
            Some(id) => Err(Refusal::Unknown(format!(
                "there is no session {id}: nobody was added to the group"
            ))),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl groups_server::Groups for Groups {
    async fn add(
        &self,
        request: Request<AddToGroupRequest>,
    ) -> Result<Response<AddToGroupResponse>, Status> {
        let deadline = self.0.deadline(request.metadata());
        let AddToGroupRequest { group, users, sessions, lifetime } = request.into_inner();
        let group = names::group("group", &group)?;
        let members = names::members(&users, &sessions)?;
        let lifetime = names::time("lifetime", lifetime)?;
        self.all_there(&members).await?;
        let added = self.0.groups.add(&group, &members, lifetime).await.map_err(refused)?;
        // For sessions that cannot subscribe. Also where all were in the store: a call before may not have got
        // so far.
        let told = self.0.tell(Letter::Grant { group, members: targets(members) }, deadline).await;
        told.map_err(|refusal| in_store_alone(refusal, NOT_HEARD))?;
        Ok(Response::new(AddToGroupResponse { added: added as u64 }))
    }

    async fn remove(
        &self,
        request: Request<RemoveFromGroupRequest>,
    ) -> Result<Response<RemoveFromGroupResponse>, Status> {
        let deadline = self.0.deadline(request.metadata());
        let RemoveFromGroupRequest { group, users, sessions } = request.into_inner();
        let group = names::group("group", &group)?;
        let members = names::members(&users, &sessions)?;
        let removed = self.0.groups.remove(&group, &members).await.map_err(refused)?;
        // Also where nobody was in the store: a call before may not have got so far.
        self.revoke(group, targets(members), deadline).await?;
        Ok(Response::new(RemoveFromGroupResponse { removed: removed as u64 }))
    }

    async fn delete(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        let deadline = self.0.deadline(request.metadata());
        let group = names::group("group", &request.into_inner().group)?;
        let deleted = self.0.groups.delete(&group).await.map_err(Refusal::from)?;
        self.revoke(group, Vec::new(), deadline).await?;
        Ok(Response::new(DeleteGroupResponse { deleted }))
    }

    async fn list(
        &self,
        request: Request<ListGroupRequest>,
    ) -> Result<Response<ListGroupResponse>, Status> {
        let ListGroupRequest { group, page_size, page_token } = request.into_inner();
        let group = names::group("group", &group)?;
        let page = names::page(page_size, page_token)?;
        let page = self.0.groups.members(&group, &page).await.map_err(Refusal::from)?;
        let members = page.items.into_iter().map(|member| Named {
            member: Some(match member {
                Member::User(user) => member::Member::User(user.to_string()),
                Member::Session(id) => member::Member::Session(id.to_string()),
            }),
        });
        let next_page_token = page.next.map(|next| next.as_str().to_owned()).unwrap_or_default();
        Ok(Response::new(ListGroupResponse { members: members.collect(), next_page_token }))
    }

    async fn count(
        &self,
        request: Request<CountGroupRequest>,
    ) -> Result<Response<CountGroupResponse>, Status> {
        let group = names::group("group", &request.into_inner().group)?;
        let members = self.0.groups.size(&group).await.map_err(Refusal::from)?;
        Ok(Response::new(CountGroupResponse { members }))
    }

    async fn of(
        &self,
        request: Request<GroupsOfRequest>,
    ) -> Result<Response<GroupsOfResponse>, Status> {
        let member = match request.into_inner().member.and_then(|named| named.member) {
            Some(member::Member::User(name)) => Member::User(names::user("member.user", &name)?),
            Some(member::Member::Session(id)) => {
                Member::Session(names::session("member.session", &id)?)
            }
            None => {
                let problem = "is missing: set user or session";
                return Err(Refusal::invalid("member", problem).into());
            }
        };
        let groups = self.0.groups.groups_of(&member).await.map_err(Refusal::from)?;
        let groups = groups.iter().map(GroupName::to_string).collect();
        Ok(Response::new(GroupsOfResponse { groups }))
    }

    async fn set_lifetime(
        &self,
        request: Request<SetGroupLifetimeRequest>,
    ) -> Result<Response<SetGroupLifetimeResponse>, Status> {
        let SetGroupLifetimeRequest { group, lifetime } = request.into_inner();
        let group = names::group("group", &group)?;
        let lifetime = names::time("lifetime", lifetime)?;
        let is_there = self.0.groups.set_lifetime(&group, lifetime).await.map_err(Refusal::from)?;
        if !is_there {
            return Err(Refusal::Unknown(format!("the group {group:?} has no members")).into());
        }
        Ok(Response::new(SetGroupLifetimeResponse {}))
    }
}

/// A change that is in the store, and of which the nodes were not told.
fn in_store_alone(refusal: Refusal, so: &str) -> Refusal {
    match refusal.of_order(so) {
        Refusal::Untold(why) => Refusal::NotInForce(why),
        other => other,
    }
}

fn targets(members: Vec<Member>) -> Vec<Target> {
    let target = |member| match member {
        Member::User(user) => Target::User(user),
        Member::Session(id) => Target::Session(id),
    };
    members.into_iter().map(target).collect()
}

fn refused(error: GroupError) -> Refusal {
    match error {
        GroupError::TooMany { .. } => Refusal::invalid("users", error.to_string()),
        GroupError::Unavailable(error) => error.into(),
    }
}
