//! What is logged, and how: section `[log]`.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Libraries whose log is not for operators, unless they ask for it: RabbitMQ's client logs messages
/// whole, and each loss of a connection twice, which `broker_rabbitmq` names once and with its reason;
/// the HTTP library logs each health check that hangs up early as an error.
const QUIET: [&str; 2] = ["lapin", "warp"];

/// The log of the process, which goes to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// A level for everything, or directives with commas between: `info,gateway=debug`.
    pub(crate) level: String,
    /// How a line looks.
    pub(crate) format: Format,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people; coloured on a terminal, unless `NO_COLOR` is set.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// A value that cannot work, with its key in this section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub(crate) struct Invalid {
    /// The key, as written in the section.
    pub(crate) key: &'static str,
    /// What is wrong with its value, and what would be right.
    pub(crate) why: String,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// The configuration would not pass its check.
    #[error("log.{0}")]
    Invalid(#[from] Invalid),
    /// The process has a log already.
    #[error("the log cannot be set up")]
    AlreadySet(#[from] TryInitError),
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Text }
    }
}

impl Config {
    /// Refuses directives that mean nothing.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.filter().map(drop)
    }

    /// Starts the log of this process; from here on, `tracing` events are written.
    pub(crate) fn init(&self) -> Result<(), InitError> {
        // A line that cannot be written is dropped: to tell so on standard error, where nobody reads any
        // more, would end the task that logs.
        let log = tracing_subscriber::fmt()
            .with_env_filter(self.filter()?)
            .log_internal_errors(false)
            .with_writer(io::stderr);
        match self.format {
            Format::Text => log.with_ansi(colours()).finish().try_init()?,
            Format::Json => log.json().flatten_event(true).finish().try_init()?,
        }
        Ok(())
    }

    fn filter(&self) -> Result<EnvFilter, Invalid> {
        let invalid = |why: String| {
            let right = "use off, error, warn, info, debug or trace, and target=level with commas \
                         between, as in \"info,gateway=debug\"";
            Invalid { key: "level", why: format!("{why}; {right}") }
        };
        let mut directives: Vec<_> = self.level.split(',').map(str::trim).collect();
        for directive in &directives {
            // To the parser, any other word is a target: "inof" would log nothing, and not say so.
            let is_word = !directive.contains(['=', '[', ']', '{', '}', '"']);
            let is_level = !directive.is_empty() && directive.parse::<LevelFilter>().is_ok();
            if is_word && !is_level {
                return Err(invalid(format!("\"{directive}\" is no level")));
            }
        }
        let mut level =
            directives.iter().filter_map(|directive| directive.parse::<LevelFilter>().ok());
        let logs = level.next_back().is_some_and(|level| level > LevelFilter::OFF);
        let quiet: Vec<String> = QUIET
            .iter()
            .filter(|library| logs && !directives.iter().any(|named| named.starts_with(*library)))
            .map(|library| format!("{library}=off"))
            .collect();
        directives.extend(quiet.iter().map(String::as_str));
        let parsed = EnvFilter::builder().parse(directives.join(","));
        parsed.map_err(|_| invalid(format!("\"{}\" is not understood", self.level)))
    }
}

/// Whether who reads can make use of colours: <https://no-color.org>.
fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(level: &str) -> Result<(), String> {
        let config = Config { level: level.into(), ..Config::default() };
        config.check().map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn levels_and_directives_are_taken() {
        for level in [
            "info",
            "INFO",
            "off",
            "warn,gateway=debug",
            "info, gateway::session=trace",
            "info,gateway[session{id=1}]=debug",
        ] {
            assert_eq!(check(level), Ok(()), "{level}");
        }
    }

    #[test]
    fn libraries_are_silent_unless_they_are_named() {
        for (level, expected) in [
            ("info", ["info", "lapin=off", "warp=off"].as_slice()),
            ("warn,gateway=debug", &["gateway=debug", "lapin=off", "warn", "warp=off"]),
            ("error", &["error", "lapin=off", "warp=off"]),
            ("off", &["off"]),
            ("gateway=debug", &["gateway=debug"]),
            ("info,lapin=debug", &["info", "lapin=debug", "warp=off"]),
            ("info, lapin::channel=warn", &["info", "lapin::channel=warn", "warp=off"]),
        ] {
            let config = Config { level: level.into(), ..Config::default() };
            let filter = config.filter().unwrap().to_string();
            let mut directives: Vec<_> = filter.split(',').collect();
            directives.sort_unstable();
            assert_eq!(directives, expected, "{level}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_rather_than_taken_for_a_target() {
        for (level, why) in [
            ("inof", "level: \"inof\" is no level; use off, error,"),
            ("info,gateway", "level: \"gateway\" is no level; "),
            ("info,", "level: \"\" is no level; "),
            ("", "level: \"\" is no level; "),
            ("info,gateway=dbug", "level: \"info,gateway=dbug\" is not understood; "),
        ] {
            let error = check(level).unwrap_err();
            assert!(error.starts_with(why), "{level}: {error}");
        }
    }
}
