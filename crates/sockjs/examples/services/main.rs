//! Serves the endpoints that the protocol's tests and its clients' tests are run against.
//!
//! ```console
//! cargo run -p sockjs --example services -- --port 8081
//! ```

mod routes;

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser;

#[derive(Parser)]
#[command(
    about = "Endpoints /echo, /disabled_websocket_echo, /cookie_needed_echo, /close, /amplify"
)]
struct Arguments {
    /// Port on this machine.
    #[arg(long, default_value_t = 8081)]
    port: u16,
}

#[tokio::main]
async fn main() {
    let Arguments { port } = Arguments::parse();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    tracing::info!(%address, "serving");
    warp::serve(routes::routes()).run(address).await;
}
