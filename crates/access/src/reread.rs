//! A file that is read again when it changed.
//!
//! Invariants
//! - Whoever asks gets the last content that could be read; a change that cannot is told in the log once,
//!   and what was before stays.
//! - The file is looked at once per interval at most, and never on the runtime's own threads after the start.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The longest file in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Reread<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    interval: Duration,
    /// What is known of the file. Held to copy, never while the file is read.
    known: Mutex<Known<T>>,
}

#[derive(Debug)]
struct Known<T> {
    value: Arc<T>,
    stamp: Option<Stamp>,
    looked: Instant,
}

/// What changes with a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T: Send + Sync + 'static> Reread<T> {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// It cannot be read, or `parse` refuses it.
    pub(crate) fn open(
        path: &Path,
        interval: Duration,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Self, String> {
        let (stamp, value) = read(path, parse)?;
        let known = Known { value: Arc::new(value), stamp: Some(stamp), looked: Instant::now() };
        Ok(Self { path: path.to_owned(), parse, interval, known: Mutex::new(known) })
    }

    /// What it says now, or did within the interval.
    pub(crate) async fn get(self: &Arc<Self>) -> Arc<T> {
        let seen = {
            let mut known = self.known.lock();
            if known.looked.elapsed() < self.interval {
                return Arc::clone(&known.value);
            }
            // Others go on with what is known meanwhile.
            known.looked = Instant::now();
            known.stamp
        };
        let this = Arc::clone(self);
        // It fails only if it is cancelled with the runtime.
        let _ = tokio::task::spawn_blocking(move || this.look(seen)).await;
        Arc::clone(&self.known.lock().value)
    }

    fn look(&self, seen: Option<Stamp>) {
        let stamp = stamp(&self.path).ok();
        if stamp == seen {
            return;
        }
        let file = self.path.display();
        match read(&self.path, self.parse) {
            Ok((stamp, value)) => {
                tracing::info!(%file, "read again, for it changed");
                let mut known = self.known.lock();
                known.value = Arc::new(value);
                known.stamp = Some(stamp);
            }
            Err(why) => {
                tracing::error!(%file, %why, "changed and cannot be used; what was before stays");
                self.known.lock().stamp = stamp;
            }
        }
    }
}

/// Opens before it looks, so that stamp and content are of one file.
fn read<T>(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<(Stamp, T), String> {
    let file = std::fs::File::open(path).map_err(|why| why.to_string())?;
    let stamp = Stamp::of(&file.metadata().map_err(|why| why.to_string())?);
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|why| why.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("it is longer than {MAX_FILE} bytes"));
    }
    parse(&text).map(|value| (stamp, value))
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    std::fs::metadata(path).map(|metadata| Stamp::of(&metadata))
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
