//! Who is online on any node, and who is in which group.
//!
//! Not here: what only this node knows of its sessions (`node_view`).

use presence::{GroupName, Member, Session};
use serde_json::{Value, json};

use super::request::Request;
use super::{ROWS, Refusal, millis};
use crate::node::Node;

/// How many are online, the nodes, and a page of the users.
pub(super) async fn presence(node: &Node, request: &Request) -> Result<Value, Refusal> {
    let page = request.page();
    let (count, users) = tokio::try_join!(node.presence.count(), node.presence.users(&page))?;
    let announcements = node.nodes.announcements();
    let mut boots: Vec<_> = announcements.iter().map(|it| it.boot).collect();
    boots.extend(count.nodes.iter().map(|(boot, _)| *boot));
    boots.push(node.presence.boot());
    boots.sort_unstable();
    boots.dedup();
    let node_count = boots.len();
    boots.truncate(ROWS);
    let nodes = boots.iter().map(|boot| {
        let said = announcements.iter().find(|announcement| announcement.boot == *boot);
        json!({
            "node": boot.node_name(),
            "this": *boot == node.presence.boot(),
            // None of one that has no lease in the store.
            "sessions": count.nodes.iter().find(|(of, _)| of == boot).map(|(_, sessions)| sessions),
            "heard": said.is_some(),
            "draining": said.is_some_and(|said| said.draining),
        })
    });
    let rows = users
        .items
        .iter()
        .map(|online| json!({ "user": online.user.as_str(), "sessions": online.sessions }));
    Ok(json!({
        "user_count": count.users,
        "session_count": count.sessions(),
        "node_count": node_count,
        "nodes": nodes.collect::<Vec<_>>(),
        "users": rows.collect::<Vec<_>>(),
        "next": users.next.as_ref().map(|next| next.as_str()),
    }))
}

/// One user: sessions on all nodes, groups, and a ban.
pub(super) async fn user(node: &Node, request: &Request) -> Result<Value, Refusal> {
    let user = request.user()?;
    let (member, users) = (Member::User(user.clone()), [user.clone()]);
    let (lookup, groups, ban) = tokio::try_join!(
        node.presence.lookup(&users),
        node.groups.groups_of(&member),
        node.presence.ban_of(&user),
    )?;
    let sessions = lookup.sessions_of(&user);
    Ok(json!({
        "user": user.as_str(),
        "banned_seconds": ban.map(|left| left.as_secs()),
        "session_count": sessions.len(),
        "sessions": sessions.iter().take(ROWS).map(row).collect::<Vec<_>>(),
        "group_count": groups.len(),
        "groups": groups.iter().take(ROWS).map(GroupName::as_str).collect::<Vec<_>>(),
    }))
}

/// The groups that sessions of this node are subscribed to: there is no list of all, for nobody creates one.
pub(super) fn groups(node: &Node) -> Value {
    let groups = node.hub.groups_here();
    json!({
        "group_count": groups.len(),
        "groups": groups.iter().take(ROWS).map(GroupName::as_str).collect::<Vec<_>>(),
    })
}

/// A group: how many members it has, and a page of them.
pub(super) async fn group(node: &Node, request: &Request) -> Result<Value, Refusal> {
    let group = GroupName::new(request.parameter("group").to_owned());
    let group = group.map_err(|why| Refusal::Malformed(format!("group: {why}")))?;
    let page = request.page();
    let (size, members) =
        tokio::try_join!(node.groups.size(&group), node.groups.members(&group, &page))?;
    let rows = members.items.iter().map(|member| match member {
        Member::User(user) => json!({ "user": user.as_str() }),
        Member::Session(id) => json!({ "session": id.as_str(), "node": id.node_name() }),
    });
    Ok(json!({
        "group": group.as_str(),
        "member_count": size,
        "members": rows.collect::<Vec<_>>(),
        "next": members.next.as_ref().map(|next| next.as_str()),
    }))
}

fn row(session: &Session) -> Value {
    json!({
        "id": session.id.as_str(),
        "node": session.boot.node_name(),
        "address": &*session.address,
        "device": &*session.device,
        "since": millis(session.since),
    })
}
