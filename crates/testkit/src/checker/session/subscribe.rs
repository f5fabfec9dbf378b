//! What a session subscribes to, and leaves again.

use stomp::action::AckMode;
use stomp::{Command, Frame, header};

use super::super::client::ClientError;
use super::super::plan::Ack;
use super::super::{Destination, Event, Kind};
use super::consumer::Consumer;
use super::{Asked, Session};

/// A subscription that is there, or about to be.
pub(super) struct Subscribed {
    pub(super) destination: Destination,
    pub(super) consumer: Consumer,
    pub(super) state: State,
}

/// How far a subscription is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Subscribing,
    Live,
    Unsubscribing,
}

impl Session {
    /// Subscribes to all that is planned; on return every subscription is confirmed.
    pub(super) async fn subscribe_all(&mut self) -> Result<(), ClientError> {
        for (destination, ack) in self.plan.subscriptions.clone() {
            self.subscribe(destination, ack).await?;
        }
        while self.subscriptions.values().any(|subscribed| subscribed.state != State::Live) {
            let frame = self.client.next().await?;
            self.see(frame).await?;
        }
        Ok(())
    }

    /// Subscribes, without waiting.
    pub(super) async fn subscribe(
        &mut self,
        destination: Destination,
        ack: Ack,
    ) -> Result<(), ClientError> {
        let number = self.next_subscription;
        self.next_subscription += 1;
        let (consumer, state) = (Consumer::new(ack), State::Subscribing);
        self.subscriptions.insert(number, Subscribed { destination, consumer, state });
        let subscription = self.subscription(number);
        self.record(Event::Subscribing { subscription, destination, ack: ack.mode() });
        let mode = match ack.mode() {
            AckMode::Auto => "auto",
            AckMode::Client => "client",
            AckMode::ClientIndividual => "client-individual",
        };
        let mut frame = Frame::new(Command::Subscribe)
            .with_header(header::ID, number.to_string())
            .with_header(header::DESTINATION, self.name(destination))
            .with_header(header::ACK, mode);
        if let Some(prefetch) = ack.prefetch() {
            frame = frame.with_header("prefetch-count", prefetch.to_string());
        }
        self.ask(frame, Asked::Subscribe(number)).await
    }

    /// Unsubscribes from topics; once that is confirmed, it subscribes to them again.
    pub(super) async fn leave_topics(&mut self) -> Result<(), ClientError> {
        let live: Vec<u32> = self
            .subscriptions
            .iter_mut()
            .filter(|(_, s)| s.destination.kind == Kind::Topic && s.state == State::Live)
            .map(|(number, subscribed)| {
                subscribed.state = State::Unsubscribing;
                *number
            })
            .collect();
        for number in live {
            self.record(Event::Unsubscribing(self.subscription(number)));
            let frame =
                Frame::new(Command::Unsubscribe).with_header(header::ID, number.to_string());
            self.ask(frame, Asked::Unsubscribe(number)).await?;
        }
        Ok(())
    }
}
