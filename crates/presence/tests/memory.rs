//! Memory keeps the contract of all stores.

use presence::contract::LINGER;
use presence::{Boot, Config, MemoryPresence};

async fn memory() -> MemoryPresence {
    MemoryPresence::new(&Config { linger: LINGER, ..Config::default() }, Boot::generate())
}

presence::contract_tests!(crate::memory);
