//! The faults, and what they are done to.

use std::fmt;
use std::time::Duration;

use tokio::time::timeout;

use crate::{CommandError, Proxy, RabbitMq, StartError};

/// How long a node may take to see that a silent connection is dead.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that goes wrong for a while. A leg is the connection of a node to RabbitMQ, by the
/// node's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// RabbitMQ is killed with SIGKILL, and started again.
    RabbitMqKilled,
    /// RabbitMQ is stopped as an operator stops it, and started again.
    RabbitMqStopped,
    /// RabbitMQ has a memory alarm and reads nothing from publishers.
    RabbitMqBlocked,
    /// A leg's connections are closed, and new ones refused.
    LegCut(usize),
    /// A leg's connections are closed; new ones are accepted at once.
    LegDropped(usize),
    /// A leg carries nothing until its node has given it up and tries another one.
    LegHalfOpen(usize),
    /// A leg carries nothing for a moment, shorter than its node needs to see it.
    LegStalled(usize),
}

/// What faults are done to.
#[derive(Debug)]
pub struct Rig {
    /// The broker of all nodes.
    pub rabbitmq: RabbitMq,
    /// The leg of each node, where there is a proxy in it. A fault of another leg is a mistake.
    pub legs: Vec<Proxy>,
    /// Connections that a leg had accepted when it went silent.
    accepted: u64,
}

/// Why a fault could not be done or undone.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// RabbitMQ did not start again, or a port could not be listened on again.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A command to RabbitMQ failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// There is no proxy in that leg.
    #[error("the leg of node {0} goes through no proxy, so it cannot fail")]
    NoLeg(usize),
    /// A node did not notice that its connection is dead.
    #[error("node {0} has not given its silent connection to RabbitMQ up after {PATIENCE:?}")]
    Unnoticed(usize),
}

impl Rig {
    /// A broker, and the proxies between the nodes and it.
    #[must_use]
    pub fn new(rabbitmq: RabbitMq, legs: Vec<Proxy>) -> Self {
        Self { rabbitmq, legs, accepted: 0 }
    }

    /// Begins a fault; on return it is in force.
    ///
    /// # Errors
    /// When it cannot be done.
    pub async fn begin(&mut self, fault: Fault) -> Result<(), FaultError> {
        match fault {
            Fault::RabbitMqKilled => self.rabbitmq.kill(),
            Fault::RabbitMqStopped => self.rabbitmq.stop().await,
            Fault::RabbitMqBlocked => self.rabbitmq.alarm(true).await?,
            Fault::LegCut(node) => self.leg(node)?.cut().await,
            Fault::LegDropped(node) => self.leg(node)?.drop_connections().await,
            Fault::LegHalfOpen(node) | Fault::LegStalled(node) => {
                let leg = self.leg(node)?;
                leg.half_open();
                self.accepted = leg.counts().accepted;
            }
        }
        Ok(())
    }

    /// Ends a fault; on return it is over, and what it hit may recover.
    ///
    /// # Errors
    /// When it cannot be undone.
    pub async fn end(&mut self, fault: Fault) -> Result<(), FaultError> {
        match fault {
            Fault::RabbitMqKilled | Fault::RabbitMqStopped => self.rabbitmq.start_again().await?,
            Fault::RabbitMqBlocked => self.rabbitmq.alarm(false).await?,
            Fault::LegDropped(_) => {}
            Fault::LegCut(node) | Fault::LegStalled(node) => self.leg(node)?.heal().await?,
            Fault::LegHalfOpen(node) => {
                let before = self.accepted;
                let leg = self.leg(node)?;
                let noticed = async {
                    while leg.counts().accepted == before {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                timeout(PATIENCE, noticed).await.map_err(|_| FaultError::Unnoticed(node))?;
                leg.heal().await?;
            }
        }
        Ok(())
    }

    fn leg(&mut self, node: usize) -> Result<&mut Proxy, FaultError> {
        self.legs.get_mut(node).ok_or(FaultError::NoLeg(node))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::RabbitMqKilled => write!(f, "RabbitMQ killed"),
            Fault::RabbitMqStopped => write!(f, "RabbitMQ stopped"),
            Fault::RabbitMqBlocked => write!(f, "RabbitMQ blocked by an alarm"),
            Fault::LegCut(node) => write!(f, "leg of node {node} cut"),
            Fault::LegDropped(node) => write!(f, "connections on the leg of node {node} dropped"),
            Fault::LegHalfOpen(node) => write!(f, "leg of node {node} half open"),
            Fault::LegStalled(node) => write!(f, "leg of node {node} stalled"),
        }
    }
}
