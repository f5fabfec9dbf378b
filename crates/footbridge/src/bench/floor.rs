//! The floor: the least a fan-out can cost on this machine.
//!
//! A process that hands ready-made bytes to each subscriber's socket with one `send(2)` per
//! message in a bare loop, or, coalescing, one per everything due at that moment. It does just
//! enough of HTTP, WebSocket and STOMP for the same subscribers and publishers to talk to it:
//! their CPU, and the kernel's for them, is the same, and what a server needs above the floor is
//! its own doing.
//!
//! It answers to one generator on loopback and trusts it. Its threads: one accepts and opens
//! sessions one after the other, one per publisher reads, one sends.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client::escape;
use super::frame::{StompFrame, write_server_text};

/// The path publishers connect to, so that they are not taken for subscribers.
pub(super) const PUBLISH_PATH: &str = "/publish";

/// Messages read and not yet sent: publishers wait when it is full.
const MESSAGES_IN_FLIGHT: usize = 1_024;

/// How a floor sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Floor {
    /// One send(2) per subscriber and message
    Each,
    /// One send(2) per subscriber for all messages due
    Coalescing,
}

impl Floor {
    /// What the report calls it, and the process measured.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Each => "floor",
            Self::Coalescing => "coalescing floor",
        }
    }
}

/// The hidden command that a measurement starts as its child.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How to send
    #[arg(long, value_enum)]
    pub(super) floor: Floor,
    /// What MESSAGE says in its `destination` header
    #[arg(long)]
    pub(super) destination: String,
}

type Subscribers = Arc<Mutex<Vec<TcpStream>>>;

/// Serves on a free loopback port, written as the first line of standard output, until standard
/// input ends: so it never outlives the process that started it.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    serve(&listener, arguments);
    Ok(())
}

/// Serves for ever.
pub(super) fn serve(listener: &TcpListener, arguments: Arguments) {
    let subscribers = Subscribers::default();
    let (bodies, due) = sync_channel(MESSAGES_IN_FLIGHT);
    let sender = Arc::clone(&subscribers);
    std::thread::spawn(move || fan_out(&arguments, &due, &sender));
    for stream in listener.incoming() {
        // A client that goes away while it connects is its own affair: it reports it.
        let _ = stream.and_then(|stream| open(stream, &subscribers, &bodies));
    }
}

/// The floor itself.
fn fan_out(arguments: &Arguments, due: &Receiver<Vec<u8>>, subscribers: &Subscribers) {
    let mut bytes = Vec::new();
    while let Ok(body) = due.recv() {
        bytes.clear();
        write_message(&mut bytes, &arguments.destination, &body);
        if arguments.floor == Floor::Coalescing {
            for body in due.try_iter() {
                write_message(&mut bytes, &arguments.destination, &body);
            }
        }
        let mut subscribers = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain_mut(|stream| stream.write_all(&bytes).is_ok());
    }
}

/// As large as a gateway's: the message id stands for a ULID.
fn write_message(out: &mut Vec<u8>, destination: &str, body: &[u8]) {
    let length = body.len();
    let destination = escape(destination);
    let mut frame = format!(
        "MESSAGE\nsubscription:sub-0\ndestination:{destination}\n\
         message-id:01JD8W4S7N0000000000000000\ncontent-type:text/plain\n\
         content-length:{length}\n\n"
    )
    .into_bytes();
    frame.extend_from_slice(body);
    frame.push(0);
    write_server_text(out, &frame);
}

/// Upgrade and CONNECT; then a subscriber is put into the list and never read again, and a
/// publisher gets a thread.
fn open(
    stream: TcpStream,
    subscribers: &Subscribers,
    bodies: &SyncSender<Vec<u8>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    // The generator always sends the key of RFC 6455 section 1.3.
    (&stream).write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    read_frame(&mut reader)?;
    let mut connected = Vec::new();
    write_server_text(&mut connected, b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0");
    (&stream).write_all(&connected)?;
    if request.starts_with(&format!("GET {PUBLISH_PATH} ")) {
        drop(reader);
        let bodies = bodies.clone();
        stream.set_read_timeout(None)?;
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            while let Ok(frame) = read_frame(&mut reader) {
                let Some(send) = StompFrame::parse(&frame) else { break };
                let body = send.body.strip_suffix(b"\0").unwrap_or(send.body);
                if bodies.send(body.to_vec()).is_err() {
                    break;
                }
            }
        });
        return Ok(());
    }
    let mut receipts = Vec::new();
    loop {
        read_frame(&mut reader)?;
        write_server_text(&mut receipts, b"RECEIPT\nreceipt-id:sub-0\n\n\0");
        // All SUBSCRIBEs of a session come in one write.
        if reader.buffer().is_empty() {
            break;
        }
    }
    drop(reader);
    (&stream).write_all(&receipts)?;
    subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    Ok(())
}

/// The payload of one client frame (RFC 6455 section 5.2).
fn read_frame(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let [_, second] = read(reader)?;
    let length = match second & 0x7F {
        126 => u64::from(u16::from_be_bytes(read(reader)?)),
        127 => u64::from_be_bytes(read(reader)?),
        length => u64::from(length),
    };
    let mask: [u8; 4] = read(reader)?;
    let mut payload = Vec::new();
    reader.take(length).read_to_end(&mut payload)?;
    if payload.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(payload)
}

fn read<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::super::frame::{Event, Scanner, write_text};
    use super::super::message::Stamp;
    use super::super::target::{HeartBeat, Login, Target};
    use super::*;

    fn target(listener: &TcpListener, path: &str) -> Target {
        let heart_beat = HeartBeat(0, 0);
        let login = Login { login: None, passcode: None, host: "/".to_owned(), heart_beat };
        Target::new(&format!("ws://{}{path}", listener.local_addr().unwrap()), &login).unwrap()
    }

    #[tokio::test]
    async fn subscribers_of_either_floor_get_what_a_publisher_sends() {
        for floor in [Floor::Each, Floor::Coalescing] {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let (subscribe, publish) = (target(&listener, "/ws"), target(&listener, PUBLISH_PATH));
            let destination = "/topic/a".to_owned();
            let arguments = Arguments { floor, destination: destination.clone() };
            std::thread::spawn(move || serve(&listener, arguments));
            let mut subscribers = Vec::new();
            for index in 0..3 {
                let mut client = Client::connect(&subscribe, index, 3).await.unwrap();
                client.subscribe(std::slice::from_ref(&destination)).await.unwrap();
                subscribers.push(client);
            }
            let mut publisher = Client::connect(&publish, 0, 1).await.unwrap();
            for number in 0..10 {
                let body = Stamp { run: 1, number, intended: 2 }.body(300);
                let send = format!("SEND\ndestination:{destination}\n\n{body}\0");
                publisher.send(send.as_bytes()).await.unwrap();
            }
            for subscriber in &mut subscribers {
                let mut numbers = Vec::new();
                while numbers.len() < 10 {
                    let count = |frame: &StompFrame<'_>| {
                        assert_eq!(frame.body.len(), 300);
                        numbers.extend(Stamp::parse(frame.body).map(|stamp| stamp.number));
                    };
                    subscriber.read(count).await.unwrap();
                }
                assert_eq!(numbers, (0..10).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_client_frame_is_read_whatever_its_length() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'p'; length];
            let mut bytes = Vec::new();
            write_text(&mut bytes, &payload);
            assert_eq!(read_frame(&mut bytes.as_slice()).unwrap(), payload);
            bytes.pop();
            assert!(length == 0 || read_frame(&mut bytes.as_slice()).is_err());
        }
    }

    #[test]
    fn a_ready_made_message_is_what_a_subscriber_reads() {
        let mut bytes = Vec::new();
        write_message(&mut bytes, "/topic/bench", b"body");
        let mut scanner = Scanner::default();
        let Some(Event::Stomp(frame)) = scanner.next(&mut bytes.as_slice()).unwrap() else {
            panic!("no STOMP frame");
        };
        let message = StompFrame::parse(frame).unwrap();
        assert_eq!((message.command, message.body), (&b"MESSAGE"[..], &b"body"[..]));
        assert_eq!(message.header("destination").as_deref(), Some("/topic/bench"));
        assert_eq!(message.header("content-length").as_deref(), Some("4"));
    }
}
