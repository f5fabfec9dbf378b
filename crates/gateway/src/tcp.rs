//! STOMP without WebSocket, on a port of its own: a connection is a session at once, and has until
//! `connect_timeout` to say CONNECT.
//!
//! What comes by mistake, such as HTTP or TLS, is no STOMP frame and answered as any other: with an
//! ERROR and the end of the connection. A page in a browser can get nothing else from here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::arrival::Arrival;
use crate::node::Node;
use crate::session::Session;
use crate::transport::{Tcp, Transport};

/// How a client that finds no room is counted: as over HTTP, for there is one list of refusals.
const NO_ROOM: u16 = 503;

/// How long a client that is turned away may take to read why.
const REFUSAL: Duration = Duration::from_secs(3);

/// Starts the session of a connection, or turns it away. `permit` is its place among the connections
/// that are no sessions.
pub(crate) fn serve(
    socket: TcpStream,
    address: IpAddr,
    node: &Arc<Node>,
    permit: OwnedSemaphorePermit,
) {
    let Ok(admission) = node.admit() else {
        node.metrics.refused(NO_ROOM);
        let refusal = turn_away(socket, Arc::clone(&node.stomp));
        tokio::spawn(async move {
            // A client that does not take it in time is cut off.
            let _ = tokio::time::timeout(REFUSAL, refusal).await;
            drop(permit);
        });
        return;
    };
    let arrival = Arrival { address, shown: None, device: ByteString::new() };
    node.tasks.spawn(Session::new(Arc::clone(node), admission, Tcp::new(socket), arrival).run());
}

/// Says ERROR and ends the connection.
async fn turn_away(mut socket: TcpStream, config: Arc<stomp::Config>) {
    let mut stomp = stomp::Session::new(config, Instant::now().into_std());
    let detail = "this node has no room for another session; try again later";
    stomp.fail(stomp::Title::ProcessingError, detail, None);
    while let Some(frame) = stomp.poll_said() {
        if socket.write_all(&frame).await.is_err() {
            return;
        }
    }
    Tcp::new(socket).finish().await;
}
