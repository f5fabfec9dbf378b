//! The server's side of RFC 6455 without I/O: bytes in, events out, ready-made frames as shared bytes.
//!
//! - [`accept`] judges an opening handshake given as plain strings, [`Origins`] whose pages may make one.
//! - [`Decoder`] turns what a client sends into [`Event`]s.
//! - [`FrameBuilder`], [`frame`], [`close`], [`ping`] and [`pong`] make what a server sends.
//!
//! What always holds:
//!
//! - Nothing here but `socket`, which is a feature, reads, writes, waits or looks at a clock. Handshake timeouts, ping intervals and the
//!   closing handshake's deadline belong to whoever owns the socket.
//! - A message in one frame is handed out as a slice of the bytes it arrived in, and a frame to send is
//!   written where it stays: payloads are copied only to join the fragments of a fragmented message.
//! - An idle [`Decoder`] is 64 bytes and holds no heap memory; a busy one holds at most
//!   [`Config::max_message`], and only for bytes that have come in, never for bytes announced.
//! - Text is UTF-8 before anyone sees it.
//!
//! Not here: extensions (so the reserved bits must be zero), HTTP, what messages mean, and the client's
//! side of the protocol.

pub mod close_code;
mod config;
mod decode;
mod encode;
mod error;
mod handshake;
mod header;
mod mask;
mod origin;
#[cfg(feature = "socket")]
pub mod socket;

pub use config::{Config, Invalid};
pub use decode::{CloseFrame, Decoder, Event};
pub use encode::{FrameBuilder, Opcode, close, frame, ping, pong};
pub use error::{Error, Violation};
pub use handshake::{Accepted, Refusal, Request, accept};
pub use origin::{InvalidOrigin, OriginPattern, Origins};
