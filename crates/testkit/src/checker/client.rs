//! A STOMP 1.2 client over WebSocket, as plain as can be: frames go out and come in, and nothing is
//! answered, reconnected or hidden.

use std::io;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use stomp::{Command, DecodeError, Decoder, Frame, Limits, Version, header};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// What a server under test may send.
const LIMITS: Limits =
    Limits { frame: 16 << 20, headers: 1_000, header_length: 64 << 10, body: 16 << 20 };

/// An open session.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    decoder: Decoder,
    input: BytesMut,
    /// Its id.
    session: String,
}

/// Why there is no session, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not a `ws://` URL.
    #[error("{0:?} is no URL such as ws://127.0.0.1:8080/ws")]
    Url(String),
    /// The TCP connection or the WebSocket broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The server closed the WebSocket.
    #[error("closed by the server: {code} {reason}")]
    Closed {
        /// The close code; 1005 for none.
        code: u16,
        /// What it said.
        reason: String,
    },
    /// The server said ERROR.
    #[error("ERROR: {0}")]
    Refused(String),
    /// The server sent what is no STOMP frame.
    #[error("no STOMP: {0}")]
    Malformed(#[from] DecodeError),
    /// Another frame came in place of CONNECTED.
    #[error("{0} came in place of CONNECTED")]
    Unexpected(Command),
}

impl Client {
    /// Opens a session. The heart-beats agreed on are the caller's affair: it offers one every ten
    /// seconds and asks for as many.
    ///
    /// # Errors
    /// When the server is not there, or says no.
    pub async fn connect(url: &str) -> Result<Client, ClientError> {
        Client::connect_with(url, &[(header::HEART_BEAT, "10000,10000")]).await
    }

    /// Opens a session with these headers in its CONNECT, besides those that every one has.
    ///
    /// # Errors
    /// When the server is not there, or says no.
    pub async fn connect_with(url: &str, headers: &[(&str, &str)]) -> Result<Client, ClientError> {
        let no_url = |_| ClientError::Url(url.to_owned());
        let mut request = url.into_client_request().map_err(no_url)?;
        let host = request.uri().host().unwrap_or_default().to_owned();
        let protocol = HeaderValue::from_static("v12.stomp");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, None, true).await?;
        let (decoder, input) = (Decoder::new(LIMITS), BytesMut::new());
        let mut client = Client { socket, decoder, input, session: String::new() };
        let mut connect = Frame::new(Command::Connect)
            .with_header(header::ACCEPT_VERSION, "1.2")
            .with_header(header::HOST, host);
        for (name, value) in headers {
            connect = connect.with_header(*name, *value);
        }
        client.send(&connect).await?;
        match client.next().await? {
            frame if frame.command == Command::Connected => {
                let session = frame.header(header::SESSION).map(ToString::to_string);
                client.session = session.unwrap_or_default();
                Ok(client)
            }
            frame => Err(ClientError::Unexpected(frame.command)),
        }
    }

    /// The session's id, as the server said it.
    #[must_use]
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), ClientError> {
        let mut bytes = BytesMut::new();
        frame.encode(Version::V1_2, &mut bytes);
        let message = match String::from_utf8(bytes.to_vec()) {
            Ok(text) => Message::text(text),
            Err(not_text) => Message::binary(not_text.into_bytes()),
        };
        Ok(self.socket.send(message).await?)
    }

    /// Sends a heart-beat.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn beat(&mut self) -> Result<(), ClientError> {
        Ok(self.socket.send(Message::text("\n")).await?)
    }

    /// The next frame. Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// When there will be none: an ERROR is an error too.
    pub async fn next(&mut self) -> Result<Frame, ClientError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input)? {
                if frame.command == Command::Error {
                    let message = frame.header(header::MESSAGE).map_or("", |text| text);
                    let body = String::from_utf8_lossy(&frame.body);
                    let text = match body.trim() {
                        body if body.is_empty() || body == message => message.to_owned(),
                        body => format!("{message}: {body}"),
                    };
                    return Err(ClientError::Refused(text));
                }
                return Ok(frame);
            }
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => self.input.extend_from_slice(text.as_bytes()),
                Some(Ok(Message::Binary(bytes))) => self.input.extend_from_slice(&bytes),
                Some(Ok(Message::Close(close))) => {
                    let (code, reason) = match close {
                        Some(close) => (close.code.into(), close.reason.to_string()),
                        None => (1005, String::new()),
                    };
                    return Err(ClientError::Closed { code, reason });
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(ClientError::Broken("it ended without a close".to_owned())),
            }
        }
    }
}

impl From<tungstenite::Error> for ClientError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(response) => {
                let body = response.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body);
                let status = response.status();
                ClientError::Broken(format!("the handshake is answered {status}: {}", body.trim()))
            }
            tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ClientError::Broken("nobody listens there".to_owned())
            }
            error => ClientError::Broken(error.to_string()),
        }
    }
}
