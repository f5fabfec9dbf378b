//! A STOMP session over a WebSocket, as cheap as a load generator needs it.
//!
//! All sessions read into one buffer of the thread, so an idle one holds its socket and little
//! else, and a delivery is looked at where it was read: nothing is allocated for it.
//!
//! What a paced delivery costs here is the kernel's: of 8 us, 4 were the TCP acknowledgement that
//! reading sends, 2 the rest of the `recv(2)`, 1 `epoll_wait(2)`, 1 this program (perf, loopback).
//!
//! Invariants
//! - One read per wake-up: a short read means the socket is empty, and tokio knows it.
//! - Pings are answered and heart-beats sent while the session is being read, not otherwise.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::frame::{Event, ScanError, Scanner, StompFrame, write_pong, write_text};
use super::target::{HeartBeat, Target};

/// How long the server may take over one step: CONNECTED, the RECEIPTs, room for a SEND. Ample: a
/// broker that lets in 94 sessions per second answers 64 concurrent ones within a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// One read takes what 64 messages of 1 KiB need.
const READ_BUFFER: usize = 64 << 10;

/// The largest answer to an upgrade that is waited for.
const LARGEST_UPGRADE: usize = 16 << 10;

/// The nonce of RFC 6455 section 1.3, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into_boxed_slice());
}

/// Why a session ended or never began.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// TCP did not connect.
    #[error("cannot connect to {url}")]
    Connect {
        /// What was tried.
        url: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server speaks HTTP but does not upgrade.
    #[error("{url} does not upgrade to a WebSocket but answers `{answer}`{}", hint(.answer))]
    Upgrade {
        /// What was tried.
        url: String,
        /// The status line.
        answer: String,
    },
    /// The server sent ERROR: its `message` header.
    #[error("the server sent ERROR: {0}")]
    Stomp(String),
    /// The server closed the session, with a close frame or without.
    #[error("the server closed the session ({0})")]
    Closed(String),
    /// The server sent what is no WebSocket or STOMP frame.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The server took longer than [`PATIENCE`] over a step.
    #[error("no {0} within {limit:?}", limit = PATIENCE)]
    TimedOut(&'static str),
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

fn hint(answer: &str) -> &'static str {
    match answer.split(' ').nth(1) {
        Some("404") => ": is the path right? (Footbridge and RabbitMQ: /ws)",
        Some("401" | "403") => ": it does not let this client in",
        _ => "",
    }
}

/// An open session.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    scanner: Scanner,
    /// Goes off when a heart-beat is owed.
    beat: Option<Interval>,
}

impl Client {
    /// Session `index` of `sessions`: TCP, WebSocket upgrade, CONNECT and CONNECTED.
    pub(super) async fn connect(
        target: &Target,
        index: usize,
        sessions: usize,
    ) -> Result<Self, ClientError> {
        let opened = timeout(PATIENCE, async {
            let stream = dial(target, index, sessions)
                .await
                .map_err(|source| ClientError::Connect { url: target.url.clone(), source })?;
            let mut client = Self { stream, scanner: Scanner::default(), beat: None };
            client.upgrade(target).await?;
            client.send(&[target.connect.as_bytes(), b"\0"].concat()).await?;
            let mut server = HeartBeat(0, 0);
            client
                .wait_for(b"CONNECTED", 1, |frame| {
                    let beat = frame.header("heart-beat").and_then(|beat| beat.parse().ok());
                    server = beat.unwrap_or(server);
                })
                .await?;
            client.beat = target.heart_beat.owed(server).map(|period| {
                let mut beat = interval(Duration::from_millis(u64::from(period)));
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                beat
            });
            Ok(client)
        });
        opened.await.unwrap_or(Err(ClientError::TimedOut("CONNECTED")))
    }

    /// Subscribes to each destination, as `sub-0` and up, and waits for their RECEIPTs.
    pub(super) async fn subscribe(&mut self, destinations: &[String]) -> Result<(), ClientError> {
        let mut frames = Vec::new();
        for (index, destination) in destinations.iter().enumerate() {
            let destination = escape(destination);
            let frame = format!(
                "SUBSCRIBE\nid:sub-{index}\ndestination:{destination}\nack:auto\n\
                 receipt:sub-{index}\n\n\0"
            );
            write_text(&mut frames, frame.as_bytes());
        }
        let subscribed = timeout(PATIENCE, async {
            self.stream.write_all(&frames).await?;
            self.wait_for(b"RECEIPT", destinations.len(), |_| {}).await
        });
        subscribed.await.unwrap_or(Err(ClientError::TimedOut("RECEIPT for SUBSCRIBE")))
    }

    /// Sends bytes of STOMP as one WebSocket frame. Fails if the server takes none for long.
    pub(super) async fn send(&mut self, stomp: &[u8]) -> Result<(), ClientError> {
        let mut frame = Vec::with_capacity(stomp.len() + 14);
        write_text(&mut frame, stomp);
        match timeout(PATIENCE, self.stream.write_all(&frame)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(ClientError::TimedOut("room to send")),
        }
    }

    /// Waits for bytes, reads once, and shows each STOMP frame in them. Dropping the future loses
    /// nothing.
    pub(super) async fn read(
        &mut self,
        mut show: impl FnMut(&StompFrame<'_>),
    ) -> Result<(), ClientError> {
        poll_fn(|wake| READ.with_borrow_mut(|buffer| self.poll_read(wake, buffer, &mut show))).await
    }

    /// Reads for as long as the session lives: it returns only when the session fails.
    pub(super) async fn read_on(&mut self, mut show: impl FnMut(&StompFrame<'_>)) -> ClientError {
        loop {
            if let Err(error) = self.read(&mut show).await {
                return error;
            }
        }
    }

    fn poll_read(
        &mut self,
        wake: &mut Context<'_>,
        buffer: &mut [u8],
        show: &mut impl FnMut(&StompFrame<'_>),
    ) -> Poll<Result<(), ClientError>> {
        while let Some(beat) = &mut self.beat
            && beat.poll_tick(wake).is_ready()
        {
            let mut frame = Vec::new();
            write_text(&mut frame, b"\n");
            self.answer(&frame);
        }
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(wake, &mut read))?;
        let mut input = read.filled();
        if input.is_empty() {
            return Poll::Ready(Err(ClientError::Closed("without a close frame".to_owned())));
        }
        let mut pong = Vec::new();
        while let Some(event) = self.scanner.next(&mut input)? {
            match event {
                Event::Stomp(frame) => {
                    let Some(frame) = StompFrame::parse(frame) else {
                        let message = format!("not STOMP: `{}`", frame.escape_ascii());
                        return Poll::Ready(Err(ClientError::Closed(message)));
                    };
                    if frame.command == b"ERROR" {
                        let message = frame.header("message").map(|message| unescape(&message));
                        let body = || String::from_utf8_lossy(frame.body).into_owned();
                        return Poll::Ready(Err(ClientError::Stomp(message.unwrap_or_else(body))));
                    }
                    show(&frame);
                }
                Event::Ping(payload) => write_pong(&mut pong, payload),
                Event::Close(code, reason) => {
                    let code = code.map_or("no code".to_owned(), |code| code.to_string());
                    let reason = format!("{code}: {}", String::from_utf8_lossy(reason));
                    return Poll::Ready(Err(ClientError::Closed(reason)));
                }
            }
        }
        self.answer(&pong);
        Poll::Ready(Ok(()))
    }

    /// A pong or a heart-beat. If the socket is full the server is not short of signs of life.
    fn answer(&self, frame: &[u8]) {
        if !frame.is_empty() {
            let _ = self.stream.try_write(frame);
        }
    }

    /// Reads until `count` frames with that command have come.
    async fn wait_for(
        &mut self,
        command: &[u8],
        count: usize,
        mut show: impl FnMut(&StompFrame<'_>),
    ) -> Result<(), ClientError> {
        let mut seen = 0;
        while seen < count {
            self.read(|frame| {
                if frame.command == command {
                    seen += 1;
                    show(frame);
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn upgrade(&mut self, target: &Target) -> Result<(), ClientError> {
        let Target { path, authority, .. } = target;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Protocol: v12.stomp, v11.stomp, v10.stomp\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await?;
        // A STOMP server speaks only after CONNECT, so nothing of worth follows the head.
        let mut head = Vec::with_capacity(1024);
        while memmem::find(&head, b"\r\n\r\n").is_none() && head.len() < LARGEST_UPGRADE {
            if self.stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        let head = String::from_utf8_lossy(&head);
        let answer = head.lines().next().unwrap_or_default();
        let switched = answer.split(' ').nth(1) == Some("101") && head.contains(ACCEPT);
        if switched {
            Ok(())
        } else {
            Err(ClientError::Upgrade { url: target.url.clone(), answer: answer.to_owned() })
        }
    }
}

async fn dial(target: &Target, index: usize, sessions: usize) -> io::Result<TcpStream> {
    let socket = if target.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = target.source(index, sessions) {
        socket.bind(source)?;
    }
    let stream = socket.connect(target.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A header value with the escapes of STOMP 1.2.
pub(super) fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n").replace(':', "\\c")
}

/// What [`escape`] made of; anything else, as of a server that does not escape, stays as it is.
fn unescape(value: &str) -> String {
    let mut plain = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let meant = match after.chars().next() {
            Some('\\') => '\\',
            Some('c') => ':',
            Some('n') => '\n',
            Some('r') => '\r',
            _ => {
                plain.push('\\');
                rest = after;
                continue;
            }
        };
        plain.push(meant);
        rest = &after[1..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::super::frame::write_server_text;
    use super::super::target::Login;

    const SWITCHED: &[u8] =
        b"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn text(stomp: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_server_text(&mut out, stomp.as_bytes());
        out
    }

    fn target(listener: &TcpListener) -> Target {
        let login = Login {
            login: None,
            passcode: None,
            host: "/".to_owned(),
            heart_beat: HeartBeat(0, 0),
        };
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        Target::new(&url, &login).unwrap()
    }

    /// A server that answers each thing it reads with the next of `answers`, and hangs up after
    /// one read more, which is what the thread returns.
    fn scripted(answers: Vec<Vec<u8>>) -> (Target, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let target = target(&listener);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            for answer in answers {
                assert!(stream.read(&mut buffer).unwrap() > 0);
                stream.write_all(&answer).unwrap();
            }
            let last = stream.read(&mut buffer).unwrap_or_default();
            buffer[..last].to_vec()
        });
        (target, server)
    }

    async fn refusal(answers: Vec<Vec<u8>>) -> String {
        let (target, _) = scripted(answers);
        let opened = async {
            let mut client = Client::connect(&target, 0, 1).await?;
            client.subscribe(&["/topic/a".to_owned()]).await
        };
        opened.await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_quoted() {
        let connected = || text("CONNECTED\nversion:1.2\n\n\0\n");
        let refused = refusal(vec![b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()]).await;
        assert!(refused.contains("404") && refused.contains("is the path right?"), "{refused}");
        let other = SWITCHED.to_ascii_lowercase();
        assert!(refusal(vec![other]).await.contains("does not upgrade"), "wrong accept key");
        let error = text("ERROR\nmessage:bad login\\c x\n\nAccess refused\0");
        let refused = refusal(vec![SWITCHED.to_vec(), error.clone()]).await;
        assert_eq!(refused, "the server sent ERROR: bad login: x");
        let refused = refusal(vec![SWITCHED.to_vec(), connected(), error]).await;
        assert_eq!(refused, "the server sent ERROR: bad login: x");
        let close = b"\x88\x06\x11\x94slow".to_vec();
        let refused = refusal(vec![SWITCHED.to_vec(), connected(), close]).await;
        assert_eq!(refused, "the server closed the session (4500: slow)");
    }

    #[tokio::test]
    async fn a_ping_is_answered_while_reading() {
        let mut answer = text("\nRECEIPT\nreceipt-id:sub-0\n\n\0\n");
        answer.extend_from_slice(b"\x89\x04ping");
        let connected = text("CONNECTED\n\n\0");
        let (target, server) = scripted(vec![SWITCHED.to_vec(), connected, answer]);
        let mut client = Client::connect(&target, 0, 1).await.unwrap();
        client.subscribe(&["/topic/a".to_owned()]).await.unwrap();
        let ended = client.read_on(|_| {}).await;
        assert!(matches!(ended, ClientError::Closed(_)), "{ended}");
        let mut pong = Vec::new();
        write_pong(&mut pong, b"ping");
        assert_eq!(server.join().unwrap(), pong);
    }

    #[tokio::test]
    async fn heart_beats_are_sent_while_reading() {
        let connected = text("CONNECTED\nheart-beat:0,1\n\n\0");
        let (mut target, server) = scripted(vec![SWITCHED.to_vec(), connected]);
        target.heart_beat = HeartBeat(1, 0);
        let mut client = Client::connect(&target, 0, 1).await.unwrap();
        client.read_on(|_| {}).await;
        let mut beat = Vec::new();
        write_text(&mut beat, b"\n");
        assert!(server.join().unwrap().starts_with(&beat));
    }

    #[test]
    fn header_values_are_escaped() {
        assert_eq!(escape("/topic/a:b\\c\r\n"), "/topic/a\\cb\\\\c\\r\\n");
        assert_eq!(unescape("/topic/a\\cb\\\\c\\r\\n"), "/topic/a:b\\c\r\n");
        assert_eq!(unescape("a: C\\temp \\"), "a: C\\temp \\");
    }

    #[test]
    fn a_wrong_path_is_explained() {
        let error = |answer: &str| {
            let url = "ws://h/x".to_owned();
            ClientError::Upgrade { url, answer: answer.to_owned() }.to_string()
        };
        assert!(error("HTTP/1.1 404 Not Found").contains("is the path right?"));
        assert!(error("HTTP/1.1 403 Forbidden").contains("does not let this client in"));
        assert!(error("HTTP/1.1 200 OK").ends_with("`HTTP/1.1 200 OK`"));
    }
}
