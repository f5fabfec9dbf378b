//! A line does what a few lines of plain code say that it does, whatever is asked of it at whatever time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use presence::{Boot, UserName};
use proptest::prelude::*;
use redb::{Builder, Database, ReadableTable};
use ulid::Ulid;

use super::Line;
use crate::disk::record::Where;
use crate::disk::tables::Tables;
use crate::disk::{look, time};
use crate::{Address, Appended, Config, Draft, Position, Purge, Settlement, State, Taken};

/// When a case begins, in ms.
const BEGIN: u64 = 1_000_000;
const DAY: u64 = 24 * 3600 * 1000;

fn config() -> Config {
    Config {
        ttl: Duration::from_millis(300),
        ack_wait: Duration::from_millis(100),
        retry: Duration::from_millis(10),
        idempotency: Duration::from_millis(60),
        max_attempts: 3,
        max_messages: 6,
        ..Config::default()
    }
}

fn ann() -> Address {
    Address::of_user(UserName::new("ann").unwrap(), "/queue/news".into())
}

fn database() -> Database {
    Builder::new().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap()
}

/// What is asked.
#[derive(Debug, Clone)]
enum Ask {
    Append {
        after: Option<u64>,
        lives: Option<u64>,
        key: Option<u8>,
    },
    /// By one of two subscribers; or by somebody new, who has had nothing.
    Take {
        who: usize,
        limit: usize,
    },
    Settle {
        seq: u64,
        settlement: Settlement,
    },
    Purge(Option<usize>),
    Advance,
    Wait(u64),
}

fn ask() -> impl Strategy<Value = Ask> {
    let settlement = prop_oneof![
        2 => Just(Settlement::Ack),
        3 => Just(Settlement::Nack),
        1 => Just(Settlement::Reject),
        2 => Just(Settlement::Release),
    ];
    let append = (
        prop::option::weighted(0.3, 1..80_u64),
        prop::option::weighted(0.4, 1..200_u64),
        prop::option::weighted(0.2, 0..3_u8),
    );
    prop_oneof![
        4 => append.prop_map(|(after, lives, key)| Ask::Append { after, lives, key }),
        5 => (0..3_usize, 1..4_usize).prop_map(|(who, limit)| Ask::Take { who, limit }),
        5 => (1..10_u64, settlement).prop_map(|(seq, settlement)| Ask::Settle { seq, settlement }),
        1 => prop::option::weighted(0.8, 0..12_usize).prop_map(Ask::Purge),
        3 => Just(Ask::Advance),
        4 => prop_oneof![Just(0), Just(10), 1..40_u64, Just(100)].prop_map(Ask::Wait),
    ]
}

/// An entry as the model has it.
#[derive(Debug, Clone)]
struct Kept {
    id: Ulid,
    expires: u64,
    attempts: u32,
    held: bool,
    /// Until when it is held or left alone; 0 is neither.
    until: u64,
}

#[derive(Default)]
struct Model {
    /// By their numbers.
    line: BTreeMap<u64, Kept>,
    /// By when they are due.
    scheduled: BTreeMap<(u64, Ulid), Kept>,
    last: u64,
    keys: HashMap<u8, (Ulid, u64)>,
    ended: HashMap<Ulid, State>,
}

impl Model {
    fn messages(&self) -> u64 {
        (self.line.len() + self.scheduled.len()) as u64
    }

    fn end(&mut self, seq: u64, state: State) {
        let kept = self.line.remove(&seq).unwrap();
        self.ended.insert(kept.id, state);
    }

    fn place(&mut self, kept: Kept) {
        self.last += 1;
        self.line.insert(self.last, kept);
    }

    /// Numbers and attempts of what is taken, up to where, and whether there is more.
    fn take(&mut self, cursor: u64, limit: usize, now: u64) -> (Vec<(u64, u32)>, u64, bool) {
        let (mut taken, mut upto) = (Vec::new(), cursor);
        for seq in self.line.keys().copied().collect::<Vec<_>>() {
            let kept = self.line.get_mut(&seq).unwrap();
            let is_held = kept.held && kept.until > now;
            if kept.expires <= now || !(seq > cursor || kept.until <= now) {
                continue;
            }
            if kept.attempts >= 3 && !is_held {
                self.end(seq, State::Failed);
                continue;
            }
            if taken.len() == limit {
                return (taken, upto, true);
            }
            taken.push((seq, kept.attempts));
            if !is_held {
                (kept.attempts, kept.held, kept.until) = (kept.attempts + 1, true, now + 100);
            }
            upto = upto.max(seq);
        }
        (taken, self.last.max(cursor), false)
    }

    fn settle(&mut self, seq: u64, settlement: Settlement, now: u64) {
        let Some(kept) = self.line.get_mut(&seq) else { return };
        match settlement {
            Settlement::Ack => self.end(seq, State::Acked),
            Settlement::Reject => self.end(seq, State::Failed),
            Settlement::Nack | Settlement::Release if !kept.held => {}
            Settlement::Nack if kept.attempts >= 3 => self.end(seq, State::Failed),
            Settlement::Nack => {
                (kept.held, kept.until) = (false, now + (10 << (kept.attempts - 1)));
            }
            Settlement::Release => (kept.held, kept.until) = (false, now),
        }
    }

    fn advance(&mut self, now: u64) {
        for ((due, id), kept) in std::mem::take(&mut self.scheduled) {
            if kept.expires <= now {
                self.ended.insert(id, State::Expired);
            } else if due <= now {
                self.place(kept);
            } else {
                self.scheduled.insert((due, id), kept);
            }
        }
        for seq in self.line.keys().copied().collect::<Vec<_>>() {
            let kept = self.line.get_mut(&seq).unwrap();
            if kept.expires <= now {
                self.end(seq, State::Expired);
            } else if kept.until <= now {
                (kept.held, kept.until) = (false, 0);
            }
        }
    }

    fn state(&self, id: Ulid, now: u64) -> State {
        if let Some(state) = self.ended.get(&id) {
            return *state;
        }
        match self.line.values().find(|kept| kept.id == id) {
            Some(kept) if kept.held && kept.until > now => State::Delivered,
            Some(_) => State::Pending,
            None => State::Scheduled,
        }
    }
}

/// How an entry stands in the file.
fn state(tables: &Tables<'_>, key: &[u8], id: Ulid, now: u64) -> State {
    let place = tables.place(key, id.into()).unwrap().unwrap();
    match place {
        Where { seq: 0, deliver: 0, .. } => place.end().unwrap().state,
        Where { seq: 0, .. } => State::Scheduled,
        Where { seq, .. } => tables.mark(key, seq).unwrap().unwrap().state(now),
    }
}

fn check(asks: Vec<Ask>) -> Result<(), TestCaseError> {
    let (config, database, mut model) = (config(), database(), Model::default());
    let transaction = database.begin_write().unwrap();
    let mut tables = Tables::open(&transaction).unwrap();
    let (mut now, mut ids, mut places) = (BEGIN, Vec::new(), [None::<Position>; 2]);
    for ask in asks {
        let mut line = Line::open(&mut tables, &config, ann(), now).unwrap();
        match ask {
            Ask::Append { after, lives, key } => {
                let due = after.map_or(0, |after| now + after);
                let draft = Draft {
                    key: key.map(|key| key.to_string().into()),
                    deliver_at: after.map(|_| time(due)),
                    expires_at: lives.map(|lives| time(now + lives)),
                    ..Draft::new(Boot::generate(), "x")
                };
                let appended = line.append(&draft).unwrap();
                let limit = due.max(now) + 300;
                let expires = lives.map_or(limit, |lives| limit.min(now + lives));
                let known = key.and_then(|key| model.keys.get(&key).copied());
                let id = draft.id;
                let kept = Kept { id, expires, attempts: 0, held: false, until: 0 };
                if let Some((id, _)) = known.filter(|(_, until)| *until > now) {
                    prop_assert_eq!(appended, Appended::Known { id });
                } else if model.messages() >= 6 {
                    let is_full = matches!(appended, Appended::Full { .. });
                    prop_assert!(is_full, "{appended:?}");
                } else {
                    key.map(|key| model.keys.insert(key, (id, now + 60)));
                    ids.push(id);
                    if due > 0 {
                        model.scheduled.insert((due, id), kept);
                        prop_assert_eq!(appended, Appended::Scheduled { dropped: vec![] });
                    } else {
                        model.place(kept);
                        let is_there =
                            matches!(appended, Appended::Stored { at, .. } if at.seq == model.last);
                        prop_assert!(is_there, "{appended:?}");
                    }
                }
                line.close().unwrap();
            }
            Ask::Take { who, limit } => {
                let after = places.get(who).copied().flatten();
                let Taken { entries, upto, more, .. } = line.take(after, limit, 1 << 20).unwrap();
                line.close().unwrap();
                let cursor = after.map_or(0, |after| after.seq);
                let expected = model.take(cursor, limit, now);
                let taken: Vec<_> = entries.iter().map(|e| (e.seq, e.attempts)).collect();
                prop_assert_eq!((taken, upto.seq, more), expected);
                if let Some(place) = places.get_mut(who) {
                    *place = Some(upto);
                }
            }
            Ask::Settle { seq, settlement } => {
                let epoch = line.head.epoch;
                line.settle(epoch, &[(seq, settlement)]).unwrap();
                line.close().unwrap();
                model.settle(seq, settlement, now);
            }
            Ask::Purge(Some(n)) => {
                let id = ids.get(n).copied().unwrap_or_default();
                line.purge(&Purge::Ids(vec![id])).unwrap();
                line.close().unwrap();
                let seq = model.line.iter().find(|(_, kept)| kept.id == id).map(|(seq, _)| *seq);
                seq.into_iter().for_each(|seq| model.end(seq, State::Dropped));
                let before = model.scheduled.len();
                model.scheduled.retain(|(_, scheduled), _| *scheduled != id);
                if model.scheduled.len() < before {
                    model.ended.insert(id, State::Dropped);
                }
            }
            Ask::Purge(None) => {
                line.purge(&Purge::All).unwrap();
                line.close().unwrap();
                let scheduled = std::mem::take(&mut model.scheduled);
                let all = std::mem::take(&mut model.line).into_values();
                let all = all.chain(scheduled.into_values());
                model.ended.extend(all.map(|kept| (kept.id, State::Dropped)));
            }
            Ask::Advance => {
                line.close().unwrap();
                look::advance(&mut tables, &config, now).unwrap();
                model.advance(now);
            }
            Ask::Wait(time) => {
                line.close().unwrap();
                now += time;
            }
        }
        let key = super::address_key(&ann());
        let head = tables.head(&key).unwrap().unwrap_or_default();
        prop_assert_eq!(head.messages, model.messages());
        for id in &ids {
            prop_assert_eq!(state(&tables, &key, *id, now), model.state(*id, now));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_line_does_as_the_model_does(asks in prop::collection::vec(ask(), 1..60)) {
        check(asks)?;
    }
}

#[test]
fn what_is_empty_for_a_day_leaves_nothing_in_the_file() {
    let (config, database) = (config(), database());
    let transaction = database.begin_write().unwrap();
    let mut tables = Tables::open(&transaction).unwrap();
    let draft = Draft { key: Some("k".into()), ..Draft::new(Boot::generate(), "x") };
    let mut line = Line::open(&mut tables, &config, ann(), BEGIN).unwrap();
    line.append(&draft).unwrap();
    let epoch = line.take(None, 1, 1).unwrap().epoch;
    line.settle(epoch, &[(1, Settlement::Ack)]).unwrap();
    line.close().unwrap();
    let key = super::address_key(&ann());
    look::advance(&mut tables, &config, BEGIN + DAY - 1).unwrap();
    assert_eq!(state(&tables, &key, draft.id, BEGIN + DAY - 1), State::Acked);
    // It may be looked at a day later, so that nobody is for this alone more often than that.
    look::advance(&mut tables, &config, BEGIN + 2 * DAY).unwrap();
    assert!(tables.place(&key, draft.id.into()).unwrap().is_none());
    assert!(tables.heads.first().unwrap().is_none() && tables.looks.first().unwrap().is_none());
    assert!(tables.gone.first().unwrap().is_none() && tables.key_ends.first().unwrap().is_none());
    // Who was there meanwhile begins anew, and misses nothing.
    let mut line = Line::open(&mut tables, &config, ann(), BEGIN + 2 * DAY).unwrap();
    line.append(&Draft::new(Boot::generate(), "y")).unwrap();
    let taken = line.take(Some(Position { epoch, seq: 1 }), 1, 1).unwrap();
    assert_eq!((taken.entries.len(), taken.upto.seq), (1, 1));
    assert_ne!(taken.epoch, epoch);
}
