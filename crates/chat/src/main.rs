//! An example to copy: a chat, as the service behind `/app`.
//!
//! Run it beside a node, and open `page/index.html`:
//!
//! ```text
//! cargo run --release -p chat
//! footbridge dev --application http://127.0.0.1:9090
//! ```
//!
//! What a Spring controller does by annotations stands in `chat`, a `match` for each kind of call; where this
//! service listens is the only argument there is.

mod chat;
mod history;

use std::error::Error;
use std::io::{self, Write};

use proto::v1::application_server::ApplicationServer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::chat::Chat;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9090".to_owned());
    let address =
        listen.parse().map_err(|error| format!("{listen}: {error}; use 127.0.0.1:9090, say"))?;
    let incoming = TcpIncoming::bind(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    writeln!(io::stdout(), "Chat  http://{}", incoming.local_addr()?)?;
    Server::builder()
        .add_service(ApplicationServer::new(Chat::default()))
        .serve_with_incoming_shutdown(incoming, async {
            // Without a handler for Ctrl-C it serves on until it is killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    Ok(())
}
