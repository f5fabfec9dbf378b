//! What an append on disk costs, beside the floor: the same bytes written and synced, without a store.
//!
//! ```sh
//! cargo run --release -p inbox --features disk --example floor
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it is for who measures")]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inbox::{Address, Config, DiskInbox, Draft, Inbox};
use presence::{Boot, UserName};

/// How long each is measured.
const FOR: Duration = Duration::from_secs(3);

/// The body of each message.
const BODY: usize = 256;

fn inbox_of(n: usize) -> Address {
    Address::of_user(UserName::new(format!("user-{n}")).unwrap(), "/queue/news".into())
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let mut file = File::create(directory.path().join("floor")).unwrap();
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < FOR {
        file.write_all(&[7; BODY]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    println!("floor: {:.0} writes with fdatasync a second", f64::from(count) / FOR.as_secs_f64());
    for callers in [1, 64, 1_000] {
        let config = Config { max_messages: 1_000_000, ..Config::default() };
        let path = directory.path().join(format!("{callers}.redb"));
        let store = Arc::new(DiskInbox::open(&path, config).unwrap());
        let begun = Instant::now();
        let tasks = (0..callers).map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut count = 0_u32;
                while begun.elapsed() < FOR {
                    let draft = Draft::new(Boot::generate(), vec![7; BODY]);
                    store.append(&[inbox_of(n)], &draft).await.unwrap();
                    count += 1;
                }
                count
            })
        });
        let mut count = 0;
        for task in tasks.collect::<Vec<_>>() {
            count += task.await.unwrap();
        }
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        println!("{callers} callers: {rate:.0} appends a second");
    }
    let store = DiskInbox::open(&directory.path().join("many.redb"), Config::default()).unwrap();
    let to: Vec<_> = (0..1_000).map(inbox_of).collect();
    let begun = Instant::now();
    store.append(&to, &Draft::new(Boot::generate(), vec![7; BODY])).await.unwrap();
    println!("one message to 1,000 inboxes: {:.1?}", begun.elapsed());
}
