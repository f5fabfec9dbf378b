//! The scripts, each a file beside this one that begins with what its KEYS and ARGV are.
//!
//! Invariant: a connection that is handed out has all of them loaded, so they are called by their hash.

use redis::{Cmd, Script};

/// A script of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lua {
    Facts,
    GroupAdd,
    GroupContains,
    GroupDelete,
    GroupLifetime,
    GroupMembers,
    GroupRemove,
    GroupRestore,
    GroupShorten,
    GroupSize,
    IndexRemove,
    LeaseDrop,
    LeaseKeep,
    LeaseTake,
    LingerAdd,
    LingerClaim,
    LingerDone,
    MembershipAdd,
    Offline,
    ReapClaim,
    ReapFinish,
    ReapList,
    Register,
    Sessions,
    Unregister,
}

const SOURCES: [(Lua, &str); 25] = [
    (Lua::Facts, include_str!("facts.lua")),
    (Lua::GroupAdd, include_str!("group_add.lua")),
    (Lua::GroupContains, include_str!("group_contains.lua")),
    (Lua::GroupDelete, include_str!("group_delete.lua")),
    (Lua::GroupLifetime, include_str!("group_lifetime.lua")),
    (Lua::GroupMembers, include_str!("group_members.lua")),
    (Lua::GroupRemove, include_str!("group_remove.lua")),
    (Lua::GroupRestore, include_str!("group_restore.lua")),
    (Lua::GroupShorten, include_str!("group_shorten.lua")),
    (Lua::GroupSize, include_str!("group_size.lua")),
    (Lua::IndexRemove, include_str!("index_remove.lua")),
    (Lua::LeaseDrop, include_str!("lease_drop.lua")),
    (Lua::LeaseKeep, include_str!("lease_keep.lua")),
    (Lua::LeaseTake, include_str!("lease_take.lua")),
    (Lua::LingerAdd, include_str!("linger_add.lua")),
    (Lua::LingerClaim, include_str!("linger_claim.lua")),
    (Lua::LingerDone, include_str!("linger_done.lua")),
    (Lua::MembershipAdd, include_str!("membership_add.lua")),
    (Lua::Offline, include_str!("offline.lua")),
    (Lua::ReapClaim, include_str!("reap_claim.lua")),
    (Lua::ReapFinish, include_str!("reap_finish.lua")),
    (Lua::ReapList, include_str!("reap_list.lua")),
    (Lua::Register, include_str!("register.lua")),
    (Lua::Sessions, include_str!("sessions.lua")),
    (Lua::Unregister, include_str!("unregister.lua")),
];

/// All scripts, by their place in [`SOURCES`].
#[derive(Debug)]
pub(super) struct Scripts {
    hashes: Vec<String>,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let hash = |(_, code): &(Lua, &str)| Script::new(code).get_hash().to_owned();
        Self { hashes: SOURCES.iter().map(hash).collect() }
    }

    /// The commands that load all of them.
    pub(super) fn load() -> Vec<Cmd> {
        let load = |(_, code): &(Lua, &str)| {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(*code);
            load
        };
        SOURCES.iter().map(load).collect()
    }

    /// The call of `script` on `keys`; its arguments are to be added.
    pub(super) fn call(&self, script: Lua, keys: &[String]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hashes[script as usize]).arg(keys.len()).arg(keys);
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_stands_in_its_place_and_says_what_its_keys_are() {
        for (n, (script, code)) in SOURCES.iter().enumerate() {
            assert_eq!(*script as usize, n);
            assert!(code.starts_with("-- "), "{script:?}");
            let legend: Vec<_> = code.lines().take_while(|line| line.starts_with("--")).collect();
            let body = &code[legend.join("\n").len()..];
            for word in
                ["KEYS[1]", "KEYS[2]", "KEYS[3]", "KEYS[4]", "ARGV[1]", "ARGV[2]", "ARGV[3]"]
            {
                let name = &word[..6];
                let told =
                    legend.iter().any(|line| line.contains(word) || line.contains("ARGV[1..]"));
                assert!(!body.contains(word) || told, "{script:?} does not tell {name} of {word}");
            }
        }
    }
}
