//! Real servers and faults for tests: RabbitMQ and Redis as child processes, and a TCP proxy that
//! fails on demand; gateways as child processes; and a [`checker`] that drives clients while they fail.
//!
//! What always holds:
//! - a server has its own ports on 127.0.0.1 and its own directory: it neither reads `/etc` nor
//!   meets a server of the machine, and any number run side by side;
//! - a server, and its directory, is gone when its value is dropped, and also when the test process
//!   ends in any other way, `kill -9` included;
//! - `start` returns when the server answers its protocol, not when it has been running a while.
//!
//! `cargo run -p testkit -- rabbitmq` starts one to play with; `... -- check --url ws://...` runs the
//! checker against running nodes. The servers are those of the Debian packages `rabbitmq-server` and
//! `redis-server`; the error names the package when one is missing.

pub mod checker;
mod command;
mod error;
mod ports;
mod process;
mod proxy;
mod rabbitmq;
mod redis;
mod sandbox;

pub use error::{CommandError, StartError};
pub use proxy::{Counts, Proxy};
pub use rabbitmq::{Plugin, RabbitMq, RabbitMqOptions, rabbitmq};
pub use redis::{Persistence, Redis, redis};
