//! Rules as they are configured, principals, and what these ask.

use std::sync::Arc;

use access::rules::{Config as RulesConfig, Otherwise};
use access::{Action, Authentication, Principal, Rules};
use broker::Destinations;
use broker::destination::{Destination, Verb};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(crate) struct File {
    pub(crate) rules: RulesConfig,
    #[serde(default)]
    pub(crate) otherwise: Otherwise,
}

pub(crate) fn parsed(toml: &str) -> Result<Rules, String> {
    let file: File = toml::from_str(toml).map_err(|why| why.message().to_owned())?;
    Rules::new(&file.rules, file.otherwise, &Destinations::default()).map_err(|why| why.to_string())
}

#[track_caller]
pub(crate) fn rules(toml: &str) -> Rules {
    parsed(toml).unwrap_or_else(|why| panic!("{why}\n{toml}"))
}

pub(crate) fn user(name: &str, roles: &[&str], claims: Value) -> Principal {
    let Value::Object(claims) = claims else { panic!("{claims}") };
    Principal {
        name: name.into(),
        claims: Arc::new(claims.into()),
        roles: roles.iter().map(|role| (*role).into()).collect(),
        expires_at: None,
        authentication: Authentication::Token,
    }
}

pub(crate) fn named(name: &str) -> Principal {
    user(name, &[], json!({}))
}

pub(crate) fn destination(action: Action, text: &str) -> Destination {
    let destinations = Destinations::default();
    let parsed = if text.starts_with("/temp-queue/") {
        destinations.parse_reply_to(text)
    } else {
        let verb = if action == Action::Send { Verb::Send } else { Verb::Subscribe };
        destinations.parse(text, verb)
    };
    parsed.unwrap_or_else(|why| panic!("{why}"))
}

/// As `SEND /topic/a`, `SUBSCRIBE /topic/a` or `QUEUE /topic/a`.
#[track_caller]
pub(crate) fn allowed(rules: &Rules, who: &Principal, request: &str) -> bool {
    let (verb, text) = request.split_once(' ').unwrap();
    let action = match verb {
        "SEND" => Action::Send,
        "SUBSCRIBE" => Action::Subscribe,
        "QUEUE" => Action::Queue,
        other => panic!("{other}"),
    };
    let destination = destination(action, text);
    let decision = rules.decide(who, action, &destination);
    assert_eq!(decision.allowed, rules.check(who, action, &destination).is_ok());
    decision.allowed
}

#[track_caller]
pub(crate) fn check(rules: &Rules, who: &Principal, requests: &[(&str, bool)]) {
    for (request, expected) in requests {
        assert_eq!(allowed(rules, who, request), *expected, "{} {request}", who.name);
    }
}

/// Every kind of destination.
pub(crate) const REQUESTS: [&str; 17] = [
    "SUBSCRIBE /topic/a",
    "SUBSCRIBE /topic/#",
    "SEND /topic/a",
    "QUEUE /topic/a",
    "SUBSCRIBE /queue/q",
    "SEND /queue/q",
    "SUBSCRIBE /amq/queue/q",
    "SEND /exchange/x/k",
    "SUBSCRIBE /exchange/x/#",
    "SEND /reply-queue/r",
    "QUEUE /temp-queue/t",
    "SUBSCRIBE /user/queue/x",
    "SEND /user/ann/queue/x",
    "SUBSCRIBE /group/g",
    "SEND /group/g",
    "SEND /app/x",
    "SUBSCRIBE /app/x",
];
