//! Accepts connections of both ports, and speaks HTTP on those of the one until they are upgraded.
//!
//! The loop is ours, because a WebSocket session runs on the bare socket: warp decides on the
//! request, hyper hands over the connection, and what comes out is the `TcpStream` itself.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::BindError;
use crate::node::Node;
use crate::{http, tcp};

/// Connections that wait to be accepted; beyond it the kernel lets clients try again.
const BACKLOG: i32 = 4096;

/// Bytes of one HTTP request's head.
const MAX_HEAD: usize = 16 * 1024;

/// The ports that clients connect to.
pub(crate) struct Listeners {
    /// WebSocket.
    pub(crate) web: TcpListener,
    /// STOMP without WebSocket, where it is on.
    pub(crate) stomp: Option<TcpListener>,
}

/// Where a request comes from; behind a proxy that is the proxy's address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A connection, by the port it came to.
enum Accepted {
    Web(TcpStream, IpAddr),
    Stomp(TcpStream, IpAddr),
}

impl Listeners {
    async fn accept(&self) -> io::Result<Accepted> {
        let stomp = async {
            match &self.stomp {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            accepted = self.web.accept() => accepted.map(|(socket, peer)| Accepted::Web(socket, peer.ip())),
            accepted = stomp => accepted.map(|(socket, peer)| Accepted::Stomp(socket, peer.ip())),
        }
    }
}

/// Binds a listening socket.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit both. Peers that vanished without a word are found out within
        // two minutes even where no heart-beats were agreed on.
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(Duration::from_secs(60))
                .with_interval(Duration::from_secs(15))
                .with_retries(4),
        )?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|source| BindError { address, source })
}

/// Accepts for ever.
pub(crate) async fn accept(listeners: Listeners, node: Arc<Node>) {
    let routes = http::routes(Arc::clone(&node));
    let handshakes = Arc::new(Semaphore::new(node.config.max_handshakes));
    loop {
        // Connections beyond the limit wait here, and then in the kernel's backlog. The semaphore is
        // never closed.
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        match listeners.accept().await {
            Ok(Accepted::Stomp(socket, address)) => tcp::serve(socket, address, &node, permit),
            Ok(Accepted::Web(socket, address)) => {
                let served = serve(socket, address, routes.clone(), node.config.request_timeout);
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: those that are open go on.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Speaks HTTP on one connection.
async fn serve(
    socket: TcpStream,
    address: IpAddr,
    routes: http::Routes,
    request_timeout: Duration,
) {
    let routes = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(address));
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(request_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    match tokio::time::timeout(2 * request_timeout, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => tracing::debug!("connection took too long"),
    }
}
