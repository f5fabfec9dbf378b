//! Accepts connections of both ports, and speaks HTTP on those of the one until they are upgraded.
//!
//! The loop is ours, because a WebSocket session runs on the bare socket: warp decides on the
//! request, hyper hands over the connection, and what comes out is the `TcpStream` itself.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::BindError;
use crate::http::{Caller, Site};
use crate::node::Node;
use crate::place::Place;
use crate::{http, tcp};

/// Connections that wait to be accepted; beyond it the kernel lets clients try again.
const BACKLOG: i32 = 4096;

/// How long the last bytes of a connection may take whose time is over.
const FAREWELL: Duration = Duration::from_millis(500);

/// Bytes of one HTTP request's head.
const MAX_HEAD: usize = 16 * 1024;

/// The ports that clients connect to.
pub(crate) struct Listeners {
    /// WebSocket.
    pub(crate) web: TcpListener,
    /// STOMP without WebSocket, where it is on.
    pub(crate) stomp: Option<TcpListener>,
}

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
pub(crate) async fn accept(listeners: Listeners, node: Arc<Node>, site: Arc<Site>) {
    let routes = http::routes(site);
    let handshakes = Arc::new(Semaphore::new(node.config.max_handshakes));
    loop {
        // Connections beyond the limit wait here, and then in the kernel's backlog. The semaphore is
        // never closed.
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        match listeners.accept().await {
            Ok(Accepted::Stomp(socket, address)) => tcp::serve(socket, address, &node, permit),
            Ok(Accepted::Web(socket, address)) => {
                let limit = node.config.max_handshakes;
                let patience = 2 * node.config.request_timeout;
                let place = Place::new(&handshakes, limit, permit, patience);
                let caller = Caller { address, place };
                tokio::spawn(serve(socket, routes.clone(), caller, node.config.request_timeout));
            }
            Err(error) => {
                // Out of file descriptors, most likely: those that are open go on.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Speaks HTTP on one connection, until its time is over.
async fn serve(socket: TcpStream, routes: http::Routes, caller: Caller, request_timeout: Duration) {
    let place = Arc::clone(&caller.place);
    let web = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        web.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(request_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = place.over() => {
            // Between two requests it ends at once; one in the middle of an answer has had its time.
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(FAREWELL, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => tracing::debug!("connection took too long"),
    }
}
