//! The behaviour that every [`Inbox`] shows, as tests.
//!
//! [`contract_tests!`](crate::contract_tests) makes one test of each rule; a store runs it in its own tests. Every
//! rule is an `async fn` that is given what makes a store of some limits, and panics where the store breaks it.
//!
//! Invariants
//! - Each store that is made is empty and shares nothing with others.
//! - Rules wait for what must happen; that something does not happen they show by something that would have come
//!   later and came first. The only times that pass are those that a rule sets.
//!
//! Not here: outages, damage, limits of a store of its own.

pub mod appending;
pub mod limits;
pub mod pages;
pub mod settling;
pub mod taking;
pub mod time;

use std::time::Duration;

use presence::{Boot, UserName};

use crate::{
    Address, Advanced, Appended, Change, Draft, Entry, Inbox, Position, State, Take, Taken,
};

/// How long anything may take before the rule counts as broken: long, for it is only ever waited out by a
/// test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One `#[tokio::test]` for each rule of the contract.
///
/// Takes the absolute path (`crate::...`) of an `async fn` that makes an empty store of a [`Config`](crate::Config).
/// It needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! contract_tests {
    ($make:path) => {
        $crate::contract_tests! { appending, $make =>
            entries_have_rising_numbers_from_one_on
            many_inboxes_are_appended_to_at_once
            many_may_append_at_once
            the_same_message_twice_is_one
            a_key_is_known
            a_key_is_known_however_many_say_it_at_once
            a_collapse_key_replaces_what_nobody_was_given
            names_do_not_meet_whatever_they_are
            users_are_known_by_what_is_stored_for_them_or_by_being_told
            a_forgotten_user_has_nothing
        }
        $crate::contract_tests! { taking, $make =>
            what_is_appended_is_taken_in_order_whole
            whoever_begins_gets_everything_and_goes_on_behind_it
            each_subscriber_gets_each_entry_and_attempts_count_once
            a_place_of_another_epoch_is_the_beginning
            a_page_has_so_many_entries_and_bytes_but_for_its_first
            the_end_gets_what_nobody_holds
            takers_at_the_end_share
        }
        $crate::contract_tests! { settling, $make =>
            what_is_acknowledged_leaves_and_what_is_given_back_comes_again_first
            what_is_refused_comes_again_after_a_pause_that_is_told
            what_was_refused_keeps_its_pause_whatever_others_say
            what_was_tried_too_often_has_failed
            what_has_failed_waits_to_be_buried_where_that_is_wanted
            what_is_not_there_is_left_out
        }
        $crate::contract_tests! { time, $make =>
            what_is_scheduled_takes_its_place_when_it_is_due
            what_is_due_is_told_to_one
            what_has_expired_is_told_once_and_handed_out_to_nobody
            what_is_held_for_too_long_is_free_again
            nothing_is_due_where_nothing_is
            an_outbox_is_told_until_somebody_takes_from_it
        }
        $crate::contract_tests! { limits, $make =>
            a_full_inbox_refuses
            a_full_inbox_lets_the_oldest_go
            bytes_are_counted
            what_does_not_fit_takes_nobodys_place
            so_many_are_remembered
        }
        $crate::contract_tests! { pages, $make =>
            everything_is_on_one_page
            what_stands_how_is_counted
            inboxes_of_a_user_are_listed
            what_is_purged_is_dropped
            known_users_are_listed_in_pages
        }
    };
    ($part:ident, $make:path => $($rule:ident)*) => {
        mod $part {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    $crate::contract::$part::$rule($make).await;
                }
            )*
        }
    };
}

fn user(name: &str) -> UserName {
    UserName::new(name.to_owned()).expect("a name")
}

fn inbox_of(name: &str) -> Address {
    Address::of_user(user(name), "/queue/news".into())
}

fn draft(body: &str) -> Draft {
    Draft::new(Boot::generate(), body.to_owned())
}

/// Appends to one inbox.
async fn append(store: &impl Inbox, of: &Address, draft: &Draft) -> Appended {
    let appended = store.append(std::slice::from_ref(of), draft).await.expect("an answer");
    appended.into_iter().next().expect("one outcome")
}

/// Appends what takes its place at once: where.
async fn place(store: &impl Inbox, of: &Address, draft: &Draft) -> Position {
    match append(store, of, draft).await {
        Appended::Stored { at, .. } => at,
        other => panic!("{other:?}"),
    }
}

async fn fill(store: &impl Inbox, of: &Address, bodies: &[&str]) {
    for body in bodies {
        place(store, of, &draft(body)).await;
    }
}

async fn take_some(
    store: &impl Inbox,
    of: &Address,
    after: Option<Position>,
    limit: usize,
) -> Taken {
    store.take(&Take { of, after, limit, max_bytes: 1 << 30 }).await.expect("an answer")
}

async fn take(store: &impl Inbox, of: &Address, after: Option<Position>) -> Taken {
    take_some(store, of, after, 1_000).await
}

async fn state(store: &impl Inbox, of: &Address, draft: &Draft) -> Option<State> {
    let status = store.status(of, &[draft.id]).await.expect("an answer");
    status[0].map(|status| status.state)
}

fn bodies(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.body).into_owned()).collect()
}

fn states(changes: &[Change]) -> Vec<State> {
    changes.iter().map(|change| change.status.state).collect()
}

/// Moves time's things on until what was told in all is so.
async fn advance_until(store: &impl Inbox, is_so: impl Fn(&Advanced) -> bool) -> Advanced {
    let mut all = Advanced::default();
    until(async || {
        let Advanced { due, changes, failed, .. } = store.advance().await.expect("an answer");
        all.due.extend(due);
        all.changes.extend(changes);
        all.failed.extend(failed);
        is_so(&all)
    })
    .await;
    all
}

/// Asks again and again until it is so.
async fn until(mut question: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it happens in time");
}
