//! Users of a file, who log in with a passcode.
//!
//! Invariants
//! - A login costs the same whether or not there is a user of that name: for an unknown name the passcode
//!   is checked against the hash of some user, always the same one for a name.
//! - At most `hash_threads` hashes are computed at once, on threads of their own, and at most `hash_queue`
//!   logins wait for that; one more is refused, to try again.
//!
//! The file is TOML, read again when it changes:
//! ```toml
//! [[users]]
//! name = "ann"
//! hash = "$argon2id$v=19$m=19456,t=2,p=1$..."   # or bcrypt: "$2b$12$..."
//! roles = ["admin"]                             # optional
//! claims = { tenant = "acme" }                  # optional
//! ```
//! bcrypt looks at the first 72 bytes of a passcode only.

mod hash;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use self::hash::Hash;
use crate::claims::Claims;
use crate::principal::{ANONYMOUS, Authentication, Principal, wrong_with_name};
use crate::reread::Reread;

/// How often the file is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// The longest passcode in bytes; a longer one is wrong.
const MAX_PASSCODE: usize = 1024;

/// Users who log in with a passcode.
#[derive(Debug)]
pub(crate) struct Users {
    file: Arc<Reread<Table>>,
    /// Held by each hash that is computed.
    threads: Arc<Semaphore>,
    /// Held by each login until it is answered; none left means that too many wait.
    room: Arc<Semaphore>,
    /// Keeps an unknown name's choice of a hash from being foreseen.
    choice: RandomState,
}

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginError {
    /// There is no such user, or the passcode is another.
    Wrong,
    /// Too many log in at once.
    Busy,
}

/// What the file says.
#[derive(Debug)]
struct Table {
    users: Vec<User>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct User {
    hash: Hash,
    claims: Arc<Claims>,
    roles: Arc<[ByteString]>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    users: Vec<WrittenUser>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenUser {
    name: String,
    hash: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    claims: Map<String, Value>,
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(path: &Path, threads: usize, queue: usize) -> Result<Self, String> {
        Self::open_looking(path, threads, queue, LOOK)
    }

    fn open_looking(
        path: &Path,
        threads: usize,
        queue: usize,
        interval: Duration,
    ) -> Result<Self, String> {
        let file = Reread::open(path, interval, Table::parse)
            .map_err(|why| format!("cannot be used: {}: {why}", path.display()))?;
        Ok(Self {
            file: Arc::new(file),
            threads: Arc::new(Semaphore::new(threads)),
            room: Arc::new(Semaphore::new(threads + queue)),
            choice: RandomState::new(),
        })
    }

    /// The user of that name, if the passcode is theirs.
    pub(crate) async fn log_in(&self, name: &str, passcode: &str) -> Result<Principal, LoginError> {
        if passcode.len() > MAX_PASSCODE {
            return Err(LoginError::Wrong);
        }
        let Ok(_room) = Arc::clone(&self.room).try_acquire_owned() else {
            return Err(LoginError::Busy);
        };
        let Ok(thread) = Arc::clone(&self.threads).acquire_owned().await else {
            return Err(LoginError::Busy);
        };
        let table = self.file.get().await;
        let known = table.by_name.get(name).copied();
        let Some(index) = known.or_else(|| self.some_user(&table, name)) else {
            return Err(LoginError::Wrong);
        };
        let passcode = passcode.to_owned();
        let checking = Arc::clone(&table);
        // The permit goes along, for a login that is given up does not end the computation.
        let checked = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            checking.users[index].hash.is_of(&passcode)
        });
        let right = checked.await.unwrap_or(false);
        if !right || known.is_none() {
            return Err(LoginError::Wrong);
        }
        let user = &table.users[index];
        Ok(Principal {
            name: name.into(),
            claims: Arc::clone(&user.claims),
            roles: Arc::clone(&user.roles),
            expires_at: None,
            authentication: Authentication::Passcode,
        })
    }

    /// A user in whose place an unknown name is checked. An empty file has none, and nobody to guess.
    fn some_user(&self, table: &Table, name: &str) -> Option<usize> {
        let count = u64::try_from(table.users.len()).ok().filter(|count| *count > 0)?;
        usize::try_from(self.choice.hash_one(name) % count).ok()
    }
}

impl Table {
    fn parse(text: &str) -> Result<Self, String> {
        // The error would show the line, and the hash with it.
        let written: Written = toml::from_str(text).map_err(|why| {
            let at = why.span().map_or(0, |span| span.start);
            let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
            format!("line {line}: {}", why.message())
        })?;
        let mut table = Self { users: Vec::new(), by_name: HashMap::new() };
        for user in written.users {
            let of_user = |why: &str| format!("user \"{}\" {why}", user.name.escape_debug());
            if let Some(why) = wrong_with_name(&user.name) {
                return Err(of_user(&format!("cannot be: the name {why}")));
            }
            if user.name == *ANONYMOUS {
                return Err(of_user("cannot be: that is the name of those who have none"));
            }
            let hash = Hash::parse(&user.hash).map_err(|why| of_user(&why))?;
            if table.by_name.insert(user.name.clone(), table.users.len()).is_some() {
                return Err(of_user("is there twice"));
            }
            table.users.push(User {
                hash,
                claims: Arc::new(user.claims.into()),
                roles: user.roles.into_iter().map(ByteString::from).collect(),
            });
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests;
