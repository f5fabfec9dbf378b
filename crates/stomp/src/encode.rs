//! Frames to bytes.
//!
//! What always holds: a frame written here is one frame to every reader of its version, whatever
//! its texts and body hold. No text ends a line or the frame, `content-length` is the body's, and
//! no header a caller gives can pass for it.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use crate::escape::{Escapes, Half};
use crate::{Command, Frame, Version, header};

impl Frame {
    /// Appends the frame as that version writes it. [`FrameWriter`] says what becomes of texts
    /// that the version cannot express; [`FrameWriter::finish`] of the body.
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len() + 2);
        out.reserve(headers.sum::<usize>() + self.body.len() + 64);
        let mut frame = FrameWriter::new(out, self.command, version);
        for (name, value) in self.headers.iter() {
            frame.header(name, value);
        }
        frame.finish(&self.body);
    }
}

/// Writes one frame straight into a buffer, behind what is there.
///
/// Headers are escaped as the version has it: `\`, `:` and LF in 1.1; CR too in 1.2; nothing in
/// 1.0, nor in CONNECT, STOMP and CONNECTED. A character that would break the line and has no
/// escape is written as a space: NUL always, CR in 1.1, CR and LF (in a name `:` as well) where
/// there are no escapes. Readers of 1.0 take no notice of spaces around names and values.
#[derive(Debug)]
#[must_use = "a frame that is not finished has no end"]
pub struct FrameWriter<'a> {
    out: &'a mut BytesMut,
    command: Command,
    escapes: Escapes,
}

impl<'a> FrameWriter<'a> {
    /// Begins a frame.
    pub fn new(out: &'a mut BytesMut, command: Command, version: Version) -> Self {
        out.put_slice(command.as_str().as_bytes());
        out.put_u8(b'\n');
        Self { out, command, escapes: Escapes::of(command, version) }
    }

    /// Adds a header. Two kinds are left out: a `content-length`, for [`finish`](Self::finish)
    /// knows it, and one without a name. Spaces around a name are no disguise, as readers of 1.0
    /// take them away.
    pub fn header(&mut self, name: &str, value: &str) {
        let start = self.out.len();
        self.escapes.write(name, Half::Name, self.out);
        let written = self.out[start..].trim_ascii();
        if written.is_empty() || written == header::CONTENT_LENGTH.as_bytes() {
            self.out.truncate(start);
            return;
        }
        self.out.put_u8(b':');
        self.escapes.write(value, Half::Value, self.out);
        self.out.put_u8(b'\n');
    }

    /// Ends the frame. SEND, MESSAGE and ERROR get a `content-length`, 0 included, and the body;
    /// other commands have no body, so a body given to them is not written.
    pub fn finish(self, body: &[u8]) {
        if self.command.may_have_body() {
            // Writing to a growing buffer does not fail.
            let _ = write!(self.out, "{}:{}\n\n", header::CONTENT_LENGTH, body.len());
            self.out.put_slice(body);
        } else {
            self.out.put_u8(b'\n');
        }
        self.out.put_u8(0);
    }
}
