//! `footbridge check-config`: what a start would say of a configuration, and what would be in force.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;

use crate::config::{Effective, Role, environment};
use crate::file_limit;

/// Check a configuration and print the effective one.
///
/// Standard output is TOML with every key, to be saved and used; a remark says where a value that is
/// no default comes from. Passwords are shown as ***.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    /// Configuration file [default: none, only the defaults and the environment]
    #[arg(long, env = "FOOTBRIDGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start from the defaults of `footbridge dev`
    #[arg(long)]
    dev: bool,
    /// Start from the defaults of `footbridge notifier`, not those of `footbridge gateway`
    #[arg(long, conflicts_with = "dev")]
    notifier: bool,
}

impl Command {
    /// # Errors
    /// The configuration cannot be read or holds mistakes; standard output cannot be written.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let role = match self {
            Self { dev: true, .. } => Role::Dev,
            Self { notifier: true, .. } => Role::Notifier,
            _ => Role::Gateway,
        };
        let effective = Effective::load(self.config.as_deref(), environment(), role)?;
        let text = effective.to_string();
        io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
        // The limit is this machine's: the file may be meant for another.
        if role == Role::Gateway
            && let Err(too_low) = file_limit::check(&effective.config.gateway)
        {
            warn(&too_low);
        }
        Ok(())
    }
}

#[expect(clippy::print_stderr, reason = "standard output is the configuration alone")]
fn warn(too_low: &file_limit::FileLimitError) {
    eprintln!("warning: on this machine it could not start: {too_low}");
}
