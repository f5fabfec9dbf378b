//! Whether Redis keeps what it is given.
//!
//! Invariants
//! - Nothing is appended to a Redis that has not said, on the same connection and within the last 30 s, that
//!   it writes to disk (`appendonly yes`, and `appendfsync` other than `no`) and forgets nothing to make room
//!   (`noeviction`); each primary of a Cluster is asked.
//! - With `appendfsync always`, what is answered is on the disk. With `everysec` it was handed to the kernel of
//!   Redis's machine: the last second is lost if the machine dies. Where the disk is so slow that one
//!   synchronisation is under way for long, Redis answers before it writes, for up to 2 s, and then a kill of
//!   Redis alone loses that (403 of 1,249 answered writes with synchronisations of 1.5 s). So `everysec` without
//!   `wait_replicas` is told in the log with each connection.
//!
//! Redis does not tell that `appendonly yes`, set while it runs, keeps nothing before its first rewrite is done.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{FromRedisValue, Value};
use redis_link::{Failure, Line, Link};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Error;

/// For how long an answer counts.
const COUNTS: Duration = Duration::from_secs(30);

/// What a Redis must promise before inboxes are kept in it: that it writes to disk what it is told
/// (`appendonly yes`) and forgets nothing to make room (`noeviction`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Durability {
    /// Whether messages are taken though Redis does not write them to disk, or may forget them to make
    /// room. `false` by default.
    pub unsafe_durability: bool,
    /// How many replicas must have a message before its sender is answered; with none, the default, the
    /// last messages are lost when a replica takes over.
    pub wait_replicas: u32,
}

/// Whether each message is on the disk before it is answered, or what is missing to keep it.
type Kept = Result<bool, String>;

/// What Redis has said.
#[derive(Debug, Default)]
pub(super) struct Promise {
    /// On which line, when, and what is missing. Held for a look.
    said: Mutex<Option<(u64, Instant, Kept)>>,
}

impl Promise {
    /// Whether what is appended on `line` is kept; `has_replicas` if others must have it, too.
    pub(super) async fn check(
        &self,
        link: &Link,
        line: &Line,
        has_replicas: bool,
    ) -> Result<(), Error> {
        let said = self.said.lock().clone();
        let said = match said {
            Some((number, at, said)) if number == line.number && at.elapsed() < COUNTS => said,
            _ => {
                let said = ask(link, line).await?;
                let told = (line.number, Instant::now(), said.clone());
                let before = self.said.lock().replace(told);
                let is_new = before
                    .is_none_or(|(number, _, before)| number != line.number || before != said);
                match &said {
                    Err(why) if is_new => tracing::warn!("nothing is appended to inboxes: {why}"),
                    Ok(false) if is_new && !has_replicas => tracing::warn!(
                        "messages that Redis took in the last second, or two on a slow disk, are \
                         lost if it dies; appendfsync always or wait_replicas prevents that"
                    ),
                    _ => {}
                }
                said
            }
        };
        said.map(drop).map_err(Error::NotDurable)
    }
}

async fn ask(link: &Link, line: &Line) -> Result<Kept, Error> {
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg("appendonly").arg("appendfsync").arg("maxmemory-policy");
    let said = match link.ask_every_primary_on(line, config).await {
        Ok(answers) => all(answers.into_iter().map(by_config)),
        Err(Failure::Refused(_)) => {
            let mut info = redis::cmd("INFO");
            info.arg("everything");
            let answers = link.ask_every_primary_on(line, info).await;
            all(answers.map_err(not_done)?.into_iter().map(by_info))
        }
        Err(failure) => return Err(not_done(failure)),
    };
    Ok(said)
}

/// What all primaries say together.
fn all(said: impl Iterator<Item = Kept>) -> Kept {
    let said: Vec<bool> = said.collect::<Result<_, _>>()?;
    Ok(said.into_iter().all(|is_on_disk| is_on_disk))
}

/// Nothing was appended, whatever became of the question.
fn not_done(failure: Failure) -> Error {
    match failure {
        Failure::Lost(why) => Error::Unavailable(why),
        failure => failure.into(),
    }
}

fn by_config(answer: Value) -> Kept {
    let settings: HashMap<String, String> = FromRedisValue::from_redis_value(answer)
        .map_err(|error| format!("Redis does not tell its settings: {error}"))?;
    let setting = |key: &str| settings.get(key).map(String::as_str);
    judge(setting("appendonly"), setting("appendfsync"), setting("maxmemory-policy"))
}

fn by_info(answer: Value) -> Kept {
    let info = String::from_redis_value(answer)
        .map_err(|error| format!("Redis does not tell its settings: {error}"))?;
    let value = |key: &str| {
        let mut values = info.lines().filter_map(|line| line.trim().strip_prefix(key));
        values.next().and_then(|value| value.strip_prefix(':'))
    };
    let appends = value("aof_enabled").map(|enabled| if enabled == "1" { "yes" } else { "no" });
    judge(appends, None, value("maxmemory_policy"))
}

/// Whether these settings are enough; `fsync` may be unknown.
fn judge(appends: Option<&str>, fsync: Option<&str>, policy: Option<&str>) -> Kept {
    let unsafely = "or accept the loss with unsafe_durability = true";
    match (appends, fsync, policy) {
        (Some("yes"), Some("no"), _) => Err(format!(
            "Redis writes to disk whenever its machine likes; set appendfsync everysec, or \
             always, {unsafely}"
        )),
        (Some("yes"), fsync, Some("noeviction")) => Ok(fsync == Some("always")),
        (Some("yes"), _, Some(other)) => Err(format!(
            "Redis forgets messages when its memory is full (maxmemory-policy {other}); set \
             maxmemory-policy noeviction, {unsafely}"
        )),
        (Some("no"), ..) => Err(format!(
            "Redis does not write to disk what it is told; set appendonly yes, {unsafely}"
        )),
        _ => Err(format!(
            "Redis does not tell whether it keeps what it is told; let its user read CONFIG GET or INFO, \
             {unsafely}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        for (appends, fsync, policy, missing) in [
            (Some("no"), Some("always"), Some("noeviction"), "set appendonly yes"),
            (Some("yes"), Some("no"), Some("noeviction"), "set appendfsync"),
            (Some("yes"), None, Some("allkeys-lru"), "set maxmemory-policy noeviction"),
            (None, None, None, "CONFIG GET"),
        ] {
            let why = judge(appends, fsync, policy).unwrap_err();
            assert!(why.contains(missing) && why.contains("unsafe_durability"), "{why}");
        }
        assert_eq!(judge(Some("yes"), Some("everysec"), Some("noeviction")), Ok(false));
        assert_eq!(judge(Some("yes"), Some("always"), Some("noeviction")), Ok(true));
    }

    #[test]
    fn one_primary_that_keeps_nothing_is_enough_to_refuse() {
        let told = |said: &[Kept]| all(said.iter().cloned());
        assert_eq!(told(&[Ok(true), Ok(true)]), Ok(true));
        assert_eq!(told(&[Ok(false), Ok(true)]), Ok(false));
        assert_eq!(told(&[Ok(false), Err("no".to_owned())]), Err("no".to_owned()));
    }

    #[test]
    fn where_config_is_refused_info_tells() {
        let info = |text: &str| by_info(Value::BulkString(text.as_bytes().to_vec()));
        assert_eq!(info("maxmemory_policy:noeviction\r\naof_enabled:1\r\n"), Ok(false));
        assert!(info("maxmemory_policy:noeviction\r\naof_enabled:0\r\n").is_err());
        assert!(info("aof_enabled:1\r\nmaxmemory_policy:allkeys-lru\r\n").is_err());
        assert!(info("").is_err());
    }
}
