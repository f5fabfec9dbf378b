//! The rules for groups.

use std::time::Duration;

use super::{group, hostile, register, soon, unregister, until, user, word};
use crate::{
    Boot, GroupError, GroupName, Groups, MAX_MEMBERS, Member, PageRequest, Presence, SessionId,
};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(50);

fn a_user() -> Member {
    Member::User(user())
}

fn a_session() -> Member {
    Member::Session(SessionId::generate(Boot::generate()))
}

async fn add(groups: &impl Groups, group: &GroupName, members: &[Member]) -> usize {
    soon(groups.add(group, members, None)).await.expect("they are added")
}

async fn add_for(groups: &impl Groups, group: &GroupName, member: &Member, lifetime: Duration) {
    let members = [member.clone()];
    soon(groups.add(group, &members, Some(lifetime))).await.expect("it is added");
}

/// All members, by pages of `limit`.
async fn members(groups: &impl Groups, group: &GroupName, limit: usize) -> Vec<Member> {
    let mut members = Vec::new();
    let mut page = PageRequest::first(limit);
    loop {
        let answer = soon(groups.members(group, &page)).await.expect("a page");
        assert!(answer.items.len() <= limit);
        members.extend(answer.items);
        match answer.next {
            Some(next) => page = PageRequest::after(next, limit),
            None => return members,
        }
    }
}

async fn size(groups: &impl Groups, group: &GroupName) -> u64 {
    soon(groups.size(group)).await.expect("a size")
}

async fn groups_of(groups: &impl Groups, member: &Member) -> Vec<GroupName> {
    soon(groups.groups_of(member)).await.expect("a list")
}

/// What is done again changes nothing, and says so.
pub async fn members_are_added_and_removed_once(groups: &impl Groups) {
    let (team, one, other) = (group(), a_user(), a_session());
    assert_eq!(add(groups, &team, &[one.clone(), other.clone()]).await, 2);
    assert_eq!(add(groups, &team, std::slice::from_ref(&one)).await, 0);
    assert_eq!(size(groups, &team).await, 2);
    assert_eq!(groups_of(groups, &one).await, std::slice::from_ref(&team));
    let both = [one.clone(), other];
    assert_eq!(soon(groups.remove(&team, &both[..1])).await, Ok(1));
    assert_eq!(soon(groups.remove(&team, &both)).await, Ok(1));
    assert_eq!(soon(groups.remove(&team, &both)).await, Ok(0));
    assert_eq!(size(groups, &team).await, 0);
    assert_eq!(groups_of(groups, &one).await, []);
    assert_eq!((add(groups, &team, &[]).await, soon(groups.remove(&team, &[])).await), (0, Ok(0)));
}

/// In an order that stays, each once.
pub async fn members_are_listed_in_pages(groups: &impl Groups) {
    let team = group();
    let mut expected: Vec<_> = (0..4).flat_map(|_| [a_user(), a_session()]).collect();
    add(groups, &team, &expected).await;
    expected.sort();
    for limit in [1, 3, 8, 100] {
        assert_eq!(members(groups, &team, limit).await, expected, "pages of {limit}");
    }
}

/// That is what SUBSCRIBE asks.
pub async fn a_session_is_a_member_by_itself_or_by_its_user(groups: &impl Groups) {
    let (team, ann, bob) = (group(), user(), user());
    let ids: Vec<_> = (0..2).map(|_| SessionId::generate(Boot::generate())).collect();
    add(groups, &team, &[Member::User(ann.clone()), Member::Session(ids[0].clone())]).await;
    for (user, id, expected) in
        [(&ann, &ids[1], true), (&bob, &ids[0], true), (&bob, &ids[1], false)]
    {
        assert_eq!(soon(groups.is_member(user, id, &team)).await, Ok(expected));
    }
    assert_eq!(soon(groups.is_member(&ann, &ids[0], &group())).await, Ok(false));
}

/// And is over for every question.
pub async fn a_membership_may_end_by_itself(groups: &impl Groups) {
    let (team, short, long) = (group(), a_session(), a_user());
    let Member::Session(id) = &short else { unreachable!() };
    add_for(groups, &team, &short, SHORT).await;
    add_for(groups, &team, &long, LONG).await;
    until(async || groups.size(&team).await == Ok(1)).await;
    assert_eq!(members(groups, &team, 1).await, std::slice::from_ref(&long));
    assert_eq!(soon(groups.is_member(&user(), id, &team)).await, Ok(false));
    assert_eq!(groups_of(groups, &short).await, []);
    assert_eq!(soon(groups.remove(&team, std::slice::from_ref(&short))).await, Ok(0));
    assert_eq!(add(groups, &team, std::slice::from_ref(&short)).await, 1);
}

/// With all members, unless that is taken back.
pub async fn a_group_may_end_as_a_whole(groups: &impl Groups) {
    let (team, kept) = (group(), group());
    assert_eq!(soon(groups.set_lifetime(&team, Some(SHORT))).await, Ok(false));
    let (one, other) = (a_user(), a_user());
    for team in [&team, &kept] {
        add_for(groups, team, &one, LONG).await;
        add(groups, team, std::slice::from_ref(&other)).await;
    }
    assert_eq!(soon(groups.set_lifetime(&kept, Some(LONG))).await, Ok(true));
    assert_eq!(soon(groups.set_lifetime(&kept, None)).await, Ok(true));
    assert_eq!(soon(groups.set_lifetime(&team, Some(SHORT))).await, Ok(true));
    until(async || groups.size(&team).await == Ok(0)).await;
    assert_eq!(members(groups, &team, 10).await, []);
    assert_eq!(groups_of(groups, &one).await, std::slice::from_ref(&kept));
    // A group of that name that comes later is another one.
    add(groups, &team, std::slice::from_ref(&one)).await;
    assert_eq!((size(groups, &team).await, size(groups, &kept).await), (1, 2));
}

/// A longer time, or none.
pub async fn adding_again_begins_the_time_anew(groups: &impl Groups) {
    let (team, longer, forever, mark) = (group(), a_user(), a_user(), a_user());
    for member in [&longer, &forever, &mark] {
        add_for(groups, &team, member, Duration::from_millis(500)).await;
    }
    add_for(groups, &team, &longer, LONG).await;
    add(groups, &team, std::slice::from_ref(&forever)).await;
    until(async || groups.groups_of(&mark).await == Ok(vec![])).await;
    let mut expected = [longer, forever];
    expected.sort();
    assert_eq!(members(groups, &team, 10).await, expected);
}

/// For its members as well; deleting what is not there says so.
pub async fn a_deleted_group_is_empty(groups: &impl Groups) {
    let (team, one) = (group(), a_user());
    assert_eq!(soon(groups.delete(&team)).await, Ok(false));
    add(groups, &team, &[one.clone(), a_session()]).await;
    assert_eq!(soon(groups.delete(&team)).await, Ok(true));
    assert_eq!(size(groups, &team).await, 0);
    assert_eq!(groups_of(groups, &one).await, []);
}

/// A user is a member whether it is online or not.
pub async fn membership_of_a_user_outlives_its_sessions(store: &(impl Presence + Groups)) {
    let (team, ann) = (group(), user());
    add(store, &team, &[Member::User(ann.clone())]).await;
    let session = register(store, &ann).await;
    unregister(store, &session).await;
    let again = register(store, &ann).await;
    assert_eq!(soon(store.is_member(&ann, &again.id, &team)).await, Ok(true));
    assert_eq!(size(store, &team).await, 1);
}

/// So it needs no clearing up.
pub async fn membership_of_a_session_ends_with_it(store: &(impl Presence + Groups)) {
    let (team, ann) = (group(), user());
    let (one, other) = (register(store, &ann).await, register(store, &ann).await);
    let members_of = [Member::Session(one.id.clone()), Member::Session(other.id.clone())];
    add(store, &team, &members_of).await;
    unregister(store, &one).await;
    assert_eq!(members(store, &team, 10).await, &members_of[1..]);
    assert_eq!(groups_of(store, &members_of[0]).await, []);
}

/// Nor do members.
pub async fn groups_do_not_meet_whatever_they_are_called(groups: &impl Groups) {
    let word = word();
    let name = |name: String| GroupName::new(name).expect("a name");
    let names: Vec<_> = hostile(&word).into_iter().map(name).collect();
    let users: Vec<_> = hostile(&word).into_iter().map(|name| super::named(&name)).collect();
    for (team, ann) in names.iter().zip(&users) {
        add(groups, team, &[Member::User(ann.clone())]).await;
    }
    for (team, ann) in names.iter().zip(&users) {
        let ann = Member::User(ann.clone());
        assert_eq!(members(groups, team, 10).await, std::slice::from_ref(&ann));
        assert_eq!(groups_of(groups, &ann).await, std::slice::from_ref(team));
    }
    let everybody = group();
    let everyone: Vec<_> = users.into_iter().map(Member::User).collect();
    add(groups, &everybody, &everyone).await;
    let mut expected = everyone;
    expected.sort();
    assert_eq!(members(groups, &everybody, 2).await, expected);
}

/// The limit stands in the error.
pub async fn too_many_at_once_are_refused(groups: &impl Groups) {
    let (team, limit) = (group(), MAX_MEMBERS);
    let members: Vec<_> = (0..=limit).map(|_| a_session()).collect();
    let refused = GroupError::TooMany { given: limit + 1, limit };
    assert_eq!(soon(groups.add(&team, &members, None)).await, Err(refused.clone()));
    assert_eq!(soon(groups.remove(&team, &members)).await, Err(refused));
    assert_eq!(add(groups, &team, &members[..limit]).await, limit);
    assert_eq!(size(groups, &team).await, limit as u64);
}
