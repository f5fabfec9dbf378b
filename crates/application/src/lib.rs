//! Reaches the application behind `/app`: services that speak gRPC, and queues that services consume.
//!
//! [`Routes`] is what a gateway asks: a call goes to the route of its longest prefix, to a service by gRPC
//! or to a queue of the broker's.
//!
//! ```text
//! gateway ── Routes ──┬── grpc ── addresses of one service, in turn
//!                     └── queue ── broker ── a service
//!                           ▲                  │
//!                        replies ◄─────────────┘  one queue per node
//! ```
//!
//! Invariants
//! - No call takes longer than its route's timeout, the wait for a free place included.
//! - A route has `max_concurrent` calls in flight; one more waits, and is refused when half its time is over.
//! - A call that may have reached a service is not made again.
//! - Who calls is said by the gateway alone: a client's header of such a name never gets here.
//! - What a client is told of a failure names no address and no error of a service's inside.
//!
//! Not here: the order of a session's calls, what becomes of an answer (the gateway).

mod address;
mod config;
mod grpc;
mod queue;
mod replies;
mod route;
mod wire;

pub use config::{Asked, Config, Invalid, RouteConfig};
pub use route::Routes;
