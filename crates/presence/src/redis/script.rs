//! The scripts, each a file beside this one that begins with what its KEYS and ARGV are.

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
    OwnerClaim,
    OwnerRelease,
    ReapClaim,
    ReapFinish,
    ReapList,
    Register,
    Sessions,
    Unregister,
}

impl redis_link::Lua for Lua {
    const SOURCES: &[(Self, &str)] = &[
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
        (Lua::OwnerClaim, include_str!("owner_claim.lua")),
        (Lua::OwnerRelease, include_str!("owner_release.lua")),
        (Lua::ReapClaim, include_str!("reap_claim.lua")),
        (Lua::ReapFinish, include_str!("reap_finish.lua")),
        (Lua::ReapList, include_str!("reap_list.lua")),
        (Lua::Register, include_str!("register.lua")),
        (Lua::Sessions, include_str!("sessions.lua")),
        (Lua::Unregister, include_str!("unregister.lua")),
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
