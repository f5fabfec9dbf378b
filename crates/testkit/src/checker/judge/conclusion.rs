//! What is wrong with a history as a whole: what is missing in the end, and the order where it depends
//! on who else was there.

use std::collections::HashMap;

use super::super::verdict::Verdict;
use super::super::violation::{GivenBack, Unanswered, Violation};
use super::super::{Destination, Kind, SubscriptionId};
use super::Judge;
use super::message::Fate;
use super::subscription::{Answer, Subscription};

/// The subscriptions that are there at the end, by destination.
type Open<'a> = HashMap<Destination, Vec<(SubscriptionId, &'a Subscription)>>;

impl Judge {
    pub(super) fn conclude(mut self) -> Verdict {
        self.judge_order();
        let open = self.open();
        let mut missing = self.judge_loss(&open);
        missing.append(&mut self.judge_transactions());
        missing.append(&mut self.judge_settlement(&open));
        self.violations.append(&mut missing);
        Verdict { violations: self.violations, counts: self.counts }
    }

    fn judge_order(&mut self) {
        let mut consumers: HashMap<Destination, usize> = HashMap::new();
        // Who looks what is left came after all was delivered, or should have been.
        for subscription in self.subscriptions.values().filter(|subscription| !subscription.looks) {
            *consumers.entry(subscription.destination).or_default() += 1;
        }
        for subscription in self.subscriptions.values_mut() {
            let destination = subscription.destination;
            let alone = destination.kind == Kind::Topic
                || (consumers.get(&destination) == Some(&1) && !subscription.looks);
            self.violations.append(match alone {
                true => &mut subscription.late,
                false => &mut subscription.late_unmarked,
            });
        }
    }

    fn open(&self) -> Open<'_> {
        let mut open = Open::new();
        for (&id, subscription) in &self.subscriptions {
            if !self.is_over(id, subscription) && subscription.subscribed.is_some() {
                open.entry(subscription.destination).or_default().push((id, subscription));
            }
        }
        open
    }

    fn is_over(&self, id: SubscriptionId, subscription: &Subscription) -> bool {
        subscription.unsubscribing || self.closed.contains(&id.session)
    }

    fn judge_loss(&self, open: &Open<'_>) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (&id, message) in &self.messages {
            let (sent_at, transaction) = (message.sent_at, message.transaction);
            let Some(release) = message.release else { continue };
            let Some(receipted_at) = message.receipted_at else {
                let excused = self.rules.closes_allowed && self.closed.contains(&id.sender);
                if transaction.is_none() && !excused {
                    violations.push(Violation::Unanswered { frame: Unanswered::Send(id), sent_at });
                }
                continue;
            };
            let subscriptions = open.get(&id.destination).map(Vec::as_slice).unwrap_or_default();
            let lost = |subscription| Violation::Lost {
                message: id,
                transaction,
                subscription,
                sent_at,
                receipted_at,
            };
            match id.destination.kind {
                Kind::Topic => {
                    let missing = subscriptions.iter().filter(|(_, subscription)| {
                        subscription.subscribed.is_some_and(|place| place < release.place)
                            && !subscription.got.contains(&id)
                    });
                    violations.extend(missing.map(|&(id, _)| lost(Some(id))));
                }
                Kind::Queue => {
                    if message.came.is_none() && !subscriptions.is_empty() {
                        violations.push(lost(None));
                    }
                }
            }
        }
        violations
    }

    fn judge_transactions(&self) -> Vec<Violation> {
        let asked = self.transactions.iter().filter_map(|(&id, transaction)| {
            let (frame, sent_at) = match transaction.fate {
                Fate::Committing { at, .. } => (Unanswered::Commit(id), at),
                Fate::Aborting { at } => (Unanswered::Abort(id), at),
                Fate::Open | Fate::Committed | Fate::Aborted => return None,
            };
            let excused = self.rules.closes_allowed && self.closed.contains(&id.session);
            (!excused).then_some(Violation::Unanswered { frame, sent_at })
        });
        asked.collect()
    }

    fn judge_settlement(&self, open: &Open<'_>) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (&id, subscription) in &self.subscriptions {
            let over = self.is_over(id, subscription);
            for delivery in &subscription.deliveries {
                let (message, at) = (delivery.message, delivery.at);
                let given_back = match delivery.answer {
                    Answer::Acked => continue,
                    Answer::Nacked => Some(GivenBack::Nacked),
                    // It may have taken effect, or not.
                    Answer::Acking(_) if over => continue,
                    Answer::Within(transaction) if over && self.is_committing(transaction) => {
                        continue;
                    }
                    Answer::Nothing | Answer::Within(_) | Answer::Nacking(_) if over => {
                        Some(GivenBack::Left)
                    }
                    Answer::Nothing
                    | Answer::Within(_)
                    | Answer::Acking(_)
                    | Answer::Nacking(_) => None,
                };
                let Some(given_back) = given_back else {
                    let answered = !matches!(delivery.answer, Answer::Nothing | Answer::Within(_));
                    violations.push(Violation::Unsettled {
                        message,
                        subscription: id,
                        answered,
                        at,
                    });
                    continue;
                };
                let done = self.messages.get(&message).is_none_or(|message| {
                    message.acknowledged.is_some() || message.came > Some(delivery.place)
                });
                if !done && open.contains_key(&message.destination) {
                    violations.push(Violation::NotAgain {
                        message,
                        subscription: id,
                        given_back,
                        at,
                    });
                }
            }
        }
        violations
    }

    fn is_committing(&self, transaction: super::TransactionId) -> bool {
        let transaction = self.transactions.get(&transaction);
        transaction.is_some_and(|it| matches!(it.fate, Fate::Committing { .. }))
    }
}
