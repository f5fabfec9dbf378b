//! Who may do what: rules over destinations.
//!
//! Rules are asked in their order, and **the first that is about a request decides it**; what none is about
//! is decided by `otherwise`. A rule is about a request if it names the action, includes the principal, and
//! - it allows, and everything asked for is within one of its patterns;
//! - it denies, and anything asked for is within one of its patterns.
//!
//! So a subscription to a pattern is never let in over a rule that would deny one of its topics, and what is
//! to be excepted from a broad rule stands before it. Whether several rules together would cover a pattern
//! is not considered: one must cover it alone.
//!
//! Invariants
//! - A pattern that may be subscribed to receives no key whose own subscription is denied
//!   (`tests/rules.rs` holds the decision to that).
//! - Destinations are compared parsed, word by word: both spellings of a topic are one, and a value in a
//!   pattern (`{user}`, `{claim.x}`) is one word whatever it holds.
//! - A rule with a placeholder is about nobody who has no such claim, or none that a word can hold; `{user}`
//!   is the name of those only who showed who they are.
//!
//! Not here: who somebody is. An exchange's type is not known here either: one that is neither a topic nor
//! a direct exchange gives every subscriber everything, whatever the key, and `/exchange/amq.topic/..` is
//! another way to topics; allow keys of an exchange with that in mind.

mod config;
mod pattern;
mod template;
mod who;

use std::fmt;

use broker::destination::{Destination, Destinations, UserDestination, Verb};
use serde::{Deserialize, Serialize};

pub use self::config::{Effect, Otherwise, Rule, Rules as Config};
use self::pattern::{Pattern, Target};
use self::template::Relation;
pub use self::template::{encoded_word, written_word};
pub use self::who::Who;
use crate::principal::Principal;

/// What somebody wants of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// To send there.
    Send,
    /// To receive from there.
    Subscribe,
    /// To have a queue of one's own there: one that outlives the subscription to a topic, one that is
    /// declared with options, or a temp-queue for replies. Asked besides `Subscribe`.
    Queue,
}

/// The rules of a node, ready to be asked.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<Compiled>,
    otherwise: Otherwise,
    destinations: Destinations,
}

#[derive(Debug, Clone)]
struct Compiled {
    effect: Effect,
    actions: Vec<Action>,
    patterns: Vec<Pattern>,
    who: Who,
}

/// What the rules say to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is granted.
    pub allowed: bool,
    /// What decided.
    pub by: By,
}

/// What decided a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The rule of that number, from 1.
    Rule(usize),
    /// No rule, but what holds otherwise.
    Otherwise(Otherwise),
    /// Nothing: it holds more wildcards (`#`) than can be compared in time.
    TooManyWildcards,
}

/// A request that the rules refuse. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action} {preposition} {destination} is not allowed{why}", preposition = action.preposition())]
pub struct Forbidden {
    /// What was asked.
    pub action: Action,
    /// Of what, in its canonical spelling.
    pub destination: String,
    /// What decided.
    pub by: By,
    why: &'static str,
}

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {number}: {why}")]
pub struct InvalidRule {
    /// Which one, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub why: String,
}

impl Rules {
    /// The rules that `config` writes, with destinations by that table of prefixes.
    ///
    /// # Errors
    /// A pattern cannot be read, or a rule above decides about all that a rule names, which is a mistake.
    pub fn new(
        config: &Config,
        otherwise: Otherwise,
        destinations: &Destinations,
    ) -> Result<Self, InvalidRule> {
        let (written, otherwise) = match config {
            Config::Default => (&[][..], otherwise),
            Config::Open => (&[][..], Otherwise::Open),
            Config::List(rules) => (rules.as_slice(), otherwise),
        };
        let mut rules: Vec<Compiled> = Vec::with_capacity(written.len());
        for (index, rule) in written.iter().enumerate() {
            let invalid = |why| InvalidRule { number: index + 1, why };
            let rule = Compiled::new(rule, destinations).map_err(invalid)?;
            if let Some(above) = rules.iter().position(|above| above.hides(&rule)) {
                let why = format!(
                    "rule {} above it decides about all the destinations that this one names, so this \
                     one would not; put it before that one",
                    above + 1
                );
                return Err(invalid(why));
            }
            rules.push(rule);
        }
        Ok(Self { rules, otherwise, destinations: destinations.clone() })
    }

    /// What the rules say if `principal` wants `action` of `destination`.
    pub fn decide(
        &self,
        principal: &Principal,
        action: Action,
        destination: &Destination,
    ) -> Decision {
        if self.rules.is_empty() {
            return self.otherwise(action, destination);
        }
        let listens = action != Action::Send;
        let Some(target) = Target::new(destination, listens, &self.destinations) else {
            return Decision { allowed: false, by: By::TooManyWildcards };
        };
        let about = |rule: &Compiled| {
            let relation = match rule.effect {
                Effect::Allow => Relation::Within,
                Effect::Deny => Relation::Touching,
            };
            rule.actions.contains(&action)
                && rule.who.includes(principal)
                && rule.patterns.iter().any(|at| at.relates(relation, &target, principal))
        };
        match self.rules.iter().position(about) {
            Some(index) => Decision {
                allowed: self.rules[index].effect == Effect::Allow,
                by: By::Rule(index + 1),
            },
            None => self.otherwise(action, destination),
        }
    }

    /// Whether `principal` may have `action` of `destination`.
    pub fn check(
        &self,
        principal: &Principal,
        action: Action,
        destination: &Destination,
    ) -> Result<(), Forbidden> {
        let Decision { allowed, by } = self.decide(principal, action, destination);
        if allowed {
            return Ok(());
        }
        let why = match by {
            By::Rule(_) => " by the rules of this server (access.rules)",
            By::Otherwise(Otherwise::Deny) => ": no rule of this server allows it (access.rules)",
            By::Otherwise(Otherwise::Default | Otherwise::Open) => {
                ": clients may SUBSCRIBE to topics and to their own user destinations, SEND to the \
                 application, and use the groups they are in, unless a rule of the server (access.rules) says \
                 otherwise, or access.rules = \"open\""
            }
            By::TooManyWildcards => ": it holds more than two #",
        };
        Err(Forbidden { action, destination: destination.to_string(), by, why })
    }

    fn otherwise(&self, action: Action, destination: &Destination) -> Decision {
        let allowed = match self.otherwise {
            Otherwise::Open => true,
            Otherwise::Deny => false,
            Otherwise::Default => matches!(
                (action, destination),
                (Action::Subscribe, Destination::Topic(_))
                    | (Action::Subscribe, Destination::User(UserDestination { name: None, .. }))
                    | (Action::Send, Destination::App(_))
                    | (Action::Subscribe | Action::Send, Destination::Group(_))
            ),
        };
        Decision { allowed, by: By::Otherwise(self.otherwise) }
    }
}

impl Compiled {
    fn new(rule: &Rule, destinations: &Destinations) -> Result<Self, String> {
        let patterns = rule.destinations.iter().map(|text| {
            Pattern::parse(text, destinations)
                .map_err(|why| format!("destination \"{}\": {why}", text.escape_debug()))
        });
        Ok(Self {
            effect: rule.effect,
            actions: rule.actions.clone(),
            patterns: patterns.collect::<Result<_, _>>()?,
            who: rule.who.clone(),
        })
    }

    /// Whether this rule decides about every destination that `below` names.
    fn hides(&self, below: &Self) -> bool {
        (self.who == Who::Everyone || self.who == below.who)
            && below.actions.iter().all(|action| self.actions.contains(action))
            && below
                .patterns
                .iter()
                .all(|inner| self.patterns.iter().any(|outer| outer.contains(inner)))
    }
}

impl Action {
    /// As it is written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Subscribe => "subscribe",
            Self::Queue => "queue",
        }
    }

    const fn preposition(self) -> &'static str {
        match self {
            Self::Queue => "at",
            Self::Send | Self::Subscribe => "to",
        }
    }
}

impl From<Verb> for Action {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Send => Self::Send,
            Verb::Subscribe => Self::Subscribe,
        }
    }
}

/// As the client knows it.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Queue => "a queue of one's own",
        })
    }
}
