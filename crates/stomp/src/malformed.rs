//! What can be wrong with the bytes of a frame.
//!
//! Texts taken from the peer are cut and made printable before they enter an error.

use bytestring::ByteString;

use crate::Command;

/// How much of the peer's text an error shows, in characters.
const SHOWN: usize = 32;

/// The frame that cannot be read, and with it the rest of the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DecodeError {
    /// What is wrong.
    pub reason: Malformed,
    /// The failing frame's `receipt`, where that header was read before the frame failed; the
    /// ERROR that answers it carries it as `receipt-id`.
    pub receipt: Option<ByteString>,
}

/// Why bytes are no STOMP frame, or one larger than allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first line is no command.
    #[error("unknown command \"{start}\"")]
    UnknownCommand {
        /// How the line begins, as far as it has arrived.
        start: String,
    },
    /// The frame, from its command to its NUL, is too long.
    #[error("a frame of more than {limit} bytes")]
    FrameTooLong {
        /// The bytes allowed.
        limit: usize,
    },
    /// The frame has too many header lines.
    #[error("more than {limit} headers in a frame")]
    TooManyHeaders {
        /// The lines allowed.
        limit: usize,
    },
    /// A header line is too long.
    #[error("a header line of more than {limit} bytes")]
    HeaderTooLong {
        /// The bytes allowed, without the end of the line.
        limit: usize,
    },
    /// The body is too long, or announced to be.
    #[error("a body of more than {limit} bytes")]
    BodyTooLong {
        /// The bytes allowed.
        limit: usize,
    },
    /// A header line does not separate a name from a value.
    #[error("a header line without a colon")]
    HeaderWithoutColon,
    /// A header line begins with its colon.
    #[error("a header without a name")]
    EmptyHeaderName,
    /// A backslash in a header is followed by what the version gives no meaning to.
    #[error("undefined escape {} in a header", .escaped.map_or_else(
        || String::from("\"\\\" at the end"),
        |escaped| format!("\"\\{}\"", escaped.escape_default()),
    ))]
    BadEscape {
        /// What follows the backslash; `None` where nothing does.
        escaped: Option<char>,
    },
    /// A header is not UTF-8.
    #[error("a header that is not utf-8")]
    NotUtf8,
    /// The frame ends before the blank line that ends its headers.
    #[error("a nul before the blank line that ends the headers")]
    NulInHeader,
    /// `content-length` is not a row of decimal digits.
    #[error("content-length is \"{value}\", not a number of bytes")]
    BadContentLength {
        /// How the value begins.
        value: String,
    },
    /// A body in a frame that has none.
    #[error("{command} has a body, which only SEND, MESSAGE and ERROR may")]
    BodyNotAllowed {
        /// The frame's command.
        command: Command,
    },
    /// Where `content-length` says the body ends, there is no NUL.
    #[error("no nul after the body of content-length bytes")]
    MissingNul,
}

impl Malformed {
    /// Whether the frame is too big rather than wrong: a WebSocket closes with 1009, not 1002.
    pub const fn is_too_big(&self) -> bool {
        matches!(
            self,
            Self::FrameTooLong { .. }
                | Self::TooManyHeaders { .. }
                | Self::HeaderTooLong { .. }
                | Self::BodyTooLong { .. }
        )
    }

    pub(crate) fn unknown_command(input: &[u8]) -> Self {
        let line = input.split(|&byte| byte == b'\n').next().unwrap_or_default();
        Self::UnknownCommand { start: shown(line.strip_suffix(b"\r").unwrap_or(line)) }
    }

    pub(crate) fn bad_content_length(value: &str) -> Self {
        Self::BadContentLength { value: shown(value.as_bytes()) }
    }
}

/// The beginning of the peer's bytes as printable ASCII.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().take(SHOWN).map(char::from).collect()
}
