//! Inboxes of one process, in a file of its own, or in memory.
//!
//! Invariants
//! - What is answered is on disk: an answer follows the commit, and the commit the `fsync`.
//! - One thread writes. Calls that wait at the same time share a commit ([`writer`]).
//! - A call has done all of what it answers or, if the commit failed, nothing.
//! - A file that is damaged, of another program, or of a newer format is not opened, and never made anew.
//! - Nothing is scanned but the inbox that a call is about, and what is due.
//!
//! `tables` says what is where in the file, `record` what is in a row, `line` appends, takes and settles, `look`
//! moves on what time moves on, `pages` reads.

mod line;
mod look;
mod pages;
mod probe;
mod record;
mod tables;
mod writer;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytestring::ByteString;
use presence::{Page, PageRequest, UserName};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};
use ulid::Ulid;

use self::line::Line;
use self::probe::Found;
use self::tables::{FORMAT, META, Tables, address_key};
use self::writer::Writer;
use crate::{
    Address, Advanced, Appended, Config, Count, Draft, Error, Inbox, Listed, Purge, Settled,
    Settlement, Status, Take, Taken,
};

/// How much of the file is kept in memory.
const CACHE: usize = 64 * 1024 * 1024;

/// See the module.
pub struct DiskInbox {
    config: Arc<Config>,
    database: Arc<Database>,
    writer: Writer,
}

impl DiskInbox {
    /// The inboxes in the file at `path`, which is made where there is none, with the directories above it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a file that is damaged or none of ours, [`Error::Unavailable`] for one that cannot
    /// be had, such as because another process has it.
    pub fn open(path: &Path, config: Config) -> Result<Self, Error> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|why| {
                Error::Unavailable(format!("cannot make {}: {why}", directory.display()))
            })?;
        }
        let lock = lock(path)?;
        // The library takes an empty file for a new one.
        let length = std::fs::metadata(path).ok().map(|file| file.len());
        if length == Some(0) {
            return Err(Error::Corrupt(format!("{} is empty", path.display())));
        }
        let opened = std::panic::catch_unwind(|| {
            if length.is_some() {
                is_ours(path)?;
            }
            let opened = Builder::new().set_cache_size(CACHE).create(path);
            opened.map_err(|error| unopened(path, error))
        });
        let database = match opened {
            Ok(opened) => opened?,
            // The library meets damage in places where it expects none.
            Err(_) => return Err(Error::Corrupt(format!("{} cannot be read", path.display()))),
        };
        Self::over(database, config, Some(lock))
    }

    /// Inboxes in memory, gone with the process.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn memory(config: Config) -> Result<Self, Error> {
        let backend = redb::backends::InMemoryBackend::new();
        let database = Builder::new().set_cache_size(CACHE).create_with_backend(backend);
        Self::over(database.map_err(|error| Error::Unavailable(error.to_string()))?, config, None)
    }

    fn over(database: Database, config: Config, lock: Option<File>) -> Result<Self, Error> {
        let database = Arc::new(database);
        begin(&database).map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self {
            config: Arc::new(config),
            writer: Writer::start(Arc::clone(&database), lock),
            database,
        })
    }

    /// Changes the inbox `of`.
    async fn change<T: Send + 'static>(
        &self,
        of: &Address,
        change: impl FnOnce(&mut Line<'_, '_>) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Error> {
        let (config, of) = (Arc::clone(&self.config), of.clone());
        let change = move |tables: &mut Tables<'_>| {
            let mut line = Line::open(tables, &config, of, now())?;
            let changed = change(&mut line)?;
            line.close()?;
            Ok(changed)
        };
        self.writer.write(change).await
    }

    /// Reads, without waiting for who writes.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let database = Arc::clone(&self.database);
        let read = move || read(&database.begin_read()?);
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read.map_err(|error| Error::Unavailable(error.to_string())),
            Err(ended) => Err(Error::Corrupt(ended.to_string())),
        }
    }
}

/// Sees to it that nobody else opens the file at `path`, for as long as what is returned is there.
fn lock(path: &Path) -> Result<File, Error> {
    let beside = path.with_extension("lock");
    let unavailable = |why| Error::Unavailable(format!("{}: {why}", beside.display()));
    let lock = File::create(&beside).map_err(unavailable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        Err(TryLockError::Error(why)) => Err(unavailable(why)),
    }
}

fn in_use(path: &Path) -> Error {
    let path = path.display();
    Error::Unavailable(format!(
        "another process has {path} open: give this one a directory of its own"
    ))
}

/// Whether the file at `path` is whole and this version's, or nothing yet.
fn is_ours(path: &Path) -> Result<(), Error> {
    let why = match probe::probe(path).map_err(|error| unopened(path, error))? {
        Found::Nothing | Found::Format(FORMAT) => return Ok(()),
        Found::Format(other) => format!("has format {other}, and this version knows {FORMAT}"),
        Found::Foreign => "is another program's".to_owned(),
    };
    Err(Error::Corrupt(format!("{} {why}", path.display())))
}

/// Sees to it that all tables are there.
fn begin(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("format", FORMAT)?;
    Tables::open(&transaction)?;
    Ok(transaction.commit()?)
}

fn unopened(path: &Path, error: DatabaseError) -> Error {
    if let DatabaseError::DatabaseAlreadyOpen = error {
        return in_use(path);
    }
    let path = path.display();
    match error {
        DatabaseError::Storage(StorageError::Io(why))
            if why.kind() != std::io::ErrorKind::InvalidData =>
        {
            Error::Unavailable(format!("{path}: {why}"))
        }
        error => Error::Corrupt(format!("{path}: {error}")),
    }
}

/// Now, in milliseconds since 1970.
fn now() -> u64 {
    millis(SystemTime::now())
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

fn span(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Inbox for DiskInbox {
    async fn append(&self, to: &[Address], draft: &Draft) -> Result<Vec<Appended>, Error> {
        let (config, to, draft) = (Arc::clone(&self.config), to.to_vec(), draft.clone());
        let append = move |tables: &mut Tables<'_>| {
            let now = now();
            let mut appended = Vec::with_capacity(to.len());
            for address in to {
                if let Some(user) = address.user() {
                    tables.users.insert(user.as_str(), ())?;
                }
                let mut line = Line::open(tables, &config, address, now)?;
                appended.push(line.append(&draft)?);
                line.close()?;
            }
            Ok(appended)
        };
        self.writer.write(append).await
    }

    async fn take(&self, take: &Take<'_>) -> Result<Taken, Error> {
        let Take { of, after, limit, max_bytes } = *take;
        // Whoever looks and finds nothing costs no commit.
        let key = address_key(of);
        let nothing =
            self.read(move |transaction| pages::nothing(transaction, &key, after)).await?;
        if let Some(nothing) = nothing {
            return Ok(nothing);
        }
        self.change(of, move |line| line.take(after, limit, max_bytes)).await
    }

    async fn settle(
        &self,
        of: &Address,
        epoch: u64,
        settlements: &[(u64, Settlement)],
    ) -> Result<Settled, Error> {
        let settlements = settlements.to_vec();
        self.change(of, move |line| line.settle(epoch, &settlements)).await
    }

    async fn bury(&self, of: &Address, ids: &[Ulid]) -> Result<(), Error> {
        let ids = ids.to_vec();
        self.change(of, move |line| line.bury(&ids)).await
    }

    async fn advance(&self) -> Result<Advanced, Error> {
        // Nothing is written where nothing is due.
        let until = now();
        if !self.read(move |transaction| look::is_due(transaction, until)).await? {
            return Ok(Advanced::default());
        }
        let config = Arc::clone(&self.config);
        self.writer.write(move |tables| look::advance(tables, &config, now())).await
    }

    async fn status(&self, of: &Address, ids: &[Ulid]) -> Result<Vec<Option<Status>>, Error> {
        let (of, ids) = (address_key(of), ids.to_vec());
        self.read(move |transaction| pages::status(transaction, &of, &ids)).await
    }

    async fn list(&self, of: &Address, page: &PageRequest) -> Result<Page<Listed>, Error> {
        let (of, page) = (address_key(of), page.clone());
        self.read(move |transaction| pages::list(transaction, &of, &page)).await
    }

    async fn epoch(&self, of: &Address) -> Result<u64, Error> {
        let of = address_key(of);
        self.read(move |transaction| pages::epoch(transaction, &of)).await
    }

    async fn count(&self, of: &Address) -> Result<Count, Error> {
        let of = address_key(of);
        self.read(move |transaction| pages::count(transaction, &of)).await
    }

    async fn paths(&self, user: &UserName) -> Result<Vec<ByteString>, Error> {
        let user = user.clone();
        self.read(move |transaction| pages::paths(transaction, &user)).await
    }

    async fn purge(&self, of: &Address, which: &Purge) -> Result<Settled, Error> {
        let which = which.clone();
        self.change(of, move |line| line.purge(&which)).await
    }

    async fn know(&self, users: &[UserName]) -> Result<(), Error> {
        let users = users.to_vec();
        let know = move |tables: &mut Tables<'_>| {
            for user in users {
                tables.users.insert(user.as_str(), ())?;
            }
            Ok(())
        };
        self.writer.write(know).await
    }

    async fn known(&self, page: &PageRequest) -> Result<Page<UserName>, Error> {
        let page = page.clone();
        self.read(move |transaction| pages::known(transaction, &page)).await
    }

    async fn forget(&self, user: &UserName) -> Result<(), Error> {
        let (config, user) = (Arc::clone(&self.config), user.clone());
        let forget = move |tables: &mut Tables<'_>| {
            for path in tables.paths_of(&user)? {
                let of = Address::of_user(user.clone(), path);
                Line::open(tables, &config, of, now())?.forget()?;
            }
            tables.users.remove(user.as_str())?;
            Ok(())
        };
        self.writer.write(forget).await
    }
}
