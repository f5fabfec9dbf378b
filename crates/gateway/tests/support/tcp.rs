//! Clients that speak STOMP on a bare socket, byte by byte if need be.

use std::io;

use bytes::BytesMut;
use gateway::Config;
use stomp::{Command, Decoder, Frame, Version, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{LIMITS, Node, config, timeout};

/// A node that serves them.
pub(crate) fn tcp_config() -> Config {
    Config { stomp_listen: Some("127.0.0.1:0".parse().unwrap()), ..config() }
}

pub(crate) struct TcpClient {
    pub(crate) socket: TcpStream,
    decoder: Decoder,
    input: BytesMut,
}

impl TcpClient {
    /// Connects without saying CONNECT.
    pub(crate) async fn open(node: &Node) -> Self {
        let socket = TcpStream::connect(node.stomp_address.unwrap()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut decoder = Decoder::new(LIMITS);
        // Nothing is escaped until a version is agreed on.
        decoder.set_version(Version::V1_0);
        Self { socket, decoder, input: BytesMut::new() }
    }

    pub(crate) async fn connect(node: &Node) -> Self {
        Self::connect_with(node, "1.2", "0,0").await
    }

    /// Connects with one version alone.
    pub(crate) async fn connect_with(node: &Node, version: &str, heart_beat: &str) -> Self {
        let mut client = Self::open(node).await;
        let connect = format!("CONNECT\naccept-version:{version}\nheart-beat:{heart_beat}\n\n\0");
        client.send(connect).await;
        let connected = client.frame().await;
        assert_eq!(connected.command, Command::Connected, "{connected:?}");
        assert_eq!(connected.header(header::VERSION).unwrap(), version);
        client.decoder.set_version(version.parse().unwrap());
        client
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(self.socket.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Subscribes and waits for the receipt; `headers` are whole lines.
    pub(crate) async fn subscribe(&mut self, id: &str, destination: &str, headers: &str) {
        self.send(format!(
            "SUBSCRIBE\nid:{id}\ndestination:{destination}\nreceipt:{id}\n{headers}\n\0"
        ))
        .await;
        self.receipt(id).await;
    }

    pub(crate) async fn receipt(&mut self, id: &str) {
        let frame = self.frame().await;
        assert_eq!(frame.command, Command::Receipt, "{frame:?}");
        assert_eq!(frame.header(header::RECEIPT_ID).unwrap(), id);
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).unwrap() {
                return frame;
            }
            let read = timeout(self.socket.read_buf(&mut self.input)).await.unwrap();
            assert_ne!(read, 0, "the connection is closed");
        }
    }

    /// The next MESSAGE's body.
    pub(crate) async fn body(&mut self) -> String {
        let frame = self.frame().await;
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        String::from_utf8(frame.body.to_vec()).unwrap()
    }

    /// The text of the ERROR that comes next, after which the connection ends in good order.
    pub(crate) async fn error(&mut self) -> String {
        let frame = self.frame().await;
        assert_eq!(frame.command, Command::Error, "{frame:?}");
        assert_eq!(self.rest().await.unwrap(), b"");
        frame.header(header::MESSAGE).unwrap().to_string()
    }

    /// Whatever comes until the connection ends.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.input).to_vec();
        timeout(self.socket.read_to_end(&mut rest)).await?;
        Ok(rest)
    }
}
