//! Groups in memory.
//!
//! Invariants
//! - `groups` and `memberships` hold the same pairs.
//! - A member whose end has passed is none for any reader; it is cleared away by the next change of its
//!   group, and when there are twice as many groups as at the last clearance. A group without members is
//!   removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use tokio::time::Instant;

use crate::{GroupName, Member, Page, PageRequest};

#[derive(Debug, Default)]
pub(super) struct MemoryGroups {
    groups: HashMap<GroupName, Group>,
    memberships: HashMap<Member, BTreeSet<GroupName>>,
    /// How many groups there may be before all are cleared.
    clear_at: usize,
}

/// So few groups are not worth a clearance.
const FEW: usize = 1_024;

#[derive(Debug, Default)]
struct Group {
    /// Each member with the end of its membership, if it has one.
    members: BTreeMap<Member, Option<Instant>>,
    /// The end of all memberships, if there is one.
    end: Option<Instant>,
}

fn is_over(end: Option<Instant>, now: Instant) -> bool {
    end.is_some_and(|end| end <= now)
}

impl Group {
    fn contains(&self, member: &Member, now: Instant) -> bool {
        !is_over(self.end, now) && self.members.get(member).is_some_and(|end| !is_over(*end, now))
    }
}

impl MemoryGroups {
    pub(super) fn add(
        &mut self,
        group: &GroupName,
        members: &[Member],
        end: Option<Instant>,
        now: Instant,
    ) -> usize {
        if self.groups.len() >= self.clear_at.max(FEW) {
            let groups: Vec<_> = self.groups.keys().cloned().collect();
            groups.iter().for_each(|group| self.clear(group, now));
            self.clear_at = self.groups.len() * 2;
        }
        self.clear(group, now);
        let entry = self.groups.entry(group.clone()).or_default();
        let mut added = 0;
        for member in members {
            added += usize::from(entry.members.insert(member.clone(), end).is_none());
            self.memberships.entry(member.clone()).or_default().insert(group.clone());
        }
        if entry.members.is_empty() {
            self.groups.remove(group);
        }
        added
    }

    pub(super) fn remove(&mut self, group: &GroupName, members: &[Member], now: Instant) -> usize {
        self.clear(group, now);
        members.iter().filter(|member| self.take_out(group, member)).count()
    }

    pub(super) fn set_end(
        &mut self,
        group: &GroupName,
        end: Option<Instant>,
        now: Instant,
    ) -> bool {
        self.clear(group, now);
        let Some(group) = self.groups.get_mut(group) else { return false };
        group.end = end;
        true
    }

    pub(super) fn delete(&mut self, group: &GroupName, now: Instant) -> bool {
        self.clear(group, now);
        let members: Vec<_> = match self.groups.get(group) {
            Some(group) => group.members.keys().cloned().collect(),
            None => return false,
        };
        self.remove(group, &members, now) > 0
    }

    pub(super) fn members(
        &self,
        group: &GroupName,
        page: &PageRequest,
        now: Instant,
    ) -> Page<Member> {
        let Some(group) = self.groups.get(group).filter(|group| !is_over(group.end, now)) else {
            return Page { items: Vec::new(), next: None };
        };
        // A cursor that is no member was made up; it is taken for the beginning.
        let after = page.after_text().and_then(Member::from_text);
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = group.members.range((from, Bound::Unbounded));
        let texts = range.take(page.limit() + 1).map(|(member, _)| member.to_text()).collect();
        Page::cut(texts, page, |text| {
            Member::from_text(text).filter(|member| group.contains(member, now))
        })
    }

    pub(super) fn size(&self, group: &GroupName, now: Instant) -> u64 {
        match self.groups.get(group) {
            Some(group) if !is_over(group.end, now) => {
                group.members.values().filter(|end| !is_over(**end, now)).count() as u64
            }
            _ => 0,
        }
    }

    pub(super) fn groups_of(&self, member: &Member, now: Instant) -> Vec<GroupName> {
        let groups = self.memberships.get(member).into_iter().flatten();
        groups.filter(|group| self.contains(group, member, now)).cloned().collect()
    }

    pub(super) fn contains(&self, group: &GroupName, member: &Member, now: Instant) -> bool {
        self.groups.get(group).is_some_and(|group| group.contains(member, now))
    }

    /// The member is gone, and with it all it was in.
    pub(super) fn forget(&mut self, member: &Member) {
        for group in self.memberships.get(member).cloned().unwrap_or_default() {
            self.take_out(&group, member);
        }
    }

    fn take_out(&mut self, group: &GroupName, member: &Member) -> bool {
        let Some(entry) = self.groups.get_mut(group) else { return false };
        let was_member = entry.members.remove(member).is_some();
        if entry.members.is_empty() {
            self.groups.remove(group);
        }
        if let Some(groups) = self.memberships.get_mut(member) {
            groups.remove(group);
            if groups.is_empty() {
                self.memberships.remove(member);
            }
        }
        was_member
    }

    /// Clears away what is over in `group`.
    fn clear(&mut self, group: &GroupName, now: Instant) {
        let Some(entry) = self.groups.get(group) else { return };
        let all = is_over(entry.end, now);
        let over = entry.members.iter().filter(|(_, end)| all || is_over(**end, now));
        let over: Vec<_> = over.map(|(member, _)| member.clone()).collect();
        for member in &over {
            self.take_out(group, member);
        }
    }
}
