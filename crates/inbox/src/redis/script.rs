//! The scripts, each a file beside this one that says what its KEYS and ARGV are. Those of an inbox begin
//! with `common.lua`.

/// A script of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lua {
    Append,
    Bury,
    Count,
    Drop,
    DueClaim,
    DueDone,
    Forget,
    List,
    Look,
    Settle,
    Status,
    Take,
}

macro_rules! of_an_inbox {
    ($file:literal) => {
        concat!(include_str!("common.lua"), include_str!($file))
    };
}

impl redis_link::Lua for Lua {
    const SOURCES: &[(Self, &str)] = &[
        (Self::Append, of_an_inbox!("append.lua")),
        (Self::Bury, of_an_inbox!("bury.lua")),
        (Self::Count, of_an_inbox!("count.lua")),
        (Self::Drop, of_an_inbox!("drop.lua")),
        (Self::DueClaim, include_str!("due_claim.lua")),
        (Self::DueDone, include_str!("due_done.lua")),
        (Self::Forget, of_an_inbox!("forget.lua")),
        (Self::List, of_an_inbox!("list.lua")),
        (Self::Look, of_an_inbox!("look.lua")),
        (Self::Settle, of_an_inbox!("settle.lua")),
        (Self::Status, of_an_inbox!("status.lua")),
        (Self::Take, of_an_inbox!("take.lua")),
    ];

    fn place(self) -> usize {
        self as usize
    }
}

pub(super) type Scripts = redis_link::Scripts<Lua>;

#[cfg(test)]
mod tests {
    #[test]
    fn each_script_stands_in_its_place_and_says_what_its_keys_are() {
        assert_eq!(super::Scripts::check(), Ok(()));
    }
}
