//! A client of WebSocket that sees every frame.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use presence::SessionId;
use stomp::{Command, Decoder, Frame, Version, header};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{frame, timeout};

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(super) decoder: Decoder,
    pub(super) input: BytesMut,
    /// Whether the last WebSocket message was binary.
    pub(crate) binary: bool,
    pub(crate) protocol: Option<String>,
    /// The session's id, where it was asked for.
    pub(super) session: Option<String>,
}

impl Client {
    pub(crate) fn session(&self) -> SessionId {
        SessionId::new(self.session.clone().unwrap()).unwrap()
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        timeout(self.socket.send(Message::text(text))).await.unwrap();
    }

    pub(crate) async fn send_binary(&mut self, bytes: impl Into<bytes::Bytes>) {
        timeout(self.socket.send(Message::binary(bytes))).await.unwrap();
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        frame.encode(Version::V1_2, &mut bytes);
        self.send_binary(bytes.freeze()).await;
    }

    /// Sends a frame of these headers, with `receipt:r` in front.
    pub(crate) async fn tell(&mut self, command: Command, headers: &[(&'static str, &str)]) {
        let mut all = vec![(header::RECEIPT, "r")];
        all.extend(headers);
        self.send(frame(command, &all)).await;
    }

    /// Sends a frame of these headers and waits for its receipt.
    pub(crate) async fn ask(&mut self, command: Command, headers: &[(&'static str, &str)]) {
        self.tell(command, headers).await;
        let answer = self.frame().await;
        assert_eq!(answer.command, Command::Receipt, "{answer:?}");
    }

    pub(crate) async fn subscribe(&mut self, id: &str, destination: &str) {
        self.subscribe_with(id, destination, &[]).await;
    }

    /// Subscribes and waits for the receipt.
    pub(crate) async fn subscribe_with(
        &mut self,
        id: &str,
        destination: &str,
        headers: &[(&'static str, &'static str)],
    ) {
        let mut frame = Frame::new(Command::Subscribe)
            .with_header(header::ID, id.to_owned())
            .with_header(header::DESTINATION, destination.to_owned())
            .with_header(header::RECEIPT, "subscribed");
        for &(name, value) in headers {
            frame = frame.with_header(name, value);
        }
        self.send(frame).await;
        let receipt = self.frame().await;
        assert_eq!(receipt.command, Command::Receipt, "{receipt:?}");
    }

    pub(crate) async fn publish(&mut self, destination: &str, body: impl Into<bytes::Bytes>) {
        self.send(
            Frame::new(Command::Send)
                .with_header(header::DESTINATION, destination.to_owned())
                .with_body(body),
        )
        .await;
    }

    /// Publishes and waits for the receipt.
    pub(crate) async fn publish_confirmed(
        &mut self,
        destination: &str,
        body: impl Into<bytes::Bytes>,
    ) {
        self.send(
            Frame::new(Command::Send)
                .with_header(header::DESTINATION, destination.to_owned())
                .with_header(header::RECEIPT, "published")
                .with_body(body),
        )
        .await;
        let receipt = self.frame().await;
        assert_eq!(receipt.command, Command::Receipt, "{receipt:?}");
    }

    /// Publishes to a topic that it is subscribed to, and waits for the message.
    pub(crate) async fn publish_confirmed_by_message(&mut self, destination: &str, body: &str) {
        self.publish(destination, body.to_owned()).await;
        assert_eq!(self.body().await, body);
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Frame {
        self.frame_or_close().await.unwrap_or_else(|close| panic!("closed with {close:?}"))
    }

    /// The next frame, for which more patience is needed.
    pub(crate) async fn frame_in(&mut self, patience: Duration) -> Frame {
        let frame = tokio::time::timeout(patience, self.next_frame()).await.expect("took too long");
        frame.unwrap_or_else(|close| panic!("closed with {close:?}"))
    }

    /// The next frame, or the close code.
    pub(crate) async fn frame_or_close(&mut self) -> Result<Frame, Option<u16>> {
        timeout(self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Result<Frame, Option<u16>> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).unwrap() {
                return Ok(frame);
            }
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    self.binary = false;
                    self.input.extend_from_slice(text.as_bytes());
                }
                Some(Ok(Message::Binary(bytes))) => {
                    self.binary = true;
                    self.input.extend_from_slice(&bytes);
                }
                Some(Ok(Message::Close(close))) => {
                    return Err(close.map(|close| close.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next MESSAGE's body.
    pub(crate) async fn body(&mut self) -> String {
        let frame = self.frame().await;
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        String::from_utf8(frame.body.to_vec()).unwrap()
    }

    /// The text and receipt-id of the ERROR that comes next, and the close code after it.
    pub(crate) async fn error(&mut self) -> (String, Option<String>, Option<u16>) {
        let frame = self.frame().await;
        assert_eq!(frame.command, Command::Error, "{frame:?}");
        let close = self.frame_or_close().await.expect_err("a close after ERROR");
        (
            frame.header(header::MESSAGE).unwrap().to_string(),
            frame.header(header::RECEIPT_ID).map(ToString::to_string),
            close,
        )
    }
}
