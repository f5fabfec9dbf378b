//! Logins by passcode.

use std::io::Write;
use std::path::PathBuf;

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Argon2, Params};
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A cheap hash: what it costs is not tested here.
fn argon2(passcode: &str) -> String {
    let salt = SaltString::encode_b64(b"salt of a test").unwrap();
    let argon2 = Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        Params::new(64, 1, 1, None).unwrap(),
    );
    argon2.hash_password(passcode.as_bytes(), &salt).unwrap().to_string()
}

fn bcrypt(passcode: &str) -> String {
    ::bcrypt::hash(passcode, 4).unwrap()
}

fn entry(name: &str, hash: &str, rest: &str) -> String {
    format!("[[users]]\nname = '{name}'\nhash = '{hash}'\n{rest}\n")
}

struct File {
    _directory: TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.toml");
    std::fs::write(&path, text).unwrap();
    File { _directory: directory, path }
}

fn open(file: &File, threads: usize, queue: usize) -> Users {
    Users::open_looking(&file.path, threads, queue, Duration::ZERO).unwrap()
}

#[tokio::test]
async fn a_user_logs_in_by_either_hash() {
    let text =
        entry("ann", &argon2("apple"), "roles = ['admin']\nclaims = { tenant = 'acme', n = 3 }")
            + &entry("bob", &bcrypt("banana"), "");
    let file = file(&text);
    let users = open(&file, 2, 10);
    let ann = users.log_in("ann", "apple").await.unwrap();
    assert_eq!((&*ann.name, ann.authentication), ("ann", Authentication::Passcode));
    assert_eq!((&*ann.roles, ann.expires_at), (&["admin".into()][..], None));
    assert_eq!(ann.claims.get("n"), Some(&json!(3)));
    assert_eq!(users.log_in("bob", "banana").await.unwrap().name, "bob");
    for (name, passcode) in [
        ("ann", "banana"),
        ("ann", ""),
        ("ann", "apple "),
        ("Ann", "apple"),
        ("", "apple"),
        ("carol", "apple"),
        ("bob", &"banana".repeat(200)),
    ] {
        assert_eq!(users.log_in(name, passcode).await.unwrap_err(), LoginError::Wrong, "{name}");
    }
}

/// An unknown name is checked against a hash of somebody, which must let nobody in.
#[tokio::test]
async fn the_passcode_of_another_lets_an_unknown_name_in_nowhere() {
    let file = file(&entry("ann", &argon2("apple"), ""));
    let users = open(&file, 2, 10);
    let table = users.file.get().await;
    for name in ["bob", "carol", "", "ann "] {
        assert_eq!(users.some_user(&table, name), Some(0));
        assert_eq!(users.log_in(name, "apple").await.unwrap_err(), LoginError::Wrong);
    }
}

#[tokio::test]
async fn an_unknown_name_costs_as_much_as_a_known_one() {
    // Dear enough to be told from nothing, on any machine.
    let salt = SaltString::encode_b64(b"salt of a test").unwrap();
    let dear = Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        Params::new(8 * 1024, 3, 1, None).unwrap(),
    );
    let hash = dear.hash_password(b"apple", &salt).unwrap().to_string();
    let file = file(&entry("ann", &hash, ""));
    let users = open(&file, 1, 0);
    let mut times = [Duration::MAX; 2];
    // The least of several says what it costs, the others what else went on.
    for _ in 0..5 {
        for (time, name) in times.iter_mut().zip(["ann", "nobody"]) {
            let begun = std::time::Instant::now();
            users.log_in(name, "wrong").await.unwrap_err();
            *time = begun.elapsed().min(*time);
        }
    }
    assert!(times[1] > times[0] / 4 && times[1] < times[0] * 4, "{times:?}");
}

#[tokio::test]
async fn nobody_is_in_an_empty_file() {
    let file = file("");
    assert_eq!(open(&file, 1, 0).log_in("ann", "apple").await.unwrap_err(), LoginError::Wrong);
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_a_broken_one_is_not_taken() {
    let file = file(&entry("ann", &argon2("apple"), ""));
    let users = open(&file, 2, 10);
    users.log_in("ann", "apple").await.unwrap();

    std::fs::write(&file.path, entry("ann", &argon2("apricot"), "roles = ['new']")).unwrap();
    users.log_in("ann", "apple").await.unwrap_err();
    assert_eq!(*users.log_in("ann", "apricot").await.unwrap().roles, ["new"]);

    // In its place, as configuration is rolled out.
    let new = file.path.with_extension("new");
    std::fs::write(&new, entry("bob", &argon2("banana"), "")).unwrap();
    std::fs::rename(&new, &file.path).unwrap();
    users.log_in("ann", "apricot").await.unwrap_err();
    users.log_in("bob", "banana").await.unwrap();

    for broken in ["[[users]]\nname = 'x'", "users = 7", "\u{fffd}[", &entry("eve", "plain", "")] {
        std::fs::write(&file.path, broken).unwrap();
        users.log_in("bob", "banana").await.unwrap();
        users.log_in("eve", "plain").await.unwrap_err();
    }
    std::fs::remove_file(&file.path).unwrap();
    users.log_in("bob", "banana").await.unwrap();
    std::fs::write(&file.path, "").unwrap();
    users.log_in("bob", "banana").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_logins_than_there_is_room_for_are_refused_and_hold_nobody_up() {
    let file = file(&entry("ann", &argon2("apple"), ""));
    let users = Arc::new(open(&file, 1, 2));
    // Hashes that are computed and do not end.
    let busy = Arc::clone(&users.threads).acquire_owned().await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let users = Arc::clone(&users);
            tokio::spawn(async move { users.log_in("ann", "apple").await })
        })
        .collect();
    while users.room.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(users.log_in("ann", "apple").await.unwrap_err(), LoginError::Busy);
    drop(busy);
    for waits in waiting {
        waits.await.unwrap().unwrap();
    }
    users.log_in("ann", "apple").await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_given_up_gives_its_room_back() {
    let file = file(&entry("ann", &argon2("apple"), ""));
    let users = open(&file, 1, 0);
    let busy = Arc::clone(&users.threads).acquire_owned().await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(10), users.log_in("ann", "apple"));
    assert!(given_up.await.is_err());
    drop(busy);
    users.log_in("ann", "apple").await.unwrap();
}

#[test]
fn a_file_that_cannot_be_meant_is_told_without_its_hashes() {
    let good = argon2("apple");
    for (text, why) in [
        (entry("ann", "secret", ""), "user \"ann\" has a hash that is neither Argon2"),
        (entry("ann", "$argon2id$secret", ""), "user \"ann\" has no"),
        (entry("ann", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ", ""), "no whole Argon2 hash"),
        (
            entry("ann", &good.replace("m=64", "m=4000000"), ""),
            "user \"ann\" has a hash that costs too much",
        ),
        (entry("ann", &good.replace("t=1", "t=1000"), ""), "costs too much"),
        (entry("ann", "$2b$12$secret", ""), "user \"ann\" has no bcrypt hash"),
        (entry("ann", &bcrypt("x").replace("$04$", "$31$"), ""), "costs too much"),
        (entry("", &good, ""), "the name is empty"),
        (entry("anonymous", &good, ""), "those who have none"),
        (entry("ann", &good, "") + &entry("ann", &good, ""), "user \"ann\" is there twice"),
        (entry("ann", &good, "role = 'x'"), "line 4: unknown field `role`"),
        ("[[users]]\nname = 'ann'\nhash = 'secret\n".to_owned(), "line 3: "),
        ("[[user]]".to_owned(), "unknown field `user`"),
    ] {
        let said = Table::parse(&text).unwrap_err();
        assert!(said.contains(why), "{text}\n{said}");
        assert!(!said.contains("secret") && !said.contains("$argon2id$v"), "{said}");
    }
    let said = Users::open(Path::new("/none/users.toml"), 1, 1).unwrap_err();
    assert_eq!(said, "cannot be used: /none/users.toml: No such file or directory (os error 2)");
}

#[test]
fn a_file_is_not_shown_with_its_hashes() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(entry("ann", &argon2("apple"), "").as_bytes()).unwrap();
    let shown = format!("{:?}", Users::open(file.path(), 1, 1).unwrap());
    assert!(shown.contains("Argon2(***)") && !shown.contains("$argon2"), "{shown}");
}
