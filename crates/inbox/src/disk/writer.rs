//! The thread that writes.
//!
//! Invariants
//! - Changes are made one after the other, in the order in which they were asked for.
//! - Those that wait when a commit begins are in it together; each is answered after it.
//! - At most [`WAITING`] wait; whoever comes then waits for a place.
//! - A commit that fails changed nothing, and the next may succeed: as after a disk was full.

use std::fs::File;
use std::io::ErrorKind;
use std::sync::Arc;
use std::thread::JoinHandle;

use redb::{CommitError, Database, StorageError, TableError, TransactionError};
use tokio::sync::{mpsc, oneshot};

use super::tables::Tables;
use crate::Error;

/// How many changes may wait.
const WAITING: usize = 4096;

/// How many changes are in one commit at most.
const AT_ONCE: usize = 1024;

/// See the module. Dropping it waits until what waited is done and the thread has ended.
pub(super) struct Writer {
    /// None once it is being dropped.
    changes: Option<mpsc::Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

/// Makes a change; what it returns says how it ended.
type Change = Box<dyn FnOnce(&mut Tables<'_>) -> Result<Answer, StorageError> + Send>;

/// Answers who asked, once the commit has ended.
type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl Writer {
    pub(super) fn start(database: Arc<Database>, lock: Option<File>) -> Self {
        let (changes, waiting) = mpsc::channel(WAITING);
        let thread = std::thread::spawn(move || {
            run(&database, waiting);
            // The file is closed before others may have it.
            drop(database);
            drop(lock);
        });
        Self { changes: Some(changes), thread: Some(thread) }
    }

    /// Makes a change, and returns once it is on disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let change: Change = Box::new(move |tables| {
            let changed = change(tables)?;
            let answer: Answer = Box::new(move |committed| {
                // An error means that nobody waits for it any more.
                let _ = answer.send(committed.map(|()| changed));
            });
            Ok(answer)
        });
        let ended = || Error::Unavailable("the store has ended".to_owned());
        let changes = self.changes.as_ref().ok_or_else(ended)?;
        changes.send(change).await.map_err(|_| ended())?;
        // A change that failed took its answer along.
        answered.await.unwrap_or_else(|_| {
            let why = "the file cannot be written, for lack of room or another error of the disk";
            Err(Error::NoSpace(why.to_owned()))
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            // One that broke down has said so.
            let _ = thread.join();
        }
    }
}

fn run(database: &Database, mut waiting: mpsc::Receiver<Change>) {
    let mut changes = Vec::new();
    while waiting.blocking_recv_many(&mut changes, AT_ONCE) > 0 {
        let mut answers = Vec::with_capacity(changes.len());
        let committed = commit(database, changes.drain(..), &mut answers);
        if let Err(error) = &committed {
            tracing::error!(%error, "what waits for users could not be written");
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

/// Makes changes and commits them. After an error none of them is made.
fn commit(
    database: &Database,
    changes: impl Iterator<Item = Change>,
    answers: &mut Vec<Answer>,
) -> Result<(), Error> {
    let mut transaction = database.begin_write().map_err(not_begun)?;
    // So that a commit whose pages are damaged later is known to be one: with a single phase it is taken for one
    // that a crash cut short, and the one before it is gone back to.
    transaction.set_two_phase_commit(true);
    {
        let mut tables = Tables::open(&transaction).map_err(|error| match error {
            TableError::Storage(error) => storage(error),
            error => Error::Corrupt(error.to_string()),
        })?;
        for change in changes {
            answers.push(change(&mut tables).map_err(storage)?);
        }
    }
    transaction.commit().map_err(|error| match error {
        CommitError::Storage(error) => storage(error),
        error => Error::Unavailable(error.to_string()),
    })
}

fn not_begun(error: TransactionError) -> Error {
    match error {
        TransactionError::Storage(error) => storage(error),
        error => Error::Unavailable(error.to_string()),
    }
}

fn storage(error: StorageError) -> Error {
    let text = error.to_string();
    match error {
        StorageError::Io(why) => match why.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Error::NoSpace(text)
            }
            _ => Error::Unavailable(text),
        },
        StorageError::Corrupted(_) => Error::Corrupt(text),
        _ => Error::Unavailable(text),
    }
}
