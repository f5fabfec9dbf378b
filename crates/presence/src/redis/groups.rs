//! Groups in Redis.
//!
//! Invariants
//! - The group's own keys say who is a member. The list of a member's groups is written before and
//!   removed after, so it may name too many, which are left out, and never too few.

use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;

use super::RedisPresence;
use super::script::Lua;
use super::shared::{Shared, millis};
use crate::group::{self, GroupError, Groups, Member};
use crate::{GroupName, MAX_PAGE, Page, PageRequest, SessionId, Unavailable, UserName};

impl Shared {
    fn call_on(&self, script: Lua, group: &GroupName) -> Cmd {
        self.scripts.call(script, &[self.keys.members(group), self.keys.ends(group)])
    }

    /// What takes `group` from the lists of the members.
    fn forget_memberships(&self, group: &GroupName, members: &[Member]) -> Vec<Cmd> {
        let forget = |member: &Member| {
            let mut forget = redis::cmd("ZREM");
            forget.arg(self.keys.groups_of(member)).arg(group.as_str());
            forget
        };
        members.iter().map(forget).collect()
    }
}

fn lifetime_argument(lifetime: Option<Duration>) -> String {
    // Redis takes no end that is past.
    lifetime.map(|lifetime| millis(lifetime).max(1).to_string()).unwrap_or_default()
}

#[async_trait]
impl Groups for RedisPresence {
    async fn add(
        &self,
        group: &GroupName,
        members: &[Member],
        lifetime: Option<Duration>,
    ) -> Result<usize, GroupError> {
        group::check_count(members)?;
        if members.is_empty() {
            return Ok(0);
        }
        let shared = &self.shared;
        let lifetime = lifetime_argument(lifetime);
        let mut memberships = Vec::with_capacity(members.len());
        let mut add = shared.call_on(Lua::GroupAdd, group);
        add.arg(&lifetime);
        for member in members {
            let key = shared.keys.groups_of(member);
            let mut note = shared.scripts.call(Lua::MembershipAdd, &[key]);
            note.arg(group.as_str()).arg(&lifetime);
            memberships.push(note);
            add.arg(member.to_text());
        }
        let count = memberships.len();
        let mut answers = shared.link.ask_in_order(vec![memberships, vec![add]]).await?;
        for _ in 0..count {
            answers.next::<u64>()?;
        }
        Ok(answers.next()?)
    }

    async fn remove(&self, group: &GroupName, members: &[Member]) -> Result<usize, GroupError> {
        group::check_count(members)?;
        if members.is_empty() {
            return Ok(0);
        }
        let mut remove = self.shared.call_on(Lua::GroupRemove, group);
        for member in members {
            remove.arg(member.to_text());
        }
        let forget = self.shared.forget_memberships(group, members);
        Ok(self.shared.link.ask_in_order(vec![vec![remove], forget]).await?.next()?)
    }

    async fn set_lifetime(
        &self,
        group: &GroupName,
        lifetime: Option<Duration>,
    ) -> Result<bool, Unavailable> {
        let mut set = self.shared.call_on(Lua::GroupLifetime, group);
        set.arg(lifetime_argument(lifetime));
        Ok(self.shared.link.ask_one(set).await?)
    }

    async fn delete(&self, group: &GroupName) -> Result<bool, Unavailable> {
        let mut page = PageRequest::first(MAX_PAGE);
        let mut members = Vec::new();
        loop {
            let Page { items, next } = self.members(group, &page).await?;
            members.extend(items);
            match next {
                Some(next) => page = PageRequest::after(next, MAX_PAGE),
                None => break,
            }
        }
        let is_deleted =
            self.shared.link.ask_one(self.shared.call_on(Lua::GroupDelete, group)).await?;
        let forget = self.shared.forget_memberships(group, &members);
        self.shared.link.ask_many(forget, self.shared.config.batch).await?;
        Ok(is_deleted)
    }

    async fn members(
        &self,
        group: &GroupName,
        page: &PageRequest,
    ) -> Result<Page<Member>, Unavailable> {
        let from = page.after_text().map_or("-".to_owned(), |after| format!("({after}"));
        let mut ask = self.shared.call_on(Lua::GroupMembers, group);
        ask.arg(from).arg(page.limit() + 1);
        let marked: Vec<String> = self.shared.link.ask_one(ask).await?;
        let is_live: Vec<_> = marked.iter().map(|member| member.starts_with('1')).collect();
        let texts = marked.into_iter().map(|mut member| member.split_off(1)).collect();
        let mut is_live = is_live.into_iter();
        Ok(Page::cut(texts, page, |text| {
            is_live.next().filter(|is_live| *is_live).and_then(|_| Member::from_text(text))
        }))
    }

    async fn size(&self, group: &GroupName) -> Result<u64, Unavailable> {
        Ok(self.shared.link.ask_one(self.shared.call_on(Lua::GroupSize, group)).await?)
    }

    async fn groups_of(&self, member: &Member) -> Result<Vec<GroupName>, Unavailable> {
        let shared = &self.shared;
        let mut list = redis::cmd("ZRANGE");
        list.arg(shared.keys.groups_of(member)).arg(0).arg(-1);
        let groups: Vec<String> = shared.link.ask_one(list).await?;
        let groups = groups.into_iter().filter_map(|group| GroupName::new(group).ok());
        let mut groups: Vec<_> = groups.collect();
        let asks = groups.iter().map(|group| {
            let mut ask = shared.call_on(Lua::GroupContains, group);
            ask.arg(member.to_text());
            ask
        });
        let mut answers = shared.link.ask_many(asks.collect(), shared.config.batch).await?;
        let is_member: Vec<bool> =
            groups.iter().map(|_| answers.next()).collect::<Result<_, _>>()?;
        let mut is_member = is_member.into_iter();
        groups.retain(|_| is_member.next() == Some(true));
        groups.sort();
        Ok(groups)
    }

    async fn is_member(
        &self,
        user: &UserName,
        session: &SessionId,
        group: &GroupName,
    ) -> Result<bool, Unavailable> {
        let mut ask = self.shared.call_on(Lua::GroupContains, group);
        ask.arg(Member::User(user.clone()).to_text());
        ask.arg(Member::Session(session.clone()).to_text());
        Ok(self.shared.link.ask_one(ask).await?)
    }
}
