//! The topics that nodes have among themselves. No configured prefix can be theirs, so clients cannot
//! name them.
//!
//! Not here: what travels there (crate `cluster`), and by which exchanges a broker carries it.

/// Such topics, by their prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Internal {
    /// What comes for one node, under its boot, or for all of them.
    Nodes,
    /// What comes for the subscribers of groups, under the group.
    Groups,
    /// Who comes and goes.
    Events,
    /// What services send to users, sessions and groups that have no other way than the broker itself.
    Entrance,
}

/// What begins the prefixes of nodes' own topics, and no other.
pub const MARK: &str = "/~";

/// Under [`Internal::Nodes`], where nodes say how they are: every node hears all of it.
pub const ROSTER: &str = "roster";

impl Internal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nodes, Self::Groups, Self::Events, Self::Entrance];

    /// The prefix of these topics.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Nodes => "/~nodes",
            Self::Groups => "/~groups",
            Self::Events => "/~events",
            Self::Entrance => "/~to",
        }
    }

    /// Those of that prefix.
    pub fn of(prefix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|internal| internal.prefix() == prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_known_by_its_prefix_which_bears_the_mark() {
        for internal in Internal::ALL {
            assert_eq!(Internal::of(internal.prefix()), Some(internal));
            assert!(internal.prefix().starts_with(MARK));
        }
        assert_eq!(Internal::of("/topic"), None);
        assert_eq!(Internal::of("/~other"), None);
    }
}
