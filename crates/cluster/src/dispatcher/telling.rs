//! Tells senders what became of their messages.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::Link;
use inbox::{Address, Change};
use presence::Boot;
use tokio::sync::mpsc;
use tokio::time::timeout;
use ulid::Ulid;

use super::{Dispatcher, TELLING};
use crate::inlet::Inlet;
use crate::letter::{Letter, Told};

/// How long news is gathered, so that a letter holds many.
const GATHERED: Duration = Duration::from_millis(50);

/// How long a letter of news may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long until letters are asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Who appends as this process does not want to be told.
pub const NOBODY: Boot = Boot::new(Ulid::nil());

impl Dispatcher {
    /// Hears what other processes tell this one, for a process that takes no other letters.
    pub async fn listen(&self) {
        loop {
            match Inlet::open(&self.0.broker, self.0.boot).await {
                Ok(mut inlet) => {
                    while let Some(received) = inlet.next().await {
                        if let Letter::Told(told) = received.letter {
                            self.hear(told);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "this process does not hear what becomes of messages")
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Has senders told of changes.
    pub(super) fn changed(&self, of: &Address, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.from != NOBODY) {
            let told = Told { address: of.clone(), id: change.id, status: change.status };
            // Full: whoever watches reads the store besides.
            let _ = self.0.to_tell.try_send((change.from, told));
        }
    }

    pub(super) async fn tell(&self, mut telling: mpsc::Receiver<(Boot, Told)>) {
        let mut gathered = Vec::new();
        while telling.recv_many(&mut gathered, TELLING).await > 0 {
            let mut news: BTreeMap<Boot, Vec<Told>> = BTreeMap::new();
            for (boot, told) in gathered.drain(..) {
                news.entry(boot).or_default().push(told);
            }
            for (boot, told) in news {
                if boot == self.0.boot {
                    self.hear(told);
                    continue;
                }
                // While the broker is away news grows old.
                if !matches!(self.0.broker.state().borrow().link, Link::Up) {
                    continue;
                }
                let letter = Letter::Told(told);
                let sent = self.0.router.tell(self.0.publisher, boot, &letter);
                if let Ok(Err(error)) = timeout(PATIENCE, sent).await {
                    tracing::debug!(%error, "a sender is not told what became of its messages");
                }
            }
            tokio::time::sleep(GATHERED).await;
        }
    }
}
