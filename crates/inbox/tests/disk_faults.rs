//! A file that is damaged, in use, somebody else's, or has no room.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use inbox::{Address, Appended, Config, DiskInbox, Draft, Error, Inbox, Take};
use presence::{Boot, UserName};
use rand::RngExt;

/// The file of a store in a directory.
const FILE: &str = "inboxes.redb";

/// How many messages are in the file that is damaged.
const STORED: usize = 120;

fn inbox_of(name: &str) -> Address {
    Address::of_user(UserName::new(name).unwrap(), "/queue/news".into())
}

async fn append(store: &DiskInbox, user: &str, body: &str) -> Result<Appended, Error> {
    let draft = Draft::new(Boot::generate(), body.to_owned());
    Ok(store.append(&[inbox_of(user)], &draft).await?.remove(0))
}

async fn bodies(store: &DiskInbox, user: &str) -> Vec<String> {
    let of = inbox_of(user);
    let take = Take { of: &of, after: None, limit: 10_000, max_bytes: 1 << 30 };
    let taken = store.take(&take).await.unwrap();
    let text = |entry: inbox::Entry| String::from_utf8(entry.body.to_vec()).unwrap();
    taken.entries.into_iter().map(text).collect()
}

/// A file with messages for three users.
async fn filled(path: &Path) {
    let store = DiskInbox::open(path, Config::default()).unwrap();
    for n in 0..STORED {
        append(&store, ["ann", "bob", "cho"][n % 3], &format!("{n} {}", "x".repeat(200)))
            .await
            .unwrap();
    }
}

/// That it is refused, or is whole.
async fn is_refused_or_whole(path: &Path, what: &str) -> bool {
    let length = fs::metadata(path).unwrap().len();
    match DiskInbox::open(path, Config::default()) {
        Ok(store) => {
            let mut count = 0;
            for user in ["ann", "bob", "cho"] {
                count += bodies(&store, user).await.len();
            }
            assert_eq!(count, STORED, "{what}");
            false
        }
        Err(Error::Corrupt(_)) => {
            assert_eq!(fs::metadata(path).unwrap().len(), length, "{what}: the file was changed");
            true
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_refused_or_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (good, bad) = (directory.path().join(FILE), directory.path().join("bad.redb"));
    filled(&good).await;
    let bytes = fs::read(&good).unwrap();
    // Where it is not empty.
    let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut refused = 0;
    for round in 0..60 {
        let at = used[rand::rng().random_range(0..used.len())];
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (round % 8);
        fs::write(&bad, &damaged).unwrap();
        refused += usize::from(is_refused_or_whole(&bad, &format!("a bit at {at}")).await);
    }
    assert!(refused > 10, "{refused} of 60");
    for part in [1, 3, 10, 50, 90, 99] {
        fs::write(&bad, &bytes[..bytes.len() * part / 100]).unwrap();
        let is_refused = is_refused_or_whole(&bad, &format!("cut to {part}%")).await;
        assert!(is_refused || part >= 50, "cut to {part}%");
    }
}

#[test]
fn what_is_no_store_of_ours_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    for content in [&b""[..], b"hello", &[7; 100_000]] {
        fs::write(&path, content).unwrap();
        let opened = DiskInbox::open(&path, Config::default());
        assert!(matches!(opened, Err(Error::Corrupt(_))), "{:?}", opened.err());
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_a_newer_format_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    filled(&path).await;
    // What a newer version would say of its file.
    change(&path, |transaction| {
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        transaction.open_table(meta).unwrap().insert("format", 2).unwrap();
    });
    let why = is_left_as_it_is(&path);
    assert!(why.contains("format 2") && why.contains("knows 1"), "{why}");
}

#[test]
fn a_file_of_another_program_is_refused_and_left_as_it_is_and_one_with_nothing_in_it_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    for (n, name) in ["theirs", "meta"].into_iter().enumerate() {
        let path = directory.path().join(n.to_string());
        change(&path, |transaction| {
            let theirs = redb::TableDefinition::<u64, &str>::new(name);
            transaction.open_table(theirs).unwrap().insert(1, "a word").unwrap();
        });
        let why = is_left_as_it_is(&path);
        assert!(why.contains("another program's"), "{why}");
    }
    // Of a process that was killed when it had just made it.
    let path = directory.path().join(FILE);
    drop(redb::Database::create(&path).unwrap());
    DiskInbox::open(&path, Config::default()).unwrap();
}

/// Changes a file, which is made where there is none, past the store.
fn change(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// Why a file is not opened, which does not change it.
fn is_left_as_it_is(path: &Path) -> String {
    let before = fs::read(path).unwrap();
    let Err(Error::Corrupt(why)) = DiskInbox::open(path, Config::default()) else {
        panic!("it is open");
    };
    assert!(fs::read(path).unwrap() == before, "the file was changed");
    why
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_has_a_file_and_the_other_is_told_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made").join(FILE);
    let store = DiskInbox::open(&path, Config::default()).unwrap();
    let Err(Error::Unavailable(why)) = DiskInbox::open(&path, Config::default()) else {
        panic!("two have it");
    };
    assert!(why.contains("another process") && why.contains("a directory of its own"), "{why}");
    append(&store, "ann", "still there").await.unwrap();
    drop(store);
    let again = DiskInbox::open(&path, Config::default()).unwrap();
    assert_eq!(bodies(&again, "ann").await, ["still there"]);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let opened = DiskInbox::open(&file.join("below").join(FILE), Config::default());
    let Err(Error::Unavailable(why)) = opened else { panic!("it is open") };
    assert!(why.contains("file"), "{why}");
    let locked = directory.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write anywhere.
    if fs::write(locked.join("probe"), "").is_err() {
        let opened = DiskInbox::open(&locked.join(FILE), Config::default());
        assert!(matches!(opened, Err(Error::Unavailable(_))), "{:?}", opened.err());
    }
}

/// What the child is to do.
const CHILD: &str = "FOOTBRIDGE_INBOX_CHILD";

/// The child's part: fills a store until it has no room, and says what it was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_that_has_no_room() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = DiskInbox::open(Path::new(&path), Config::default()).unwrap();
    let mut stored = 0;
    let refused = loop {
        match append(&store, "ann", &format!("{stored} {}", "x".repeat(20_000))).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NoSpace(_)), "{refused}");
    assert_eq!(store.count(&inbox_of("ann")).await.unwrap().pending, stored as u64);
    fs::write(Path::new(&path).with_extension("stored"), stored.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_what_was_taken_is_there_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    // A limit on the length of files stands for a full disk. In blocks of 1 KiB.
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact the_child_that_has_no_room";
    let child = Command::new("bash")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let stored = fs::read_to_string(path.with_extension("stored")).unwrap();
    let stored: usize = stored.parse().unwrap();
    assert!(stored > 10, "{stored}");
    let store = DiskInbox::open(&path, Config::default()).unwrap();
    let found = bodies(&store, "ann").await;
    assert_eq!(found.len(), stored);
    assert!(found.iter().enumerate().all(|(n, body)| body.starts_with(&format!("{n} "))));
    append(&store, "ann", "more").await.unwrap();
}
