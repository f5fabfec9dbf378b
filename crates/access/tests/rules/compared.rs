//! What rules decide, compared with what the [`oracle`](crate::oracle) says.

use std::collections::BTreeSet;
use std::sync::Arc;

use access::{Action, Authentication, Principal, Rules};
use broker::Destinations;
use broker::destination::{Destination, Verb};
use serde_json::Value;

use crate::asked;
use crate::oracle::{
    Asked, Book, Line, Part, Person, Place, Spelling, Step, Whom, Within, Word, World,
};

const SPELLINGS: [Spelling; 2] = [Spelling::Dots, Spelling::Slashes];
pub(crate) const ALL: &[Action] = &[Action::Send, Action::Subscribe, Action::Queue];
pub(crate) const SEND: &[Action] = &[Action::Send];
pub(crate) const SUBSCRIBE: &[Action] = &[Action::Subscribe];
pub(crate) const LISTEN: &[Action] = &[Action::Subscribe, Action::Queue];

pub(crate) fn person(name: &str, proven: bool, roles: &[&'static str], claims: Value) -> Person {
    Person { name: name.to_owned(), proven, roles: roles.to_vec(), claims }
}

pub(crate) fn line(
    allows: bool,
    actions: &'static [Action],
    whom: Whom,
    patterns: Vec<(Within, Vec<Part>)>,
) -> Line {
    Line { allows, actions, patterns, whom }
}

fn principal(person: &Person) -> Principal {
    let authentication = match (person.proven, &*person.name) {
        (true, "root") => Authentication::Passcode,
        (true, _) => Authentication::Token,
        (false, "anonymous") => Authentication::Anonymous,
        (false, _) => Authentication::Unproven,
    };
    let Value::Object(claims) = person.claims.clone() else { panic!("{person:?}") };
    Principal {
        name: (&*person.name).into(),
        claims: Arc::new(claims.into()),
        roles: person.roles.iter().map(|role| (*role).into()).collect(),
        expires_at: None,
        authentication,
    }
}

/// What a client names so, if it names anything.
fn parsed(asked: &Asked, text: &str) -> Option<Destination> {
    let destinations = Destinations::default();
    let verb = if asked.action == Action::Send { Verb::Send } else { Verb::Subscribe };
    match asked.place {
        Place::TempQueue => destinations.parse_reply_to(text).ok(),
        _ => destinations.parse(text, verb).ok(),
    }
}

/// A book, and the rules that it is in either spelling.
pub(crate) struct Compiled {
    title: &'static str,
    book: Book,
    rules: Vec<(Spelling, Rules)>,
}

impl Compiled {
    pub(crate) fn new(title: &'static str, book: Book) -> Result<Self, String> {
        let rules =
            SPELLINGS.map(|spelling| Ok((spelling, asked::parsed(&book.written(spelling))?)));
        Ok(Self { title, rules: rules.into_iter().collect::<Result<_, String>>()?, book })
    }

    /// Compares what one person may do: how much was allowed, and how much refused.
    #[track_caller]
    pub(crate) fn compare(&self, person: &Person, requests: &[Asked]) -> [usize; 2] {
        let principal = principal(person);
        let mut found = [0, 0];
        for asked in requests {
            let spelled: BTreeSet<_> =
                SPELLINGS.iter().filter_map(|one| asked.written(*one)).collect();
            if spelled.is_empty() {
                continue;
            }
            let world = if asked.has_wildcards() {
                world(&self.book, person, asked)
            } else {
                World::empty()
            };
            let expected = self.book.allows(person, asked, &world);
            for text in spelled {
                let Some(destination) = parsed(asked, &text) else { continue };
                for (spelling, rules) in &self.rules {
                    let allowed = rules.decide(&principal, asked.action, &destination).allowed;
                    assert_eq!(
                        allowed,
                        expected,
                        "{}: {} {} {text}\n{}",
                        self.title,
                        person.name,
                        asked.action,
                        self.book.written(*spelling)
                    );
                    found[usize::from(!allowed)] += 1;
                }
            }
            if expected && asked.has_wildcards() {
                no_hole(&self.rules[0].1, &principal, asked, &world);
            }
        }
        found
    }
}

/// What may be had by a wildcard may be had one by one.
#[track_caller]
fn no_hole(rules: &Rules, principal: &Principal, asked: &Asked, world: &World) {
    for single in asked.singly(world) {
        let text = single.written(Spelling::Dots).unwrap();
        let Some(destination) = parsed(&single, &text) else { continue };
        let allowed = rules.decide(principal, asked.action, &destination).allowed;
        assert!(allowed, "{} gets {text} by {asked:?}", principal.name);
    }
}

/// The world in which `asked` is looked at: all words by which its destinations can differ, as many as they
/// need to do so.
fn world(book: &Book, person: &Person, asked: &Asked) -> World {
    let (mut words, mut longest) = (BTreeSet::new(), 0);
    let patterns = book.lines.iter().flat_map(|line| &line.patterns);
    for (within, parts) in patterns {
        if *within != Within::Place(asked.place.clone()) {
            continue;
        }
        longest = longest.max(parts.iter().filter(|part| **part != Part::Many).count());
        words.extend(parts.iter().filter_map(|part| match part {
            Part::Is(word) => Some((*word).to_owned()),
            Part::User => Some(person.name.clone()),
            Part::Claim(claim) => person.claims[*claim].as_str().map(str::to_owned),
            Part::One | Part::Many => None,
        }));
    }
    words.extend(asked.steps.iter().filter_map(|step| match step {
        Step::Is(Word::Means(word)) => Some(word.clone()),
        _ => None,
    }));
    // What no word can hold is no destination either.
    words.retain(|word| {
        let alone = steps_of(Word::Means(word.clone()));
        let asked = Asked { action: Action::Send, place: Place::Topic, steps: alone };
        asked.written(Spelling::Dots).is_some()
    });
    let count = asked.steps.iter().filter(|step| **step != Step::Many).count();
    let length = count + if count < asked.steps.len() { longest.max(1) } else { 0 };
    // More would take long. Too few would show: destinations would look equal that are not.
    let length = length.min(4);
    World::of(words.into_iter().map(Word::Means).collect(), length)
}

fn steps_of(word: Word) -> Vec<Step> {
    vec![Step::Is(word)]
}
