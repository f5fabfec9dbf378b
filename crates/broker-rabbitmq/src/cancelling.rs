//! How a dropped subscription reaches its consumer.
//!
//! Invariant: cancelled first, given back then. What a dropped subscription was sent does not come back
//! to it.

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::BasicCancelOptions;
use lapin::types::ShortString;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Shared by a subscription and its consumer.
#[derive(Debug)]
pub(crate) struct Cancelling {
    /// Fires once the subscription was dropped.
    pub(crate) asked: CancellationToken,
    /// Where the consumer is, while it is. Held while a cancel is put in line.
    consuming: Mutex<Option<(Channel, ShortString)>>,
    /// Counts those whose subscription was dropped and whose consumer has not ended yet.
    ending: TaskTracker,
    /// This one's share in it, once asked. Held for the taking.
    counted: Mutex<Option<TaskTrackerToken>>,
}

impl Cancelling {
    pub(crate) fn new(ending: TaskTracker) -> Self {
        let (asked, consuming) = (CancellationToken::new(), Mutex::default());
        Self { asked, consuming, ending, counted: Mutex::default() }
    }

    /// The consumer is there, maybe too late.
    pub(crate) fn began(&self, channel: &Channel, tag: ShortString) {
        let mut consuming = self.consuming.lock();
        if self.asked.is_cancelled() {
            cancel(channel, tag);
        } else {
            *consuming = Some((channel.clone(), tag));
        }
    }

    /// The consumer is not there any more.
    pub(crate) fn stopped(&self) {
        self.consuming.lock().take();
    }

    /// The subscription was dropped.
    pub(crate) fn cancel(&self) {
        *self.counted.lock() = Some(self.ending.token());
        let mut consuming = self.consuming.lock();
        self.asked.cancel();
        if let Some((channel, tag)) = consuming.take() {
            cancel(&channel, tag);
        }
    }
}

/// Puts a cancel in line, before whatever is given back after it. An error means that the channel is
/// gone, and the consumer with it.
fn cancel(channel: &Channel, tag: ShortString) {
    let _ = channel.basic_cancel(tag, BasicCancelOptions::default()).now_or_never();
}
