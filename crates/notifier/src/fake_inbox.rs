//! A store of inboxes in memory, whose appends fail as a test says.

use std::collections::VecDeque;
use std::sync::Mutex;

use ::inbox::{
    Address, Advanced, Appended, Config, Count, DiskInbox, Draft, Error, Inbox, Listed, Purge,
    Settled, Settlement, Status, Take, Taken,
};
use async_trait::async_trait;
use bytestring::ByteString;
use presence::{Page, PageRequest, UserName};
use ulid::Ulid;

/// See the module.
pub(crate) struct FakeInbox {
    store: DiskInbox,
    script: Mutex<VecDeque<OnAppend>>,
}

/// What becomes of an append.
#[derive(Debug, Clone)]
pub(crate) enum OnAppend {
    /// It is done.
    Do,
    /// It fails at once.
    Fail(Error),
    /// It is done, and fails all the same.
    DoAndFail(Error),
    /// It never returns.
    Hang,
}

impl FakeInbox {
    pub(crate) fn new(config: Config) -> Self {
        let store = DiskInbox::memory(config).unwrap();
        Self { store, script: Mutex::default() }
    }

    /// What becomes of the next appends; all behind them are done.
    pub(crate) fn on_append(&self, script: impl IntoIterator<Item = OnAppend>) {
        *self.script.lock().unwrap() = script.into_iter().collect();
    }
}

#[async_trait]
impl Inbox for FakeInbox {
    async fn append(&self, to: &[Address], draft: &Draft) -> Result<Vec<Appended>, Error> {
        let on_append = self.script.lock().unwrap().pop_front();
        match on_append.unwrap_or(OnAppend::Do) {
            OnAppend::Do => self.store.append(to, draft).await,
            OnAppend::Fail(error) => Err(error),
            OnAppend::DoAndFail(error) => {
                self.store.append(to, draft).await?;
                Err(error)
            }
            OnAppend::Hang => std::future::pending().await,
        }
    }

    async fn take(&self, take: &Take<'_>) -> Result<Taken, Error> {
        self.store.take(take).await
    }

    async fn settle(
        &self,
        of: &Address,
        epoch: u64,
        settlements: &[(u64, Settlement)],
    ) -> Result<Settled, Error> {
        self.store.settle(of, epoch, settlements).await
    }

    async fn bury(&self, of: &Address, ids: &[Ulid]) -> Result<(), Error> {
        self.store.bury(of, ids).await
    }

    async fn advance(&self) -> Result<Advanced, Error> {
        self.store.advance().await
    }

    async fn status(&self, of: &Address, ids: &[Ulid]) -> Result<Vec<Option<Status>>, Error> {
        self.store.status(of, ids).await
    }

    async fn list(&self, of: &Address, page: &PageRequest) -> Result<Page<Listed>, Error> {
        self.store.list(of, page).await
    }

    async fn epoch(&self, of: &Address) -> Result<u64, Error> {
        self.store.epoch(of).await
    }

    async fn count(&self, of: &Address) -> Result<Count, Error> {
        self.store.count(of).await
    }

    async fn paths(&self, user: &UserName) -> Result<Vec<ByteString>, Error> {
        self.store.paths(user).await
    }

    async fn purge(&self, of: &Address, which: &Purge) -> Result<Settled, Error> {
        self.store.purge(of, which).await
    }

    async fn know(&self, users: &[UserName]) -> Result<(), Error> {
        self.store.know(users).await
    }

    async fn known(&self, page: &PageRequest) -> Result<Page<UserName>, Error> {
        self.store.known(page).await
    }

    async fn forget(&self, user: &UserName) -> Result<(), Error> {
        self.store.forget(user).await
    }
}
