//! The opening of a connection, which can be given up at any time.
//!
//! Invariants
//! - An opening that is dropped before its end closes its socket. lapin has a thread per connection
//!   from the start, and one whose peer says nothing would wait for it for ever.
//! - What was written and has not arrived when a connection ends is not sent any more: it is published
//!   again on the next one, and the original could come after its repeat. A good-bye loses nothing by
//!   that, for RabbitMQ answers it.
//! - lapin reads from the socket through [`Mended`] alone.

use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use socket2::{SockRef, Socket};

use crate::reading::{self, Mended};

/// The socket of a connection that is being opened.
#[derive(Debug, Default)]
struct Opening(Arc<Mutex<Progress>>);

#[derive(Debug, Default)]
enum Progress {
    /// There is no socket yet.
    #[default]
    Resolving,
    /// RabbitMQ has yet to let us in.
    Connected(Socket),
    /// It is open, or was given up.
    Over,
}

/// Connects and logs in.
pub(crate) async fn open(
    uri: AMQPUri,
    authorities: Option<String>,
    properties: ConnectionProperties,
) -> lapin::Result<Connection> {
    let opening = Opening::default();
    let progress = opening.0.clone();
    let on = lapin::runtime::default_runtime()?;
    let connect = async move |uri: AMQPUri, _| {
        let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri.clone() };
        let stream = plain.connect_async(&on).await?;
        if let AsyncTcpStream::Plain(stream) = &stream {
            let socket = SockRef::from(stream.get_ref()).try_clone()?;
            // Its end is a reset.
            socket.set_linger(Some(Duration::ZERO))?;
            let mut progress = progress.lock();
            if let Progress::Over = *progress {
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            }
            *progress = Progress::Connected(socket);
        }
        let stream = match uri.scheme {
            AMQPScheme::AMQP => stream,
            AMQPScheme::AMQPS => {
                let tls = OwnedTLSConfig { cert_chain: authorities.clone(), identity: None };
                stream.into_tls(&uri.authority.host, tls.as_ref()).await?
            }
        };
        let frame_max = uri.query.frame_max.unwrap_or_default();
        Ok(AsyncTcpStream::Plain(Mended::new(stream, frame_max)))
    };
    let connection = Connection::connector(uri, reading::runtime(), connect, properties).await;
    *opening.0.lock() = Progress::Over;
    connection
}

impl Drop for Opening {
    fn drop(&mut self) {
        let progress = std::mem::replace(&mut *self.0.lock(), Progress::Over);
        if let Progress::Connected(socket) = progress {
            // An error means that it is closed already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}
