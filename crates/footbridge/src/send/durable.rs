//! How a message is kept that is stored: the options, and what the notifier is asked for.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use humantime_serde::re::humantime::{parse_duration, parse_rfc3339};
use prost_types::Timestamp;
use proto::v1::Durable;

/// How messages are kept; with --grpc only.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct DurableOptions {
    /// With --user, --group or --all: store the message for each user, who gets it on subscribing. Each of the
    /// next four implies it.
    #[arg(long, requires = "grpc")]
    durable: bool,
    /// It expires after that time, such as 90s or 1h.
    #[arg(long, requires = "grpc", value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Nobody gets it before that time, such as 2030-01-31T08:00:00Z, or +10s from now. Also without --user: it is
    /// published then.
    #[arg(long, requires = "grpc", value_name = "TIME", value_parser = time)]
    deliver_at: Option<SystemTime>,
    /// The idempotency key: where one with the same key came before, it is not stored again.
    #[arg(long, requires = "grpc", value_name = "KEY")]
    key: Option<String>,
    /// The collapse key: it takes the place of one with the same key that nobody was given yet.
    #[arg(long, requires = "grpc", value_name = "KEY")]
    collapse: Option<String>,
    /// Print what becomes of what is stored, until nothing more will.
    #[arg(long, requires = "grpc")]
    pub(super) watch: bool,
}

impl DurableOptions {
    /// Whether a key was given, which is of one message.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// How it is kept for users, if it is.
    pub(super) fn of_users(&self) -> anyhow::Result<Option<Durable>> {
        let Self { durable, ttl, deliver_at, key, collapse, watch: _ } = self.clone();
        let is_durable =
            durable || ttl.is_some() || deliver_at.is_some() || key.is_some() || collapse.is_some();
        if !is_durable {
            return Ok(None);
        }
        Ok(Some(Durable {
            idempotency_key: key.unwrap_or_default(),
            ttl: ttl.map(TryInto::try_into).transpose().context("--ttl is too long")?,
            deliver_at: deliver_at.map(Timestamp::from),
            collapse_key: collapse.unwrap_or_default(),
        }))
    }

    /// When it is published, and its key.
    pub(super) fn of_publish(&self) -> anyhow::Result<(Option<Timestamp>, String)> {
        if self.durable || self.ttl.is_some() || self.collapse.is_some() {
            bail!("--durable, --ttl and --collapse are for users: give --user, --group or --all");
        }
        Ok((self.deliver_at.map(Timestamp::from), self.key.clone().unwrap_or_default()))
    }

    /// Refuses all of it, where sessions are named.
    pub(super) fn none(&self) -> anyhow::Result<()> {
        if self.watch || self.of_users()?.is_some() {
            bail!("a session has no inbox in which a message could wait: give --user");
        }
        Ok(())
    }
}

/// A time, or how far away it is.
fn time(text: &str) -> anyhow::Result<SystemTime> {
    match text.strip_prefix('+') {
        Some(after) => {
            let after =
                parse_duration(after).context("behind + stands a time such as 10s or 1h")?;
            SystemTime::now().checked_add(after).context("that is too far away")
        }
        None => parse_rfc3339(text).context("a time looks like 2030-01-31T08:00:00Z, or +10s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_a_distance() {
        let in_a_minute = time("+1m").unwrap().duration_since(SystemTime::now()).unwrap();
        assert!(in_a_minute > Duration::from_secs(50) && in_a_minute <= Duration::from_secs(60));
        let date = time("1970-01-01T00:01:00Z").unwrap();
        assert_eq!(date, SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        for wrong in ["", "+", "10s", "tomorrow", "-5s"] {
            time(wrong).unwrap_err();
        }
    }

    #[test]
    fn any_option_but_watch_makes_it_durable() {
        let none = DurableOptions { watch: true, ..DurableOptions::default() };
        assert_eq!(none.of_users().unwrap(), None);
        let keyed = DurableOptions { key: Some("k".to_owned()), ..DurableOptions::default() };
        let durable = keyed.of_users().unwrap().unwrap();
        assert_eq!((&*durable.idempotency_key, durable.ttl), ("k", None));
        assert_eq!(keyed.of_publish().unwrap(), (None, "k".to_owned()));
        keyed.none().unwrap_err();
        let asked = DurableOptions { durable: true, ..DurableOptions::default() };
        assert_eq!(asked.of_users().unwrap(), Some(Durable::default()));
        asked.of_publish().unwrap_err();
    }
}
