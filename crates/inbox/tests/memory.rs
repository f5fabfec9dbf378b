//! Inboxes in memory keep the contract of all stores.

use inbox::{Config, DiskInbox};

async fn memory(config: Config) -> DiskInbox {
    DiskInbox::memory(config).expect("a store")
}

inbox::contract_tests!(crate::memory);
