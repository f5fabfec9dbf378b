//! The rules for sessions, users and bans.

use std::collections::HashSet;
use std::time::Duration;

use bytestring::ByteString;
use futures_util::future::join_all;

use super::{hostile, named, next_about, register, session, soon, unregister, until, user, word};
use crate::{
    Boot, Cursor, Ending, Event, Link, MAX_TEXT, PageRequest, Presence, RegisterError, Session,
    SessionId, UserName,
};

async fn sessions_of(presence: &impl Presence, user: &UserName) -> Vec<Session> {
    let users = [user.clone()];
    let answer = soon(presence.lookup(&users)).await.expect("an answer");
    answer.sessions_of(user).to_vec()
}

/// It is found by its user and by its id, with all that was said of it.
pub async fn a_registered_session_is_found(presence: &impl Presence) {
    let ann = user();
    let mut session = session(presence, &ann);
    session.address = "[2001:db8::1]:4711".into();
    session.device = "Mozilla/5.0 (\"x\"; {y})".into();
    session.attributes.insert("roles".into(), serde_json::json!(["admin", {"of": 1.5}]));
    soon(presence.register(session.clone())).await.expect("it is registered");
    assert_eq!(sessions_of(presence, &ann).await, [session.clone()]);
    let by_id = soon(presence.session(&session.id)).await;
    assert_eq!(by_id, Ok(Some(session)));
}

/// Ending one that has ended is no error.
pub async fn a_session_that_ended_is_found_nowhere(presence: &impl Presence) {
    let ann = user();
    let session = register(presence, &ann).await;
    unregister(presence, &session).await;
    assert_eq!(sessions_of(presence, &ann).await, []);
    assert_eq!(soon(presence.session(&session.id)).await, Ok(None));
    unregister(presence, &session).await;
    let unknown = SessionId::generate(Boot::generate());
    assert_eq!(soon(presence.session(&unknown)).await, Ok(None));
}

/// Each is found, and ends by itself.
pub async fn a_user_may_have_many_sessions(presence: &impl Presence) {
    let ann = user();
    let (one, other) = (register(presence, &ann).await, register(presence, &ann).await);
    let found: HashSet<_> = sessions_of(presence, &ann).await.into_iter().map(|s| s.id).collect();
    assert_eq!(found, HashSet::from([one.id.clone(), other.id.clone()]));
    unregister(presence, &one).await;
    assert_eq!(sessions_of(presence, &ann).await, [other]);
}

/// A user without sessions is absent from the answer, one that is asked for twice is there once.
pub async fn one_question_is_enough_for_many_users(presence: &impl Presence) {
    let (ann, bob, nobody) = (user(), user(), user());
    let (of_ann, of_bob) = (register(presence, &ann).await, register(presence, &bob).await);
    let asked = [ann.clone(), nobody.clone(), bob.clone(), ann.clone()];
    let answer = soon(presence.lookup(&asked)).await.expect("an answer");
    assert_eq!(answer.sessions_of(&ann), [of_ann]);
    assert_eq!(answer.sessions_of(&bob), [of_bob]);
    assert_eq!((answer.sessions.len(), answer.sessions_of(&nobody).len()), (2, 0));
    let nothing = soon(presence.lookup(&[])).await.expect("an answer");
    assert!(nothing.sessions.is_empty());
}

/// While nothing is wrong the node and the store agree.
pub async fn an_answer_vouches_for_this_node(presence: &impl Presence) {
    let state = presence.state().borrow().clone();
    assert_eq!(state.link, Link::Up);
    let answer = soon(presence.lookup(&[])).await.expect("an answer");
    assert!(answer.epoch.is_some());
    assert_eq!(answer.epoch, state.registered);
    assert!(answer.leased.contains(&presence.boot()));
}

/// All calls return, and all are found.
pub async fn many_may_register_at_once(presence: &impl Presence) {
    let users: Vec<_> = (0..500).map(|_| user()).collect();
    join_all(users.iter().map(|user| register(presence, user))).await;
    let answer = soon(presence.lookup(&users)).await.expect("an answer");
    assert_eq!(answer.sessions.len(), users.len());
    for user in &users {
        assert_eq!(answer.boots_of(user).collect::<Vec<_>>(), [presence.boot()]);
    }
}

/// By its boot or by its id.
pub async fn a_session_of_another_node_is_refused(presence: &impl Presence) {
    let (ann, other) = (user(), Boot::generate());
    let mut foreign = session(presence, &ann);
    foreign.boot = other;
    let mut misnamed = session(presence, &ann);
    misnamed.id = SessionId::generate(other);
    for session in [foreign, misnamed] {
        let id = session.id.clone();
        assert_eq!(soon(presence.register(session)).await, Err(RegisterError::Foreign(id)));
    }
    assert_eq!(sessions_of(presence, &ann).await, []);
}

/// Not by another user either.
pub async fn an_id_is_taken_once(presence: &impl Presence) {
    let first = register(presence, &user()).await;
    let mut second = session(presence, &user());
    second.id = first.id.clone();
    let refused = soon(presence.register(second.clone())).await;
    assert_eq!(refused, Err(RegisterError::Taken(first.id)));
    assert_eq!(sessions_of(presence, &second.user).await, []);
}

/// The limit stands in the error.
pub async fn what_is_too_long_is_refused(presence: &impl Presence) {
    let ann = user();
    let mut session = session(presence, &ann);
    session.address = ByteString::from("x".repeat(MAX_TEXT + 1));
    match soon(presence.register(session)).await {
        Err(RegisterError::TooMuch(what)) => assert_eq!(what.limit, MAX_TEXT),
        other => panic!("{other:?}"),
    }
    assert_eq!(sessions_of(presence, &ann).await, []);
}

/// Whoever stays is on exactly one page, however small the pages.
pub async fn users_are_counted_and_listed_in_pages(presence: &impl Presence) {
    let users: HashSet<_> = (0..7).map(|_| user()).collect();
    let before = soon(presence.count()).await.expect("a count");
    for user in &users {
        register(presence, user).await;
        register(presence, user).await;
    }
    let count = soon(presence.count()).await.expect("a count");
    let here = |count: &crate::Count| {
        let node = count.nodes.iter().find(|(boot, _)| *boot == presence.boot());
        node.expect("this node").1
    };
    assert_eq!(here(&count) - here(&before), 14);
    assert!(count.users >= 7 && count.sessions() >= 14, "{count:?}");
    let mut listed = Vec::new();
    let mut page = PageRequest::first(3);
    loop {
        let answer = soon(presence.users(&page)).await.expect("a page");
        assert!(answer.items.len() <= 3);
        listed.extend(answer.items.into_iter().filter(|online| users.contains(&online.user)));
        match answer.next {
            Some(next) => page = PageRequest::after(next, 3),
            None => break,
        }
    }
    assert!(listed.iter().all(|online| online.sessions == 2));
    assert_eq!(listed.len(), users.len());
    assert_eq!(listed.into_iter().map(|online| online.user).collect::<HashSet<_>>(), users);
}

/// A cursor comes from outside, so any text is one.
pub async fn a_page_may_begin_anywhere(presence: &impl Presence) {
    for text in ["", "(", "[", "\u{10ffff}", "-", "+", "a b\n"] {
        let page = PageRequest::after(Cursor::new(text), usize::MAX);
        soon(presence.users(&page)).await.expect("a page");
    }
}

/// No two of them meet, and each is found, listed and banned as it is called.
pub async fn hostile_names_are_names_like_others(presence: &impl Presence) {
    let word = word();
    let users: Vec<_> = hostile(&word).iter().map(|name| named(name)).collect();
    let mut sessions = Vec::new();
    for user in &users {
        sessions.push(register(presence, user).await);
    }
    for (user, session) in users.iter().zip(&sessions) {
        assert_eq!(sessions_of(presence, user).await, std::slice::from_ref(session));
    }
    let mut listed = HashSet::new();
    let mut page = PageRequest::first(100);
    loop {
        let answer = soon(presence.users(&page)).await.expect("a page");
        listed.extend(answer.items.into_iter().map(|online| online.user));
        match answer.next {
            Some(next) => page = PageRequest::after(next, 100),
            None => break,
        }
    }
    for user in &users {
        assert!(listed.contains(user), "{user:?} is not listed");
    }
    soon(presence.ban_for(&users[0], Duration::from_secs(60))).await.expect("banned");
    assert_eq!(soon(presence.ban_of(&users[1])).await, Ok(None));
    for session in &sessions {
        unregister(presence, session).await;
    }
    for user in &users {
        assert_eq!(sessions_of(presence, user).await, []);
    }
}

/// Sessions that are open stay; new ones are refused, and the error says for how long.
pub async fn a_banned_user_is_refused_until_the_ban_is_over(presence: &impl Presence) {
    let ann = user();
    let open = register(presence, &ann).await;
    let long = Duration::from_secs(600);
    soon(presence.ban_for(&ann, long)).await.expect("banned");
    let refused = session(presence, &ann);
    match soon(presence.register(refused.clone())).await {
        Err(RegisterError::Banned { remaining }) => {
            assert!(remaining <= long && remaining > long / 2, "{remaining:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(soon(presence.session(&refused.id)).await, Ok(None));
    assert_eq!(sessions_of(presence, &ann).await, [open]);
    // In place of what was said before.
    soon(presence.ban_for(&ann, Duration::from_millis(50))).await.expect("banned");
    until(async || presence.ban_of(&ann).await == Ok(None)).await;
    soon(presence.register(refused)).await.expect("the ban is over");
}

/// Lifting says whether there was one.
pub async fn a_ban_can_be_lifted(presence: &impl Presence) {
    let ann = user();
    assert_eq!(soon(presence.lift_ban(&ann)).await, Ok(false));
    soon(presence.ban_for(&ann, Duration::from_secs(600))).await.expect("banned");
    assert!(soon(presence.ban_of(&ann)).await.expect("an answer").is_some());
    assert_eq!(soon(presence.lift_ban(&ann)).await, Ok(true));
    assert_eq!(soon(presence.ban_of(&ann)).await, Ok(None));
    register(presence, &ann).await;
}

fn opened(session: &Session) -> Event {
    let Session { id, user, boot, .. } = session.clone();
    Event::SessionOpened { id, user, boot }
}

fn closed(session: &Session) -> Event {
    let Session { id, user, boot, .. } = session.clone();
    Event::SessionClosed { id, user, boot, ending: Ending::Left }
}

/// Online with the first session, offline some time after the last; each session by itself.
pub async fn sessions_and_users_are_told(presence: &impl Presence) {
    let (ann, mut events) = (user(), presence.events());
    let one = register(presence, &ann).await;
    let other = register(presence, &ann).await;
    unregister(presence, &one).await;
    unregister(presence, &other).await;
    for expected in [
        opened(&one),
        Event::UserOnline(ann.clone()),
        opened(&other),
        closed(&one),
        closed(&other),
        Event::UserOffline(ann.clone()),
    ] {
        assert_eq!(next_about(&mut events, &ann).await, expected);
    }
    // It is over, so it begins anew.
    let again = register(presence, &ann).await;
    assert_eq!(next_about(&mut events, &ann).await, opened(&again));
    assert_eq!(next_about(&mut events, &ann).await, Event::UserOnline(ann.clone()));
}

/// Between two sessions that follow each other closely the user is online.
pub async fn a_short_absence_is_not_told(presence: &impl Presence) {
    let (ann, mut events) = (user(), presence.events());
    let mut expected = vec![];
    for n in 0..3 {
        let session = register(presence, &ann).await;
        unregister(presence, &session).await;
        expected.push(opened(&session));
        if n == 0 {
            expected.push(Event::UserOnline(ann.clone()));
        }
        expected.push(closed(&session));
    }
    expected.push(Event::UserOffline(ann.clone()));
    for expected in expected {
        assert_eq!(next_about(&mut events, &ann).await, expected);
    }
}

/// Whoever gives up waiting ends it as after a success.
pub async fn a_session_may_end_while_it_is_registered(presence: &impl Presence) {
    let ann = user();
    for _ in 0..20 {
        let session = session(presence, &ann);
        let (_, ended) = soon(async {
            tokio::join!(presence.register(session.clone()), presence.unregister(&session.id))
        })
        .await;
        ended.expect("it ends");
        assert_eq!(sessions_of(presence, &ann).await, []);
    }
}

/// And nothing is registered any more.
pub async fn whoever_leaves_takes_all_sessions_along(presence: &impl Presence) {
    let (ann, mut events) = (user(), presence.events());
    let session_of_ann = register(presence, &ann).await;
    soon(presence.leave()).await.expect("it leaves");
    assert_eq!(sessions_of(presence, &ann).await, []);
    let refused = soon(presence.register(session(presence, &ann))).await;
    assert_eq!(refused, Err(RegisterError::Left));
    assert_eq!(next_about(&mut events, &ann).await, opened(&session_of_ann));
    assert_eq!(next_about(&mut events, &ann).await, Event::UserOnline(ann.clone()));
    assert_eq!(next_about(&mut events, &ann).await, closed(&session_of_ann));
}
