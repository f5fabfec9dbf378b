//! Looks whether a file is whole and one of ours, without touching it: what is damaged stays as it is, for whoever
//! can still read something of it, and what is another version's or program's for that.
//!
//! The library mends what a crash has left while it opens a file, and what it takes for that in a damaged one. So
//! the file is opened a first time with what is written kept beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::Mutex;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageBackend};

use super::tables::META;

/// What is written is kept in blocks of so many bytes.
const BLOCK: u64 = 4096;

/// What a file is that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// One of ours, of this format.
    Format(u64),
    /// Nothing is in it: whoever made it got no further.
    Nothing,
    /// Another program's, or one that cannot be read as ours.
    Foreign,
}

/// What the file at `path` is.
///
/// # Errors
/// When it cannot be opened or is not whole.
pub(super) fn probe(path: &Path) -> Result<Found, DatabaseError> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let beside = Beside { file, changed: Mutex::new(Changed { length, blocks: BTreeMap::new() }) };
    let mut builder = Builder::new();
    builder.set_check_integrity_on_open(true);
    let database = builder.create_with_backend(beside)?;
    Ok(look(&database).unwrap_or(Found::Foreign))
}

fn look(database: &Database) -> Result<Found, redb::Error> {
    let transaction = database.begin_read()?;
    if transaction.list_tables()?.next().is_none() {
        return Ok(Found::Nothing);
    }
    let format = transaction.open_table(META)?.get("format")?;
    Ok(format.map_or(Found::Foreign, |format| Found::Format(format.value())))
}

/// A file, and what was written to it in its place.
#[derive(Debug)]
struct Beside {
    file: File,
    /// Held for a read or a write.
    changed: Mutex<Changed>,
}

#[derive(Debug)]
struct Changed {
    length: u64,
    /// By their number.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Beside {
    /// What the file itself has there; zeros behind its end.
    fn read_file(&self, mut offset: u64, mut out: &mut [u8]) -> Result<(), Error> {
        while !out.is_empty() {
            match self.file.read_at(out, offset)? {
                0 => {
                    out.fill(0);
                    break;
                }
                read => {
                    offset += read as u64;
                    out = &mut out[read..];
                }
            }
        }
        Ok(())
    }
}

/// The parts of `length` bytes from `offset` on by the block that they are in: its number, and from where to where.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let from = offset.saturating_sub(block * BLOCK);
        let to = (end - block * BLOCK).min(BLOCK);
        // Within a block.
        (block, from as usize, to as usize)
    })
}

impl StorageBackend for Beside {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.changed.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let changed = self.changed.lock();
        if offset + out.len() as u64 > changed.length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.read_file(offset, out)?;
        let mut at = 0;
        for (block, from, to) in parts(offset, out.len()) {
            if let Some(bytes) = changed.blocks.get(&block) {
                out[at..at + (to - from)].copy_from_slice(&bytes[from..to]);
            }
            at += to - from;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        self.changed.lock().length = length;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut changed = self.changed.lock();
        let mut at = 0;
        for (block, from, to) in parts(offset, data.len()) {
            let bytes = match changed.blocks.entry(block) {
                std::collections::btree_map::Entry::Occupied(bytes) => bytes.into_mut(),
                std::collections::btree_map::Entry::Vacant(empty) => {
                    let mut bytes = vec![0; BLOCK as usize].into_boxed_slice();
                    self.read_file(block * BLOCK, &mut bytes)?;
                    empty.insert(bytes)
                }
            };
            bytes[from..to].copy_from_slice(&data[at..at + (to - from)]);
            at += to - from;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_stays_as_it_is() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        let changed = Mutex::new(Changed { length: 10_000, blocks: BTreeMap::new() });
        let beside = Beside { file: file.reopen().unwrap(), changed };
        beside.set_len(20_000).unwrap();
        beside.write(4_000, &[2; 5_000]).unwrap();
        beside.write(15_000, &[3; 10]).unwrap();
        let mut all = vec![9; 20_000];
        beside.read(0, &mut all).unwrap();
        let count = |byte| all.iter().filter(|is| **is == byte).count();
        assert_eq!([count(0), count(1), count(2), count(3)], [9_990, 5_000, 5_000, 10]);
        assert!(all[4_000..9_000].iter().all(|byte| *byte == 2));
        assert!(beside.read(19_999, &mut [0; 2]).is_err());
        assert_eq!(std::fs::read(file.path()).unwrap(), [1; 10_000]);
    }
}
