//! What is stored for users.
//!
//! Of bodies only the beginning is shown: a store hands out the rest to those it is for.
//!
//! Not here: what a client takes and settles (`inboxes`).

use bytestring::ByteString;
use inbox::{Address, Count, Listed, Purge, State, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::Request;
use super::{ROWS, Refusal, millis};
use crate::inboxes::Inboxes;
use crate::node::Node;

/// The most inboxes of a user that are counted for one answer: each is asked for by itself.
const COUNTED: usize = 50;

/// What somebody wants dropped.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unwanted {
    user: String,
    path: String,
    /// Which messages; all where there is none.
    ids: Option<Vec<String>>,
}

/// The inboxes of a user; or, where none is named, a page of the users that the store knows.
pub(super) async fn inboxes(node: &Node, request: &Request) -> Result<Value, Refusal> {
    let store = store(node)?.store();
    if request.parameter("user").is_empty() {
        let known = store.known(&request.page()).await?;
        return Ok(json!({
            "users": known.items.iter().map(|user| user.as_str()).collect::<Vec<_>>(),
            "next": known.next.as_ref().map(|next| next.as_str()),
        }));
    }
    let user = request.user()?;
    let paths = store.paths(&user).await?;
    let mut rows = Vec::new();
    for path in paths.iter().take(COUNTED) {
        let count = store.count(&Address::of_user(user.clone(), path.clone())).await?;
        rows.push(json!({ "path": &**path, "count": counted(&count) }));
    }
    Ok(json!({ "user": user.as_str(), "inbox_count": paths.len(), "inboxes": rows }))
}

/// One inbox: how much is in it, and a page of its messages.
pub(super) async fn inbox(node: &Node, request: &Request) -> Result<Value, Refusal> {
    let store = store(node)?.store();
    let of = address(request.user()?, request.parameter("path"))?;
    let page = request.page();
    let (count, list) = tokio::try_join!(store.count(&of), store.list(&of, &page))?;
    Ok(json!({
        "count": counted(&count),
        "messages": list.items.iter().map(row).collect::<Vec<_>>(),
        "next": list.next.as_ref().map(|next| next.as_str()),
    }))
}

/// How one message stands, also for a while after it has left its inbox; null where that is not known.
pub(super) async fn status(node: &Node, request: &Request) -> Result<Value, Refusal> {
    let store = store(node)?.store();
    let of = address(request.user()?, request.parameter("path"))?;
    let id = request.parameter("id").parse();
    let id = id.map_err(|_| Refusal::Malformed("id: no message's id".to_owned()))?;
    let statuses = store.status(&of, &[id]).await?;
    Ok(json!({ "status": statuses.into_iter().flatten().next().map(|status| stands(&status)) }))
}

/// Drops messages of an inbox.
pub(super) async fn purge(node: &Node, request: &Request) -> Result<Value, Refusal> {
    let inboxes = store(node)?;
    let Unwanted { user, path, ids } = request.json()?;
    let user =
        presence::UserName::new(user).map_err(|why| Refusal::Malformed(format!("user: {why}")))?;
    let which = match ids {
        None => Purge::All,
        Some(ids) if ids.len() > ROWS => {
            return Err(Refusal::Malformed(format!("more than {ROWS} messages at once")));
        }
        Some(ids) => {
            let ids: Result<_, _> = ids.iter().map(|id| id.parse()).collect();
            Purge::Ids(ids.map_err(|_| Refusal::Malformed("ids: no message's id".to_owned()))?)
        }
    };
    let dropped = inboxes.purge(&address(user, &path)?, &which).await?;
    Ok(json!({ "dropped": dropped }))
}

fn store(node: &Node) -> Result<&Inboxes, Refusal> {
    node.inboxes.as_deref().ok_or(Refusal::NoInboxes)
}

fn address(user: presence::UserName, path: &str) -> Result<Address, Refusal> {
    let of = Address::of_user(user, ByteString::from(path));
    match of.fits() {
        true => Ok(of),
        false => {
            let why = format!("path: a destination of 1 to {} bytes", inbox::MAX_PATH);
            Err(Refusal::Malformed(why))
        }
    }
}

fn counted(count: &Count) -> Value {
    json!({
        "messages": count.messages(),
        "scheduled": count.scheduled,
        "pending": count.pending,
        "delivered": count.delivered,
        "failed": count.failed,
        "bytes": count.bytes,
        "oldest": count.oldest.map(millis),
    })
}

fn row(listed: &Listed) -> Value {
    json!({
        "id": listed.id.to_string(),
        "sequence": listed.seq,
        "status": stands(&listed.status),
        "appended": millis(listed.appended),
        "deliver_at": listed.deliver_at.map(millis),
        "expires_at": millis(listed.expires_at),
        "bytes": listed.cost,
        "beginning": text(&listed.preview),
    })
}

fn stands(status: &Status) -> Value {
    let state = match status.state {
        State::Scheduled => "scheduled",
        State::Pending => "pending",
        State::Delivered => "delivered",
        State::Acked => "acked",
        State::Failed => "failed",
        State::Expired => "expired",
        State::Dropped => "dropped",
    };
    json!({ "state": state, "attempts": status.attempts, "since": millis(status.since) })
}

/// The beginning of a body as text. A character that it cuts is left out.
fn text(beginning: &[u8]) -> String {
    let whole = match std::str::from_utf8(beginning) {
        Err(error) if error.error_len().is_none() => &beginning[..error.valid_up_to()],
        _ => beginning,
    };
    let rest = if beginning.len() < inbox::PREVIEW { "" } else { "\u{2026}" };
    format!("{}{rest}", String::from_utf8_lossy(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_cut_is_left_out_and_bytes_that_are_none_are_marked() {
        let long = format!("x{}", "\u{e4}".repeat(inbox::PREVIEW));
        let cut = text(&long.as_bytes()[..inbox::PREVIEW]);
        assert!(cut.ends_with("\u{e4}\u{2026}") && !cut.contains('\u{fffd}'), "{cut}");
        assert_eq!(text(b"short"), "short");
        assert_eq!(text(&[0xff, b'a']), "\u{fffd}a");
    }
}
