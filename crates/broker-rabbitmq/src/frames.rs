//! What RabbitMQ sends, made fit for lapin's parser, frame by frame.
//!
//! RabbitMQ relays a publisher's properties as they came: short strings of any bytes, headers nested
//! as deep as fits. lapin's parser gives up the connection at a short string that is not UTF-8, and
//! recurses at each level of nesting until the stack is used up, which ends the process. RabbitMQ
//! would deliver the message again, to the same end.
//!
//! Invariants
//! - Every frame keeps its length, and what the parser takes keeps every byte. The one exception is a
//!   content header longer than the connection's frames may be: it goes without its properties.
//! - A byte of a short string that is not UTF-8 becomes `?`. A table or array that lies deeper than
//!   [`DEEPEST`](crate::walk::DEEPEST) becomes a byte array, which has the same layout.
//! - What is malformed is left as it is, for lapin to refuse. The walk stops where lapin's would.
//! - How the bytes are cut into chunks makes no difference. Of a body nothing is held back.

use crate::walk::Walk;

/// How long a frame may be before it is agreed.
const FIRST_LIMIT: usize = 128 * 1024;

/// The longest frame that is held, whatever was agreed.
const HIGHEST_LIMIT: usize = 1024 * 1024;

/// No agreement is below this.
const LOWEST_LIMIT: usize = 4096;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;

/// A frame's bytes besides its payload: type, channel and size before it, the end after it.
const AROUND: usize = 8;

/// A content header frame without properties, and without its end.
const BARE: usize = 7 + 2 + 2 + 8 + 2;

/// The stream of frames, seen from one end to the other.
#[derive(Debug)]
pub(crate) struct Frames {
    at: At,
    /// Longer method and header frames are not held.
    limit: usize,
    /// The longest frame that this side agrees to; 0 for any.
    own_limit: u32,
    /// How many frames were changed.
    pub(crate) mended: u64,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum At {
    FrameStart,
    /// That many bytes of a frame that need no look.
    Passing(usize),
    /// That many bytes of a frame whose beginning was all that may remain of it.
    Dropping(usize),
    /// Something else than frames, which lapin refuses.
    Unknown,
}

/// What to do with the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many, more than none, are ready to be parsed.
    Ready(usize),
    /// So many, more than none, are to be left out.
    Drop(usize),
    /// They are needed again, with more behind them: at most as many as the longest frame has.
    More,
}

impl Frames {
    /// `own_limit` is the longest frame that this side agrees to, in bytes; 0 for any.
    pub(crate) fn new(own_limit: u32) -> Self {
        Self { at: At::FrameStart, limit: FIRST_LIMIT, own_limit, mended: 0 }
    }

    /// Mends the first of `bytes`, which come next in the stream, and says what to do with them.
    pub(crate) fn step(&mut self, bytes: &mut [u8]) -> Step {
        let mut ready = 0;
        while let Some(rest) = bytes.get_mut(ready..).filter(|rest| !rest.is_empty()) {
            match self.at {
                At::FrameStart => match self.frame(rest) {
                    Some(whole) => ready += whole,
                    None => break,
                },
                At::Passing(left) => {
                    let passed = left.min(rest.len());
                    ready += passed;
                    self.at = left_over(left - passed, At::Passing);
                }
                At::Dropping(_) if ready > 0 => break,
                At::Dropping(left) => {
                    let dropped = left.min(rest.len());
                    self.at = left_over(left - dropped, At::Dropping);
                    return Step::Drop(dropped);
                }
                At::Unknown => ready += rest.len(),
            }
        }
        if ready > 0 { Step::Ready(ready) } else { Step::More }
    }

    /// Looks at the frame that `bytes` begin with. Returns how many of its bytes are ready, maybe
    /// none where what comes next is another now; None if more are needed.
    fn frame(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let kind = *bytes.first()?;
        if !matches!(kind, METHOD | HEADER | BODY | HEARTBEAT) {
            self.at = At::Unknown;
            return Some(0);
        }
        let [_, _, _, size @ ..] = *bytes.first_chunk::<7>()?;
        let whole = usize::try_from(u32::from_be_bytes(size)).ok()?.saturating_add(AROUND);
        match kind {
            HEADER if whole > self.limit => {
                let bare = bytes.get_mut(..=BARE)?;
                bare[3..7].copy_from_slice(&(BARE as u32 - 7).to_be_bytes());
                bare[BARE - 2..].copy_from_slice(&[0, 0, FRAME_END]);
                self.mended += 1;
                self.at = At::Dropping(whole - BARE - 1);
                Some(BARE + 1)
            }
            METHOD | HEADER if whole <= self.limit => {
                let payload = bytes.get_mut(..whole)?.get_mut(7..whole - 1)?;
                let mut walk = Walk::new(payload);
                if kind == HEADER {
                    walk.content_header();
                } else {
                    walk.method();
                }
                self.mended += u64::from(walk.mended);
                if let Some(limit) = walk.tuned {
                    self.agree(limit);
                }
                Some(whole)
            }
            _ => {
                self.at = At::Passing(whole);
                Some(0)
            }
        }
    }

    /// Takes what RabbitMQ proposes as the longest frame, as lapin does; 0 for any.
    fn agree(&mut self, proposed: u32) {
        let lowest = [proposed, self.own_limit].into_iter().filter(|limit| *limit > 0).min();
        let agreed = lowest.and_then(|limit| usize::try_from(limit).ok());
        self.limit = agreed.unwrap_or(HIGHEST_LIMIT).clamp(LOWEST_LIMIT, HIGHEST_LIMIT);
    }
}

fn left_over(left: usize, at: impl Fn(usize) -> At) -> At {
    if left > 0 { at(left) } else { At::FrameStart }
}

#[cfg(test)]
mod tests;
