//! A process that stores on disk is killed in the middle of it: what it has answered is there.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use inbox::{Address, Appended, Config, DiskInbox, Draft, Inbox, Settlement, Take};
use presence::{Boot, UserName};
use tokio::task::JoinSet;

/// Where the child's store is, and from which number on it counts.
const CHILD: &str = "FOOTBRIDGE_INBOX_CRASH";

/// How many append at a time, so that commits hold several.
const APPENDING: u64 = 16;

/// How often a child is killed, and after how many answers.
const KILLS: usize = 4;
const ANSWERS: usize = 300;

fn inbox_of(name: &str) -> Address {
    Address::of_user(UserName::new(name).unwrap(), "/queue/news".into())
}

fn config() -> Config {
    Config { max_messages: 1_000_000, ..Config::default() }
}

/// What waits, by its number, in the order of the inbox.
async fn waiting(store: &DiskInbox, of: &Address) -> Vec<u64> {
    let take = Take { of, after: None, limit: 1_000_000, max_bytes: 1 << 40 };
    let taken = store.take(&take).await.unwrap();
    assert!(taken.entries.is_sorted_by(|one, other| one.seq < other.seq));
    let number = |entry: inbox::Entry| str::from_utf8(&entry.body).unwrap().parse().unwrap();
    taken.entries.into_iter().map(number).collect()
}

/// Says a line that is read even if this process is dead by then. What a test prints otherwise is kept for later.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// The child's part: appends, each message to two users, and settles every other, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_that_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (path, first) = told.split_once('|').unwrap();
    let first: u64 = first.parse().unwrap();
    let store = Arc::new(DiskInbox::open(Path::new(path), config()).unwrap());
    let mut appending = JoinSet::new();
    for n in 0..APPENDING {
        let store = Arc::clone(&store);
        appending.spawn(async move {
            for number in (first + n..).step_by(APPENDING as usize) {
                let draft = Draft::new(Boot::generate(), number.to_string());
                let to = [inbox_of("ann"), inbox_of("bob")];
                let appended = store.append(&to, &draft).await.unwrap();
                say(&format!("stored {number}"));
                let Appended::Stored { at, .. } = appended[1] else { panic!("{appended:?}") };
                if number % 2 == 0 {
                    let ack = [(at.seq, Settlement::Ack)];
                    store.settle(&to[1], at.epoch, &ack).await.unwrap();
                    say(&format!("settled {number}"));
                }
            }
        });
    }
    while let Some(ended) = appending.join_next().await {
        ended.unwrap();
    }
}

/// Has a child at work and kills it: what it has said.
fn kill_one(path: &Path, first: u64) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_that_is_killed"])
        .env(CHILD, format!("{}|{first}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while said.len() < ANSWERS {
        said.push(lines.next().expect("a child that is alive").unwrap());
    }
    child.kill().unwrap();
    // What it has said until then was answered, too.
    said.extend(lines.map_while(Result::ok));
    child.wait().unwrap();
    said
}

fn numbers(said: &[String], what: &str) -> BTreeSet<u64> {
    let number = |line: &String| line.strip_prefix(what)?.trim().parse().ok();
    said.iter().filter_map(number).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_the_process_was_killed_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inboxes.redb");
    let (mut stored, mut settled) = (BTreeSet::new(), BTreeSet::new());
    for kill in 0..KILLS {
        let said = kill_one(&path, kill as u64 * 1_000_000);
        stored.extend(numbers(&said, "stored "));
        settled.extend(numbers(&said, "settled "));
        let store = DiskInbox::open(&path, config()).unwrap();
        let ann = waiting(&store, &inbox_of("ann")).await;
        let all: BTreeSet<_> = ann.iter().copied().collect();
        assert_eq!(all.len(), ann.len(), "something is there twice");
        assert!(stored.is_subset(&all), "lost: {:?}", stored.difference(&all));
        // What is for both is for both or for none, and what was settled does not come again.
        let bob: BTreeSet<_> = waiting(&store, &inbox_of("bob")).await.into_iter().collect();
        assert!(bob.is_subset(&all) && bob.is_disjoint(&settled));
        assert!(all.difference(&bob).all(|number| number % 2 == 0));
    }
    assert!(stored.len() > KILLS * ANSWERS / 2 && !settled.is_empty());
}
