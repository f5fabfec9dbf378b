//! A broker that does what a test says.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use broker::{
    Broker, BrokerState, Confirm, ConfirmError, Confirmer, DeleteError, Destination, Link, Message,
    PublishError, PublisherId, QueueOptions, SubscribeError, SubscribeRequest, Subscription,
};
use bytestring::ByteString;
use tokio::sync::watch;

/// See the module.
pub(crate) struct FakeBroker {
    state: watch::Sender<BrokerState>,
    script: Mutex<Script>,
}

struct Script {
    on_publish: OnPublish,
    taken: Vec<(PublisherId, Message)>,
    held: VecDeque<Confirmer>,
}

/// What becomes of a publish.
#[derive(Debug, Clone)]
pub(crate) enum OnPublish {
    /// It never returns.
    Hang,
    /// It fails at once.
    Fail(PublishError),
    /// It is taken; its confirm waits for [`FakeBroker::confirm`].
    Hold,
    /// It is taken and answered at once.
    Answer(Result<(), ConfirmError>),
}

impl FakeBroker {
    pub(crate) fn new(link: Link, on_publish: OnPublish) -> Self {
        let script = Script { on_publish, taken: Vec::new(), held: VecDeque::new() };
        let state = watch::Sender::new(BrokerState { link, gaps: 0, lapses: 0 });
        Self { state, script: Mutex::new(script) }
    }

    pub(crate) fn set_link(&self, link: Link) {
        self.state.send_modify(|state| state.link = link);
    }

    pub(crate) fn on_publish(&self, on_publish: OnPublish) {
        self.script().on_publish = on_publish;
    }

    /// What was taken so far.
    pub(crate) fn taken(&self) -> Vec<(PublisherId, Message)> {
        self.script().taken.clone()
    }

    /// Confirms the held publish at `index`, counted from the oldest that is still held.
    pub(crate) fn confirm(&self, index: usize) {
        self.script().held.remove(index).unwrap().confirm(Ok(()));
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

#[async_trait]
impl Broker for FakeBroker {
    async fn publish(
        &self,
        publisher: PublisherId,
        message: Message,
    ) -> Result<Confirm, PublishError> {
        let on_publish = self.script().on_publish.clone();
        let confirm = match on_publish {
            OnPublish::Hang => std::future::pending().await,
            OnPublish::Fail(error) => return Err(error),
            OnPublish::Hold => {
                let (confirmer, confirm) = Confirm::pending();
                self.script().held.push_back(confirmer);
                confirm
            }
            OnPublish::Answer(answer) => Confirm::known(answer),
        };
        self.script().taken.push((publisher, message));
        Ok(confirm)
    }

    async fn subscribe(&self, _: SubscribeRequest) -> Result<Subscription, SubscribeError> {
        Err(SubscribeError::Unavailable("fake".to_owned()))
    }

    async fn declare(
        &self,
        _: PublisherId,
        _: &ByteString,
        _: &QueueOptions,
    ) -> Result<(), SubscribeError> {
        Err(SubscribeError::Unavailable("fake".to_owned()))
    }

    async fn delete(&self, _: &Destination) -> Result<(), DeleteError> {
        Err(DeleteError::Unavailable("fake".to_owned()))
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }
}
