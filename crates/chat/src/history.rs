//! What was said of late, so that newcomers can read it. It is gone when the process is.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

/// How many lines are kept.
const LENGTH: usize = 100;

/// One line of the chat, as clients get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// Who said it: the user's name, which the gateway knows.
    pub(crate) sender: String,
    /// What.
    pub(crate) content: String,
}

/// The last lines. Beyond [`LENGTH`] the oldest are dropped.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<Line>>);

impl History {
    pub(crate) fn add(&self, line: Line) {
        let mut lines = self.0.lock();
        if lines.len() == LENGTH {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// All that is kept, the oldest first.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_dropped() {
        let history = History::default();
        for n in 0..LENGTH + 3 {
            history.add(Line { sender: "ann".into(), content: n.to_string() });
        }
        let lines = history.lines();
        assert_eq!((lines.len(), &*lines[0].content), (LENGTH, "3"));
    }
}
