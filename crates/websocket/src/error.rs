//! Why a client's bytes are refused, told apart by the close code the client is given.

use crate::close_code;

/// The connection must be failed (RFC 6455 section 7.1.7): send a Close with [`Error::close_code`], read
/// no more, close the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not what RFC 6455 lets a client send.
    #[error(transparent)]
    Protocol(#[from] Violation),
    /// A text message or a Close frame's reason is not UTF-8 (sections 5.6 and 5.5.1).
    #[error("text is not valid UTF-8")]
    NotUtf8,
    /// A message is longer than the limit; known from the header of the frame that passes it.
    #[error("message of {size} bytes exceeds the limit of {limit}")]
    TooBig {
        /// Bytes of the message, as far as its frames up to now announce.
        size: u64,
        /// [`Config::max_message`](crate::Config::max_message) in bytes.
        limit: u64,
    },
}

impl Error {
    /// The code of the Close frame to answer with: 1002, 1007 or 1009.
    pub fn close_code(&self) -> u16 {
        match self {
            Error::Protocol(_) => close_code::PROTOCOL_ERROR,
            Error::NotUtf8 => close_code::INVALID_PAYLOAD,
            Error::TooBig { .. } => close_code::MESSAGE_TOO_BIG,
        }
    }
}

/// The rule of RFC 6455 that was broken. All have the same consequence; the text is for the log and for
/// the reason of the Close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Section 5.2: the reserved bits are zero unless an extension gives them a meaning.
    #[error("reserved bits are set but no extension was negotiated")]
    ReservedBits,
    /// Section 5.2: opcodes 3-7 and 11-15 are reserved.
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// Section 5.1: a client masks every frame.
    #[error("client frame is not masked")]
    NotMasked,
    /// Section 5.5: a control frame is not fragmented.
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// Section 5.5: a control frame's payload is at most 125 bytes.
    #[error("control frame is longer than 125 bytes")]
    ControlTooLong,
    /// Section 5.2: a length is encoded in as few bytes as it fits.
    #[error("payload length is not encoded in its shortest form")]
    LengthNotShortest,
    /// Section 5.2: the most significant bit of a 64-bit length is zero.
    #[error("payload length exceeds 63 bits")]
    LengthExceeds63Bits,
    /// Section 5.4: a continuation frame continues a message.
    #[error("continuation frame without a message to continue")]
    NothingToContinue,
    /// Section 5.4: the fragments of one message are not interleaved with another message.
    #[error("new message before the last fragment of the previous one")]
    MessageInterrupted,
    /// Section 5.5.1: a Close payload is empty, or begins with a two-byte code.
    #[error("close frame with a payload of one byte")]
    CloseTruncated,
    /// Section 7.4: only some codes may stand in a Close frame.
    #[error("close code {0} may not be sent")]
    CloseCode(u16),
}
