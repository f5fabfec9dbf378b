//! What a request wants: something sent at once, or something stored.

use crate::keep::Keep;
use crate::outgoing::Outgoing;

/// See the module.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// It goes to whom it is for now, by the broker.
    Live(Outgoing),
    /// It is stored for whom it is for.
    Stored(Keep),
}

impl Wanted {
    /// About how many bytes it takes while it waits.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Live(outgoing) => outgoing.bytes(),
            Self::Stored(keep) => keep.bytes(),
        }
    }

    /// How many targets are to be looked up.
    pub(crate) fn targets(&self) -> usize {
        self.live().map_or(0, Outgoing::targets)
    }

    /// What goes out at once, whose targets are looked up.
    pub(crate) fn live(&self) -> Option<&Outgoing> {
        match self {
            Self::Live(outgoing) => Some(outgoing),
            Self::Stored(_) => None,
        }
    }
}
