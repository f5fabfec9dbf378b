//! What a session says to what it gets, and its transactions, which are of both.

use bytestring::ByteString;
use stomp::{Command, Frame, header};

use super::super::body::{self, Body};
use super::super::client::ClientError;
use super::super::plan::{Ack, Fate};
use super::super::{DeliveryId, Event, MessageId, TransactionId};
use super::consumer::{Answer, Delivered, Orders};
use super::transaction::Transaction;
use super::{Asked, Session};

impl Session {
    /// Records a MESSAGE, and keeps it if it is to be acknowledged.
    pub(super) fn message(&mut self, frame: &Frame) {
        let named = frame.header(header::SUBSCRIPTION).and_then(|id| id.parse().ok());
        let Some(number) = named else {
            return self.unexpected("a MESSAGE without a subscription of ours".to_owned());
        };
        let subscription = self.subscription(number);
        let redelivered = frame.header(header::REDELIVERED).is_some_and(|value| *value == "true");
        let subscribed = self.subscriptions.get_mut(&number);
        let place = subscribed.map_or(0, |subscribed| subscribed.consumer.next_number());
        let delivery = DeliveryId { subscription, number: place };
        let message = match body::read(self.shared.run, &frame.body) {
            Body::Message(message) => {
                self.record(Event::Received { delivery, message, redelivered });
                Some(message)
            }
            Body::Stray => {
                self.record(Event::Stray(subscription));
                None
            }
            Body::Unreadable => {
                let start = &frame.body[..frame.body.len().min(80)];
                let start = String::from_utf8_lossy(start).into_owned();
                let length = frame.body.len();
                self.unexpected(format!(
                    "a body of {length} bytes that nobody wrote, to {subscription}: {start:?}"
                ));
                None
            }
        };
        let Some(subscribed) = self.subscriptions.get_mut(&number) else { return };
        if subscribed.consumer.ack() == Ack::Auto {
            return;
        }
        match frame.header(header::ACK) {
            Some(token) => {
                let token = ByteString::from(&**token);
                let marked = redelivered;
                subscribed.consumer.take(Delivered { number: place, token, message, marked });
            }
            None => self.unexpected(format!("a MESSAGE without ack, to {subscription}")),
        }
    }

    /// Acknowledges and refuses what it is time for.
    pub(super) async fn answer_all(&mut self) -> Result<(), ClientError> {
        while let Some((subscription, answer)) = self.next_answer() {
            match answer {
                Answer::Ack(covered) => self.ack(subscription, covered).await?,
                Answer::Nack(delivered) => {
                    let frame = Frame::new(Command::Nack)
                        .with_header(header::ID, delivered.token)
                        .with_header(header::REQUEUE, "true");
                    let delivery = self.delivery(subscription, delivered.number);
                    self.record(Event::Nacking(delivery));
                    self.ask(frame, Asked::Nack(delivery)).await?;
                }
            }
        }
        Ok(())
    }

    fn next_answer(&mut self) -> Option<(u32, Answer)> {
        let (plan, transaction) = (&self.shared.plan, &self.transaction);
        let refuses = |message: MessageId| plan.refuses(message);
        self.subscriptions.iter_mut().find_map(|(&number, subscribed)| {
            let orders = Orders {
                hold: self.hold_acks,
                within: transaction.as_ref().is_some_and(|open| open.acknowledges(number)),
                conclude: self.concluded,
            };
            Some((number, subscribed.consumer.answer(orders, refuses)?))
        })
    }

    /// Acknowledges all of `covered`, by the last, perhaps in the transaction that is open.
    async fn ack(&mut self, subscription: u32, covered: Vec<Delivered>) -> Result<(), ClientError> {
        let Some(last) = covered.last() else { return Ok(()) };
        let delivery = self.delivery(subscription, last.number);
        let frame = Frame::new(Command::Ack).with_header(header::ID, last.token.clone());
        let within = last.message.is_some_and(|it| self.shared.plan.acknowledges_within(it));
        match &mut self.transaction {
            Some(open) if within => {
                open.acks.push((subscription, covered));
                let (transaction, name) = (Some(open.id), open.name());
                self.record(Event::Acking { delivery, transaction });
                self.client.send(&frame.with_header(header::TRANSACTION, name)).await
            }
            _ => {
                self.record(Event::Acking { delivery, transaction: None });
                self.ask(frame, Asked::Ack(delivery)).await
            }
        }
    }

    /// Opens a transaction.
    pub(super) async fn begin(&mut self, fate: Fate) -> Result<(), ClientError> {
        let id = TransactionId { session: self.id, number: self.next_transaction };
        self.next_transaction += 1;
        let transaction = Transaction::new(id, fate);
        let name = transaction.name();
        self.transaction = Some(transaction);
        self.client.send(&Frame::new(Command::Begin).with_header(header::TRANSACTION, name)).await
    }

    /// Commits or aborts what is open, as it was planned.
    pub(super) async fn end_transaction(&mut self) -> Result<(), ClientError> {
        let Some(open) = self.transaction.take() else { return Ok(()) };
        let name = open.name();
        let Transaction { id: transaction, fate, messages, acks } = open;
        self.unanswered += messages;
        let (event, command, asked) = match fate {
            Fate::Commit => {
                let asked = Asked::Commit { transaction, messages };
                (Event::Committing(transaction), Command::Commit, asked)
            }
            Fate::Abort => {
                for (subscription, covered) in acks.into_iter().rev() {
                    if let Some(subscribed) = self.subscriptions.get_mut(&subscription) {
                        subscribed.consumer.take_back(covered);
                    }
                }
                let asked = Asked::Abort { transaction, messages };
                (Event::Aborting(transaction), Command::Abort, asked)
            }
        };
        self.record(event);
        self.ask(Frame::new(command).with_header(header::TRANSACTION, name), asked).await
    }

    fn delivery(&self, subscription: u32, number: u32) -> DeliveryId {
        DeliveryId { subscription: self.subscription(subscription), number }
    }
}
