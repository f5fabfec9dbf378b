//! A STOMP client over WebSocket, for the terminal commands.

use anyhow::{Context, anyhow, bail};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use stomp::{Command, Decoder, Frame, Limits, Version, header};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The node of `footbridge dev`.
const DEFAULT_URL: &str = "ws://127.0.0.1:8080/ws";

/// Where to connect, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    // Read from the environment by hand: to clap, a variable is as good as an option given, and would
    // conflict with options that exclude these.
    /// The server's WebSocket endpoint [env: FOOTBRIDGE_URL] [default: ws://127.0.0.1:8080/ws]
    #[arg(long)]
    url: Option<String>,
    /// The `login` header of CONNECT.
    #[arg(long)]
    login: Option<String>,
    /// The `passcode` header of CONNECT [env: FOOTBRIDGE_PASSCODE]
    #[arg(long)]
    passcode: Option<String>,
    /// The `host` header of CONNECT: the virtual host [default: the host in the URL]
    #[arg(long)]
    host: Option<String>,
}

/// A connected session.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    decoder: Decoder,
    input: BytesMut,
}

/// What the other side may send; generous, since it is a server of the user's choice.
const LIMITS: Limits =
    Limits { frame: 256 << 20, headers: 1_000, header_length: 1 << 20, body: 256 << 20 };

impl Client {
    /// Connects and waits for CONNECTED.
    pub(crate) async fn connect(target: &Target) -> anyhow::Result<Self> {
        let said = |option: &Option<String>, variable| {
            option.clone().or_else(|| std::env::var(variable).ok())
        };
        let url = &said(&target.url, "FOOTBRIDGE_URL").unwrap_or_else(|| DEFAULT_URL.to_owned());
        let passcode = said(&target.passcode, "FOOTBRIDGE_PASSCODE");
        if !url.starts_with("ws://") {
            bail!("{url} is no ws:// URL such as {DEFAULT_URL}; TLS and plain HTTP are not spoken");
        }
        let mut request = url
            .as_str()
            .into_client_request()
            .with_context(|| format!("{url} is no URL such as {DEFAULT_URL}"))?;
        let host = request.uri().host().unwrap_or_default().to_owned();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", HeaderValue::from_static("v12.stomp"));
        let (socket, _) =
            tokio_tungstenite::connect_async(request).await.map_err(|error| explain(url, error))?;
        let mut decoder = Decoder::new(LIMITS);
        decoder.set_version(Version::V1_2);
        let mut client = Self { socket, decoder, input: BytesMut::new() };
        let mut connect = Frame::new(Command::Connect)
            .with_header(header::ACCEPT_VERSION, "1.2")
            .with_header(header::HOST, target.host.clone().unwrap_or(host))
            .with_header(header::HEART_BEAT, "0,0");
        for (name, value) in [(header::LOGIN, &target.login), (header::PASSCODE, &passcode)] {
            if let Some(value) = value {
                connect = connect.with_header(name, value.clone());
            }
        }
        client.send(&connect).await?;
        match client.next().await? {
            Some(frame) if frame.command == Command::Connected => Ok(client),
            Some(frame) => bail!("expected CONNECTED from {url}, got {}", frame.command),
            None => bail!("{url} closed the connection before CONNECTED"),
        }
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let mut bytes = BytesMut::new();
        frame.encode(Version::V1_2, &mut bytes);
        let message = match String::from_utf8(bytes.to_vec()) {
            Ok(text) => Message::text(text),
            Err(not_text) => Message::binary(not_text.into_bytes()),
        };
        self.socket.send(message).await.context("the connection broke")
    }

    /// The next frame; `None` once the server has closed in good order. ERROR is an error.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input)? {
                if frame.command == Command::Error {
                    let message = frame.headers.get(header::MESSAGE).map_or("", |text| text);
                    let body = String::from_utf8_lossy(&frame.body);
                    let body = body.trim();
                    return Err(match body {
                        "" => anyhow!("the server says: {message}"),
                        body if body == message => anyhow!("the server says: {message}"),
                        body => anyhow!("the server says: {message}: {body}"),
                    });
                }
                return Ok(Some(frame));
            }
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => self.input.extend_from_slice(text.as_bytes()),
                Some(Ok(Message::Binary(bytes))) => self.input.extend_from_slice(&bytes),
                Some(Ok(Message::Close(Some(close)))) if u16::from(close.code) != 1000 => {
                    bail!("the server closed: {} {}", close.code, close.reason)
                }
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the connection broke"),
            }
        }
    }

    /// Waits for the receipt `id`; other frames are dropped.
    pub(crate) async fn receipt(&mut self, id: &str) -> anyhow::Result<()> {
        while let Some(frame) = self.next().await? {
            if frame.command == Command::Receipt
                && frame.headers.get(header::RECEIPT_ID).is_some_and(|receipt| *receipt == id)
            {
                return Ok(());
            }
        }
        bail!("the server closed before it gave the receipt")
    }

    /// Says DISCONNECT and waits until all before it is done.
    pub(crate) async fn disconnect(mut self) -> anyhow::Result<()> {
        const RECEIPT: &str = "good-bye";
        let frame = Frame::new(Command::Disconnect).with_header(header::RECEIPT, RECEIPT);
        self.send(&frame).await?;
        self.receipt(RECEIPT).await
    }
}

/// What a failed handshake means, and what to do.
fn explain(url: &str, error: tungstenite::Error) -> anyhow::Error {
    match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let body = body.trim();
            anyhow!("{url} answers {} to a WebSocket handshake: {body}", response.status())
        }
        tungstenite::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            anyhow!("nobody listens at {url}: start a node with `footbridge dev`, or give --url")
        }
        error => anyhow::Error::new(error).context(format!("cannot connect to {url}")),
    }
}
