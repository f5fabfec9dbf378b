//! A TCP proxy that fails on demand, for any leg: gateway to RabbitMQ, gateway to Redis, client to
//! gateway.
//!
//! What always holds:
//! - a cut or a half-open is in force when its call returns: not one more byte or end passes;
//! - bytes are never lost, doubled or reordered within a connection: a fault holds them back or ends
//!   the connection, as TCP does;
//! - a connection holds at most `CHUNKS` chunks of `CHUNK` bytes per direction; then the proxy reads
//!   no more, and the sender feels it.
//!
//! The tasks live on the runtime that called [`Proxy::start`] or [`Proxy::heal`] last, and end with
//! the value.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::StartError;
use crate::ports::Ports;

/// The most that is read at once, in bytes.
const CHUNK: usize = 16 * 1024;
/// How many chunks may be on their way in one direction of a connection.
const CHUNKS: usize = 64;

/// A listener on 127.0.0.1 whose connections go to a target, as far as the faults let them.
#[derive(Debug)]
pub struct Proxy {
    ports: Ports,
    target: SocketAddr,
    /// What the connections obey; a writer looks at it under its lock for every write.
    flow: watch::Sender<Flow>,
    /// The running connections. Locked to add, take or reap them, never longer.
    connections: Arc<Mutex<JoinSet<()>>>,
    totals: Arc<Totals>,
    /// Holds the listener; `None` while cut.
    acceptor: Option<JoinHandle<()>>,
}

/// What has gone through a proxy since it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open at the moment, also those that are held.
    pub open: u64,
    /// Bytes written to the target.
    pub to_target: u64,
    /// Bytes written to clients.
    pub to_clients: u64,
}

impl Proxy {
    /// Listens on a port of its own; connects to `target` for each client. A client whose target
    /// cannot be reached is closed.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(target: impl Into<SocketAddr>) -> Result<Proxy, StartError> {
        let mut proxy = Proxy {
            ports: Ports::reserve()?,
            target: target.into(),
            flow: watch::Sender::new(Flow::default()),
            connections: Arc::default(),
            totals: Arc::default(),
            acceptor: None,
        };
        proxy.heal().await?;
        Ok(proxy)
    }

    /// The port on 127.0.0.1 to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.get(0)
    }

    /// The address to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// Ends every fault; what was held passes.
    ///
    /// # Errors
    /// When the port cannot be listened on again.
    pub async fn heal(&mut self) -> Result<(), StartError> {
        self.flow.send_replace(Flow::default());
        if self.acceptor.is_none() {
            let listener = TcpListener::bind(self.address()).await;
            let listener =
                listener.map_err(StartError::io(format!("listen on {}", self.port())))?;
            self.acceptor = Some(tokio::spawn(accept(
                listener,
                self.target,
                self.flow.subscribe(),
                self.connections.clone(),
                self.totals.clone(),
            )));
        }
        Ok(())
    }

    /// Closes every connection and refuses new ones, like a host whose server is gone.
    pub async fn cut(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.abort();
            // The listener is closed when the task is gone, not when it is told to go.
            let _ = acceptor.await;
        }
        self.drop_connections().await;
    }

    /// Closes every connection; new ones are accepted.
    pub async fn drop_connections(&mut self) {
        let mut connections = std::mem::take(&mut *self.connections.lock());
        connections.shutdown().await;
    }

    /// Passes nothing in either direction and closes nothing, like a cable pulled behind a switch:
    /// neither side learns that the other went away. New connections are accepted and get no answer.
    /// What is sent meanwhile waits in the senders' socket buffers, and passes after
    /// [`heal`](Proxy::heal).
    pub fn half_open(&mut self) {
        self.flow.send_modify(|flow| flow.held = true);
    }

    /// Delivers each byte this much later, in both directions; the throughput stays, up to 1 MiB on
    /// its way per direction.
    pub fn delay(&mut self, delay: Duration) {
        self.flow.send_modify(|flow| flow.delay = delay);
    }

    /// Passes at most so much per connection and direction.
    pub fn trickle(&mut self, bytes_per_second: NonZeroU64) {
        self.flow.send_modify(|flow| flow.bytes_per_second = Some(bytes_per_second));
    }

    /// What has gone through so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            accepted: read(&self.totals.accepted),
            open: read(&self.totals.open),
            to_target: read(&self.totals.to_target),
            to_clients: read(&self.totals.to_clients),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.abort();
        }
        self.connections.lock().abort_all();
    }
}

/// What passes, and how.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    held: bool,
    delay: Duration,
    bytes_per_second: Option<NonZeroU64>,
}

#[derive(Debug, Default)]
struct Totals {
    accepted: AtomicU64,
    open: AtomicU64,
    to_target: AtomicU64,
    to_clients: AtomicU64,
}

/// Counts a connection as open while it lives, also when its task is aborted.
struct Open(Arc<Totals>);

impl Open {
    fn new(totals: Arc<Totals>) -> Open {
        totals.accepted.fetch_add(1, Ordering::Relaxed);
        totals.open.fetch_add(1, Ordering::Relaxed);
        Open(totals)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    flow: watch::Receiver<Flow>,
    connections: Arc<Mutex<JoinSet<()>>>,
    totals: Arc<Totals>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, or a client that left before it was accepted.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let open = Open::new(totals.clone());
        let flow = flow.clone();
        let mut connections = connections.lock();
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            // How a connection ends is for its two ends to see.
            let _ = connect(client, target, flow, &open.0).await;
        });
    }
}

async fn connect(
    client: TcpStream,
    target: SocketAddr,
    mut flow: watch::Receiver<Flow>,
    totals: &Totals,
) -> io::Result<()> {
    passing(&mut flow).await?;
    let target = TcpStream::connect(target).await?;
    // The proxy adds no delay of its own.
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_target, to_target) = target.into_split();
    tokio::try_join!(
        pump(from_client, to_target, flow.clone(), &totals.to_target),
        pump(from_target, to_client, flow, &totals.to_clients),
    )?;
    Ok(())
}

/// One direction of a connection, until its end has been passed on.
async fn pump(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    flow: watch::Receiver<Flow>,
    written: &AtomicU64,
) -> io::Result<()> {
    let (arrived, arrivals) = mpsc::channel(CHUNKS);
    tokio::try_join!(read(from, arrived, flow.clone()), write(arrivals, to, flow, written))?;
    Ok(())
}

/// Bytes and when they came; no bytes are the end of the stream.
type Arrival = (Instant, Vec<u8>);

async fn read(
    mut from: OwnedReadHalf,
    arrived: mpsc::Sender<Arrival>,
    mut flow: watch::Receiver<Flow>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        passing(&mut flow).await?;
        let length = tokio::select! {
            biased;
            _ = flow.wait_for(|flow| flow.held) => continue,
            length = from.read(&mut buffer) => length?,
        };
        let chunk = buffer[..length].to_vec();
        let sent = arrived.send((Instant::now(), chunk)).await;
        if sent.is_err() || length == 0 {
            return Ok(());
        }
    }
}

async fn write(
    mut arrivals: mpsc::Receiver<Arrival>,
    to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    written: &AtomicU64,
) -> io::Result<()> {
    while let Some((arrived, chunk)) = arrivals.recv().await {
        let mut rest = &chunk[..];
        loop {
            let Flow { delay, bytes_per_second, .. } = passing(&mut flow).await?;
            let due = arrived + delay;
            if Instant::now() < due {
                tokio::select! {
                    () = sleep_until(due) => {}
                    _ = flow.changed() => {}
                }
                continue;
            }
            if chunk.is_empty() {
                let flow = flow.borrow();
                if flow.held {
                    continue;
                }
                // That shuts the direction down, and under the lock as `write_if_passing` does.
                drop(to);
                return Ok(());
            }
            // A twentieth of a second's worth at a time.
            let share = match bytes_per_second {
                Some(rate) => usize::try_from(rate.get().div_ceil(20)).unwrap_or(usize::MAX),
                None => usize::MAX,
            };
            to.writable().await?;
            let length = match write_if_passing(&to, &rest[..share.min(rest.len())], &flow) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                length => length?,
            };
            written.fetch_add(length as u64, Ordering::Relaxed);
            if let Some(rate) = bytes_per_second {
                sleep(Duration::from_secs_f64(length as f64 / rate.get() as f64)).await;
            }
            rest = &rest[length..];
            if rest.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Writes under the lock of the flow: whoever changes it waits for the write, and no write comes
/// after. `WouldBlock` when it is held or the socket is full.
fn write_if_passing(
    to: &OwnedWriteHalf,
    bytes: &[u8],
    flow: &watch::Receiver<Flow>,
) -> io::Result<usize> {
    let flow = flow.borrow();
    match flow.held {
        true => Err(io::ErrorKind::WouldBlock.into()),
        false => to.try_write(bytes),
    }
}

/// Waits until bytes may pass.
async fn passing(flow: &mut watch::Receiver<Flow>) -> io::Result<Flow> {
    let flow = flow.wait_for(|flow| !flow.held).await;
    flow.map(|flow| *flow).map_err(|_| io::ErrorKind::BrokenPipe.into())
}
