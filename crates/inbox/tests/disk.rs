//! Inboxes on disk keep the contract of all stores.

use inbox::{Config, DiskInbox};

/// A store and its directory, which goes with the process.
async fn disk(config: Config) -> DiskInbox {
    let directory = tempfile::tempdir().expect("a directory").keep();
    let store = DiskInbox::open(&directory.join("inboxes.redb"), config).expect("a store");
    // What is open stays.
    std::fs::remove_dir_all(directory).expect("a directory that can be removed");
    store
}

inbox::contract_tests!(crate::disk);
