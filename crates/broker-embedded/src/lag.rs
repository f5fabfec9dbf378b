//! What a queue misses of a topic while it is full.
//!
//! Invariant: each time it begins to miss and each time it ends is told once, so that a gap is one
//! gap however many messages it is.
//!
//! Not here: when there is room again ([`crate::queue`]).

/// How many messages were missed since there was no room; none while there is.
#[derive(Debug, Default)]
pub(crate) struct Lag(Option<u64>);

/// What has changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Begins,
    Ends { missed: u64 },
}

impl Lag {
    pub(crate) fn goes_on(&self) -> bool {
        self.0.is_some()
    }

    /// One more is missed.
    pub(crate) fn miss(&mut self) -> Option<Turn> {
        let missed = self.0.get_or_insert(0);
        *missed += 1;
        (*missed == 1).then_some(Turn::Begins)
    }

    /// One was kept.
    pub(crate) fn end(&mut self) -> Option<Turn> {
        self.0.take().map(|missed| Turn::Ends { missed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_told_once() {
        let mut lag = Lag::default();
        assert_eq!(lag.end(), None);
        for _ in 0..2 {
            assert_eq!([lag.miss(), lag.miss(), lag.miss()], [Some(Turn::Begins), None, None]);
            assert!(lag.goes_on());
            assert_eq!([lag.end(), lag.end()], [Some(Turn::Ends { missed: 3 }), None]);
            assert!(!lag.goes_on());
        }
    }
}
