//! The behaviour that every [`Presence`], [`Groups`](crate::Groups) and [`Owners`](crate::Owners) shows, as tests.
//!
//! [`contract_tests!`](crate::contract_tests) makes one test of each rule; a store runs it in its own
//! tests. Every rule is an `async fn` that takes a store and panics where it breaks the rule.
//!
//! Invariants
//! - Rules use names of their own, so that they may share a store that outlives them.
//! - Rules wait for what must happen; that something does not happen they show by something that would
//!   have come later and came first. The only times that pass are lifetimes, bans and the linger, which
//!   the store is to have short ([`LINGER`]).
//!
//! Not here: outages, other nodes, limits of a store of its own.

pub mod groups;
pub mod owners;
pub mod sessions;

use std::sync::Arc;
use std::time::Duration;

use crate::{Event, Events, GroupName, Presence, Session, SessionId, UserName};

/// How long the store under test is to have users linger.
pub const LINGER: Duration = Duration::from_secs(2);

/// How long anything may take before the rule counts as broken: long, for it is only ever waited out by a
/// test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One `#[tokio::test]` for each rule of the contract, in modules `sessions`, `groups` and
/// `owners`.
///
/// Takes the absolute path (`crate::...`) of an `async fn` that makes a store: something that is both
/// [`Presence`], [`Groups`](crate::Groups) and [`Owners`](crate::Owners), with [`LINGER`] for its linger. It
/// needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! contract_tests {
    ($make:path) => {
        $crate::contract_tests! { sessions, $make =>
            a_registered_session_is_found
            a_session_that_ended_is_found_nowhere
            a_user_may_have_many_sessions
            one_question_is_enough_for_many_users
            an_answer_vouches_for_this_node
            many_may_register_at_once
            a_session_of_another_node_is_refused
            an_id_is_taken_once
            what_is_too_long_is_refused
            users_are_counted_and_listed_in_pages
            a_page_may_begin_anywhere
            hostile_names_are_names_like_others
            a_banned_user_is_refused_until_the_ban_is_over
            a_ban_can_be_lifted
            sessions_and_users_are_told
            a_short_absence_is_not_told
            a_session_may_end_while_it_is_registered
            whoever_leaves_takes_all_sessions_along
        }
        $crate::contract_tests! { groups, $make =>
            members_are_added_and_removed_once
            members_are_listed_in_pages
            a_session_is_a_member_by_itself_or_by_its_user
            a_membership_may_end_by_itself
            a_group_may_end_as_a_whole
            adding_again_begins_the_time_anew
            a_deleted_group_is_empty
            membership_of_a_user_outlives_its_sessions
            membership_of_a_session_ends_with_it
            groups_do_not_meet_whatever_they_are_called
            too_many_at_once_are_refused
        }
        $crate::contract_tests! { owners, $make =>
            who_claims_first_is_the_owner
            one_of_many_gets_it
            a_claim_is_over_by_itself
            who_keeps_it_has_it_longer
            keeping_claims_what_nobody_has
            keeping_says_what_another_has
            only_the_owner_releases_it
            any_name_is_a_name
        }
    };
    ($part:ident, $make:path => $($rule:ident)*) => {
        mod $part {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    let store = $make().await;
                    $crate::contract::$part::$rule(&store).await;
                }
            )*
        }
    };
}

/// What `future` gives, in time.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Asks again and again until it is so.
async fn until(mut question: impl AsyncFnMut() -> bool) {
    soon(async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A word that no other rule uses.
fn word() -> String {
    ulid::Ulid::generate().to_string()
}

fn user() -> UserName {
    named(&format!("user-{}", word()))
}

fn named(name: &str) -> UserName {
    UserName::new(name.to_owned()).expect("a name")
}

fn group() -> GroupName {
    GroupName::new(format!("group-{}", word())).expect("a name")
}

/// Names that would be something else in a key, a pattern or a list, each with `word` in it.
fn hostile(word: &str) -> Vec<String> {
    let names = [
        "{}", "{", "}", "}:s", "{u:x}", ":", ":s", "%7B", "*", "?", "[a]", " ", "\n", "\0", "\"",
        "'", "ü", "(", "-", "+", "s:x", "u:x", "\\",
    ];
    let mut names: Vec<_> = names.iter().map(|name| format!("{word}{name}")).collect();
    names.push(format!("{{{word}}}"));
    names.push(format!("}}{{{word}"));
    names
}

fn session(presence: &impl Presence, user: &UserName) -> Session {
    let boot = presence.boot();
    Session::new(SessionId::generate(boot), user.clone(), boot)
}

/// Registers a session of `user`.
async fn register(presence: &impl Presence, user: &UserName) -> Session {
    let session = session(presence, user);
    soon(presence.register(session.clone())).await.expect("it is registered");
    session
}

async fn unregister(presence: &impl Presence, session: &Session) {
    soon(presence.unregister(&session.id)).await.expect("it is unregistered");
}

/// The next event that is about `user`.
async fn next_about(events: &mut Events, user: &UserName) -> Event {
    soon(async {
        loop {
            let event: Arc<Event> = events.next().await.expect("more events").expect("all of them");
            let about = match &*event {
                Event::SessionOpened { user, .. } | Event::SessionClosed { user, .. } => user,
                Event::UserOnline(user) | Event::UserOffline(user) => user,
            };
            if about == user {
                return Event::clone(&event);
            }
        }
    })
    .await
}
