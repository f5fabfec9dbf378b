//! What is where in the file.
//!
//! | table | key | holds |
//! |---|---|---|
//! | `meta` | `format` | the format of the file |
//! | `heads` | inbox | its epoch, last number, counts |
//! | `records` | inbox, number | what the entry is |
//! | `marks` | inbox, number | how it stands; changes where the record does not |
//! | `scheduled` | inbox, due, id | what the entry is |
//! | `wheres` | inbox, id | where the entry is, or how it ended |
//! | `gone` | inbox, count | ids of those that have ended, in that order |
//! | `keys` | inbox, idempotency key | the id, and until when it is known |
//! | `key_ends` | until, inbox, key | the same, by time |
//! | `collapses` | inbox, collapse key | the id of the last |
//! | `looks` | when, inbox | inboxes that time moves on |
//! | `users` | name | users who are known |
//!
//! An inbox is named by a byte (0 a user's, 1 an outbox), for a user the length of its name in two bytes and the
//! name, and the path.

use bytestring::ByteString;
use presence::UserName;
use prost::Message as _;
use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use super::record::{Head, Mark, Record, Where, read};
use crate::Address;

/// The format that this version reads and writes.
pub(super) const FORMAT: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const HEADS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("heads");
pub(super) const RECORDS: TableDefinition<'_, (&[u8], u64), &[u8]> =
    TableDefinition::new("records");
pub(super) const MARKS: TableDefinition<'_, (&[u8], u64), &[u8]> = TableDefinition::new("marks");
pub(super) const SCHEDULED: TableDefinition<'_, (&[u8], u64, u128), &[u8]> =
    TableDefinition::new("scheduled");
pub(super) const WHERES: TableDefinition<'_, (&[u8], u128), &[u8]> = TableDefinition::new("wheres");
const GONE: TableDefinition<'_, (&[u8], u64), u128> = TableDefinition::new("gone");
const KEYS: TableDefinition<'_, (&[u8], &str), (u128, u64)> = TableDefinition::new("keys");
const KEY_ENDS: TableDefinition<'_, (u64, &[u8], &str), ()> = TableDefinition::new("key_ends");
const COLLAPSES: TableDefinition<'_, (&[u8], &str), u128> = TableDefinition::new("collapses");
pub(super) const LOOKS: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("looks");
pub(super) const USERS: TableDefinition<'_, &str, ()> = TableDefinition::new("users");

/// All tables, open to be changed.
pub(super) struct Tables<'t> {
    pub(super) heads: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) records: Table<'t, (&'static [u8], u64), &'static [u8]>,
    pub(super) marks: Table<'t, (&'static [u8], u64), &'static [u8]>,
    pub(super) scheduled: Table<'t, (&'static [u8], u64, u128), &'static [u8]>,
    pub(super) wheres: Table<'t, (&'static [u8], u128), &'static [u8]>,
    pub(super) gone: Table<'t, (&'static [u8], u64), u128>,
    pub(super) keys: Table<'t, (&'static [u8], &'static str), (u128, u64)>,
    pub(super) key_ends: Table<'t, (u64, &'static [u8], &'static str), ()>,
    pub(super) collapses: Table<'t, (&'static [u8], &'static str), u128>,
    pub(super) looks: Table<'t, (u64, &'static [u8]), ()>,
    pub(super) users: Table<'t, &'static str, ()>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            heads: transaction.open_table(HEADS)?,
            records: transaction.open_table(RECORDS)?,
            marks: transaction.open_table(MARKS)?,
            scheduled: transaction.open_table(SCHEDULED)?,
            wheres: transaction.open_table(WHERES)?,
            gone: transaction.open_table(GONE)?,
            keys: transaction.open_table(KEYS)?,
            key_ends: transaction.open_table(KEY_ENDS)?,
            collapses: transaction.open_table(COLLAPSES)?,
            looks: transaction.open_table(LOOKS)?,
            users: transaction.open_table(USERS)?,
        })
    }

    pub(super) fn head(&self, of: &[u8]) -> Result<Option<Head>, StorageError> {
        Ok(self.heads.get(of)?.map(|head| read(head.value())))
    }

    pub(super) fn put_head(&mut self, of: &[u8], head: &Head) -> Result<(), StorageError> {
        self.heads.insert(of, &*head.encode_to_vec()).map(drop)
    }

    pub(super) fn record(&self, of: &[u8], seq: u64) -> Result<Option<Record>, StorageError> {
        Ok(self.records.get((of, seq))?.map(|record| read(record.value())))
    }

    pub(super) fn mark(&self, of: &[u8], seq: u64) -> Result<Option<Mark>, StorageError> {
        Ok(self.marks.get((of, seq))?.map(|mark| read(mark.value())))
    }

    pub(super) fn put_mark(
        &mut self,
        of: &[u8],
        seq: u64,
        mark: &Mark,
    ) -> Result<(), StorageError> {
        self.marks.insert((of, seq), &*mark.encode_to_vec()).map(drop)
    }

    pub(super) fn place(&self, of: &[u8], id: u128) -> Result<Option<Where>, StorageError> {
        Ok(self.wheres.get((of, id))?.map(|place| read(place.value())))
    }

    pub(super) fn put_place(
        &mut self,
        of: &[u8],
        id: u128,
        place: &Where,
    ) -> Result<(), StorageError> {
        self.wheres.insert((of, id), &*place.encode_to_vec()).map(drop)
    }

    /// The paths at which a user has an inbox, in order, empty ones included.
    pub(super) fn paths_of(&self, user: &UserName) -> Result<Vec<ByteString>, StorageError> {
        let prefix = user_key(user);
        let mut paths = Vec::new();
        for head in self.heads.range(&*prefix..)? {
            let (key, _) = head?;
            let Some(path) = key.value().strip_prefix(&*prefix) else { break };
            paths.push(text(path));
        }
        Ok(paths)
    }
}

/// The name of an inbox in the file.
pub(super) fn address_key(address: &Address) -> Vec<u8> {
    match address {
        Address::User { user, path } => [&*user_key(user), path[..].as_bytes()].concat(),
        Address::Outbox { destination } => [&[1], destination[..].as_bytes()].concat(),
    }
}

/// Whether an inbox of that name is nobody's.
pub(super) fn is_outbox(key: &[u8]) -> bool {
    key.first() == Some(&1)
}

/// What the names of all inboxes of `user` begin with.
pub(super) fn user_key(user: &UserName) -> Vec<u8> {
    let name = user.as_str().as_bytes();
    // A name has at most 512 bytes.
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[0], &length[..], name].concat()
}

/// The inbox of that name; none for one that is not written.
pub(super) fn address_of(key: &[u8]) -> Option<Address> {
    match key.split_first()? {
        (0, rest) => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (name, path) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
            Some(Address::of_user(UserName::new(text(name)).ok()?, text(path)))
        }
        (_, destination) => Some(Address::Outbox { destination: text(destination) }),
    }
}

pub(super) fn text(bytes: &[u8]) -> ByteString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_of_inboxes_do_not_meet_and_can_be_read(
            users in ["\\PC{1,5}|[a/\\x00]{1,3}", "\\PC{1,5}|[a/\\x00]{1,3}"],
            paths in ["[/ab\\x00]{1,4}", "[/ab\\x00]{1,4}"],
        ) {
            let address = |n: usize| Address::of_user(
                UserName::new(users[n].clone()).unwrap(), paths[n].clone().into(),
            );
            let keys = [0, 1].map(|n| address_key(&address(n)));
            prop_assert_eq!(keys[0] == keys[1], address(0) == address(1));
            prop_assert_eq!(address_of(&keys[0]), Some(address(0)));
            let outbox = Address::Outbox { destination: paths[0].clone().into() };
            prop_assert_eq!(address_of(&address_key(&outbox)), Some(outbox));
        }
    }
}
