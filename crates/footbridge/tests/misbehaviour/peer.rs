//! A client on a bare socket that says whatever it is told to, whole frames or not.
//!
//! It answers nothing and sends no heart-beats, which it does not ask for either.

use std::net::Ipv4Addr;

use bytes::BytesMut;
use stomp::{Command, Decoder, Frame, Limits, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// What a gateway may send.
const LIMITS: Limits =
    Limits { frame: 1 << 20, headers: 1_000, header_length: 64 << 10, body: 1 << 20 };

/// What a peer that reads nothing can be sent before its gateway notices.
const SMALL: u32 = 4 << 10;

/// An open session.
pub(crate) struct Peer {
    socket: TcpStream,
    decoder: Decoder,
    input: BytesMut,
    /// A few characters of the session's id, as they stand in its `ack` tokens.
    pub(crate) tag: String,
}

impl Peer {
    /// A session at the gateway that listens on `port`.
    pub(crate) async fn connect(port: u16) -> Result<Self, String> {
        Self::on(TcpSocket::new_v4().map_err(broken)?, port).await
    }

    /// The same, for one that will not read much.
    pub(crate) async fn connect_small(port: u16) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().map_err(broken)?;
        socket.set_recv_buffer_size(SMALL).map_err(broken)?;
        Self::on(socket, port).await
    }

    /// A connection on which nothing was said.
    pub(crate) async fn silent(port: u16) -> Result<Self, String> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(broken)?;
        Ok(Self::new(socket))
    }

    async fn on(socket: TcpSocket, port: u16) -> Result<Self, String> {
        let socket = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.map_err(broken)?;
        let mut peer = Self::new(socket);
        peer.say("CONNECT\naccept-version:1.2\nhost:h\n\n").await?;
        let connected = peer.expect(Command::Connected).await?;
        let session = connected.header(header::SESSION).ok_or("no session")?;
        session[session.len() - 8..].clone_into(&mut peer.tag);
        Ok(peer)
    }

    fn new(socket: TcpStream) -> Self {
        Self { socket, decoder: Decoder::new(LIMITS), input: BytesMut::new(), tag: String::new() }
    }

    /// Sends a frame, without its NUL.
    pub(crate) async fn say(&mut self, frame: &str) -> Result<(), String> {
        self.write(format!("{frame}\0").as_bytes()).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        match timeout(PATIENCE, self.socket.write_all(bytes)).await {
            Ok(written) => written.map_err(broken),
            Err(_) => Err("the gateway does not read".to_owned()),
        }
    }

    /// The next frame. None once the gateway has ended the connection.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, String> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).map_err(broken)? {
                return Ok(Some(frame));
            }
            match timeout(PATIENCE, self.socket.read_buf(&mut self.input)).await {
                Ok(Ok(0)) => return Ok(None),
                Ok(read) => read.map_err(broken)?,
                Err(_) => return Err("nothing comes".to_owned()),
            };
        }
    }

    /// The next frame that is one of these.
    pub(crate) async fn expect(&mut self, command: Command) -> Result<Frame, String> {
        loop {
            match self.next().await? {
                Some(frame) if frame.command == command => return Ok(frame),
                Some(frame) if frame.command == Command::Error => {
                    return Err(format!("an ERROR in place of {command}: {}", message(&frame)));
                }
                Some(_) => {}
                None => return Err(format!("the end in place of {command}")),
            }
        }
    }

    /// Sends a frame and waits for its receipt.
    pub(crate) async fn ask(&mut self, frame: &str) -> Result<(), String> {
        let (head, body) = frame.split_once("\n\n").ok_or("no frame")?;
        self.say(&format!("{head}\nreceipt:asked\n\n{body}")).await?;
        self.expect(Command::Receipt).await.map(drop)
    }

    /// What the ERROR says that comes, after which nothing does.
    pub(crate) async fn error(mut self) -> Result<String, String> {
        let error = self.expect(Command::Error).await;
        let text = match error {
            Err(text) if text.starts_with("an ERROR") => text,
            Err(text) => return Err(text),
            Ok(frame) => message(&frame),
        };
        match self.next().await.map_err(|why| format!("{why} after ERROR {text}"))? {
            None => Ok(text),
            Some(frame) => Err(format!("{} after ERROR {text}", frame.command)),
        }
    }

    /// Ends the connection by a reset, as a machine does that was switched off and on.
    pub(crate) fn cut(self) -> Result<(), String> {
        self.socket.set_zero_linger().map_err(broken)
    }

    /// Ends the session as it should be.
    pub(crate) async fn leave(mut self) -> Result<(), String> {
        self.ask("DISCONNECT\n\n").await
    }
}

fn message(frame: &Frame) -> String {
    frame.header(header::MESSAGE).map_or_else(String::new, ToString::to_string)
}

fn broken(error: impl std::fmt::Display) -> String {
    format!("the connection broke: {error}")
}
