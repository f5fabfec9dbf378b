//! What is wrong with a configuration, in words that say what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::setting::Origin;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// There is no such file, it is a directory, or it may not be read.
    #[error("cannot read the configuration file {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It was read, and holds mistakes.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// One mistake or more; displays each with its place.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Mistakes(pub(super) Vec<Mistake>);

/// One mistake.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The section it is in; empty where it is in none.
    pub(super) section: String,
    /// `None` for a default.
    pub(super) origin: Option<Origin>,
    pub(super) what: String,
    /// What would be right, a line each.
    pub(super) hints: Vec<String>,
}

impl Mistake {
    /// One that shows only when everything is taken together, at no place in particular.
    pub(super) fn of_the_whole(what: impl fmt::Display) -> Mistakes {
        let what = what.to_string().trim_end().to_owned();
        Mistakes(vec![Self { section: String::new(), origin: None, what, hints: Vec::new() }])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 1 {
            write!(f, "{} mistakes in the configuration\n\n", self.0.len())?;
        }
        for (number, mistake) in self.0.iter().enumerate() {
            let separator = if number > 0 { "\n\n" } else { "" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, what, hints, .. } = self;
        let margin = match origin {
            Some(origin @ Origin::File(place)) => {
                writeln!(f, "{origin}: {what}")?;
                let margin = place.line.to_string().len();
                place.snippet(f, margin)?;
                margin
            }
            Some(origin @ Origin::Variable(_)) => {
                write!(f, "{origin}: {what}")?;
                1
            }
            None => {
                write!(f, "{what}")?;
                1
            }
        };
        hints.iter().try_for_each(|hint| write!(f, "\n{:margin$} = {hint}", ""))
    }
}
