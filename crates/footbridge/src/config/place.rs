//! A place in a configuration file, to be shown to a person.

use std::fmt;
use std::ops::Range;

use super::secret;

/// A stretch of one line.
#[derive(Debug, Clone)]
pub(super) struct Place {
    file: String,
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    column: usize,
    /// In characters, at least 1.
    width: usize,
    /// The line's text, without passwords.
    pub(super) text: String,
}

impl Place {
    /// Where the bytes `span` of `text`, the file's, are. What is beyond the first line is left out.
    pub(super) fn new(file: &str, text: &str, span: Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        let in_line = span.start - start..span.end.saturating_sub(start).min(line.len());
        let width = line.get(in_line).unwrap_or_default().chars().count();
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            width: width.max(1),
            text: secret::masked(line),
        }
    }

    /// The same without anything of the line behind its own stretch.
    pub(super) fn without_value(mut self) -> Self {
        self.text = self.text.chars().take(self.column - 1 + self.width).collect();
        self.text.push_str(" = ...");
        self
    }

    /// The line with carets beneath, three lines that begin with a margin of `margin` columns.
    pub(super) fn snippet(&self, f: &mut fmt::Formatter<'_>, margin: usize) -> fmt::Result {
        let Self { line, text, .. } = self;
        // A tab is as wide below as above.
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let indent: String = text.chars().take(self.column - 1).map(blank).collect();
        let beyond = (self.column - 1).saturating_sub(text.chars().count());
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{line:margin$} | {text}")?;
        write!(f, "{:margin$} | {indent}{}{}", "", " ".repeat(beyond), "^".repeat(self.width))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
