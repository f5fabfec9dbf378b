//! What time moves on.

use std::collections::BTreeMap;
use std::time::Duration;

use inbox::{Address, Advanced, Entry};

use super::{Dispatcher, look};

/// How often is looked for what is due: how late a scheduled message may be.
const EVERY: Duration = Duration::from_millis(500);

impl Dispatcher {
    pub(super) async fn sweep(&self) {
        let mut was_away = false;
        loop {
            match self.0.inbox.advance().await {
                Ok(advanced) => {
                    was_away = false;
                    let more = advanced.more;
                    self.advanced(advanced);
                    if more {
                        continue;
                    }
                }
                Err(error) if !was_away => {
                    was_away = true;
                    tracing::warn!(%error, "nothing that is due in inboxes is moved on");
                }
                Err(_) => {}
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn advanced(&self, advanced: Advanced) {
        let Advanced { due, changes, failed, .. } = advanced;
        for (address, changes) in changes {
            self.changed(&address, &changes);
        }
        let mut of: BTreeMap<Address, Vec<Entry>> = BTreeMap::new();
        for (address, entry) in failed {
            of.entry(address).or_default().push(entry);
        }
        for (address, failed) in of {
            self.failed(&address, failed);
        }
        let mut users = Vec::new();
        for address in due {
            match address {
                Address::User { user, path } => users.push((path, look(user))),
                Address::Outbox { destination } => self.publish_due(destination),
            }
        }
        self.ring_due(users);
    }
}
