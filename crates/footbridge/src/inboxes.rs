//! Where what waits for users is stored, and what brings it on its way.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use broker::destination::Verb;
use broker::{Broker, Destinations, PublisherId};
use cluster::{Dispatcher, DispatcherParts, Nodes, Router};
use inbox::{Config, DiskInbox, Durability, Durable, Error, Inbox, RedisInbox, Store};
use presence::{Groups, Presence, RedisConfig};

/// As whom a process publishes what is stored. Sessions and callers are numbered from below.
const DISPATCHER: PublisherId = PublisherId(u64::MAX - 2);

/// The file of the store in its directory.
const FILE: &str = "inboxes.redb";

/// The store of a process that is alone; none where nothing is to be stored. Nothing but its default directory
/// gives way to memory, and that only if it cannot be had.
pub(crate) fn alone(config: &Config) -> anyhow::Result<Option<Arc<dyn Inbox>>> {
    let config = &kept(config);
    let memory = || -> anyhow::Result<Arc<dyn Inbox>> {
        Ok(Arc::new(DiskInbox::memory(config.clone()).context("inbox.store = \"memory\"")?))
    };
    let directory = &config.directory;
    Ok(Some(match config.store {
        Store::None => return Ok(None),
        Store::Memory => memory()?,
        Store::Auto if *directory == Config::default().directory => {
            match on_disk(directory, config) {
                Ok(store) => store,
                Err(error @ Error::Corrupt(_)) => return Err(unopened(directory, error)),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "what waits for users is kept in memory, and gone with this process: --data gives it a \
                         directory of its own"
                    );
                    memory()?
                }
            }
        }
        Store::Auto | Store::Disk | Store::Redis => {
            on_disk(directory, config).map_err(|error| unopened(directory, error))?
        }
    }))
}

/// The store that all nodes with the same Redis share; none where nothing is to be stored. Must be called within
/// the runtime.
pub(crate) fn shared(config: &Config, redis: &RedisConfig) -> Option<Arc<dyn Inbox>> {
    let durability = Durability {
        unsafe_durability: config.unsafe_durability,
        wait_replicas: config.wait_replicas,
    };
    match config.store {
        Store::None => None,
        Store::Auto | Store::Redis | Store::Disk | Store::Memory => {
            Some(Arc::new(RedisInbox::start(kept(config), redis.clone(), durability)))
        }
    }
}

fn on_disk(directory: &Path, config: &Config) -> Result<Arc<dyn Inbox>, Error> {
    Ok(Arc::new(DiskInbox::open(&directory.join(FILE), config.clone())?))
}

fn unopened(directory: &Path, error: Error) -> anyhow::Error {
    let what = format!("cannot store what waits for users in {}", directory.display());
    anyhow::Error::new(error).context(what)
}

/// What has failed stays until it is published, where it is to be.
fn kept(config: &Config) -> Config {
    Config { keeps_failed: !config.dead_letter.is_empty(), ..config.clone() }
}

/// What the dispatcher of a process works with.
pub(crate) struct Around<'a> {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) groups: Arc<dyn Groups>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) destinations: &'a Destinations,
}

/// What brings on its way what is in `inbox`, if there is one.
pub(crate) fn dispatcher(
    config: &Config,
    inbox: Option<Arc<dyn Inbox>>,
    around: Around<'_>,
) -> anyhow::Result<Option<Dispatcher>> {
    let Some(inbox) = inbox else { return Ok(None) };
    let Around { broker, presence, groups, nodes, destinations } = around;
    let boot = presence.boot();
    let router = Router::new(Arc::clone(&broker), presence, groups, nodes);
    let durable =
        Durable::new(&config.durable).map_err(anyhow::Error::msg).context("inbox.durable")?;
    let grave = (!config.dead_letter.is_empty())
        .then(|| destinations.parse(&config.dead_letter, Verb::Send))
        .transpose()
        .context("inbox.dead_letter")?;
    Ok(Some(Dispatcher::new(DispatcherParts {
        inbox,
        router,
        broker,
        destinations: destinations.clone(),
        boot,
        publisher: DISPATCHER,
        durable,
        dead_letter: grave,
    })))
}
