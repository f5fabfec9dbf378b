//! STOMP 1.0, 1.1 and 1.2 without I/O: the codec and the server's side of a session.
//!
//! Bytes come in as a [`bytes::BytesMut`] and leave as [`Frame`]s whose text and body are slices
//! of them; frames leave as bytes in a buffer the caller owns. Both directions are here: client
//! frames and server frames are read and written alike.
//!
//! ```text
//! frame-stream = *gap *( frame *gap )
//! gap          = EOL / NUL                        ; heart-beats, and what peers add to them
//! frame        = command EOL *( header EOL ) EOL body NUL
//! command      = "CONNECT" / "STOMP" / "SEND" / "SUBSCRIBE" / "UNSUBSCRIBE" / "ACK" / "NACK"
//!              / "BEGIN" / "COMMIT" / "ABORT" / "DISCONNECT"
//!              / "CONNECTED" / "MESSAGE" / "RECEIPT" / "ERROR"
//! header       = name ":" value
//! name         = 1*<octet except LF, NUL and ":">
//! value        = *<octet except LF and NUL>       ; 1.2 asks for "\c", all peers get along with ":"
//! body         = *<octet except NUL>              ; without a content-length header
//!              / <content-length octets>          ; with one: NUL is an octet like any other
//! EOL          = [CR] LF
//! ```
//!
//! Names and values are UTF-8. How they escape what a line cannot hold depends on the version:
//! see [`Decoder`] and [`FrameWriter`].
//!
//! Deliberately not here: sockets and timers; the meaning of headers beyond their syntax (which
//! ones a command needs is the session's affair); `content-type` and any conversion of bodies.
//!
//! Specifications: <https://stomp.github.io/stomp-specification-1.2.html>,
//! <https://stomp.github.io/stomp-specification-1.1.html>,
//! <https://stomp.github.io/stomp-specification-1.0.html>.

pub mod action;
mod command;
mod compat;
mod config;
mod decode;
mod encode;
mod escape;
mod fault;
mod frame;
pub mod header;
mod heart_beat;
mod malformed;
mod rate;
mod session;
mod subscriptions;
mod title;
mod transaction;
mod version;

pub use action::Action;
pub use command::Command;
pub use compat::Compat;
pub use config::{Config, Invalid};
pub use decode::{Decoder, Limits};
pub use encode::FrameWriter;
pub use fault::Fault;
pub use frame::Frame;
pub use header::Headers;
pub use heart_beat::Intervals;
pub use malformed::{DecodeError, Malformed};
pub use session::Session;
pub use title::Title;
pub use version::{UnknownVersion, Version};
