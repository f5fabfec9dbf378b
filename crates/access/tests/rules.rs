//! Who may do what: principals, rules, destinations and actions against each other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use access::rules::{By, Config as RulesConfig, Otherwise, encoded_word, written_word};
use access::{Action, Authentication, Principal, Rules};
use broker::destination::{Config as Prefixes, Destination, Topic, Verb};
use broker::{Destinations, topic};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct File {
    rules: RulesConfig,
    #[serde(default)]
    otherwise: Otherwise,
}

fn parsed(toml: &str) -> Result<Rules, String> {
    let file: File = toml::from_str(toml).map_err(|why| why.message().to_owned())?;
    Rules::new(&file.rules, file.otherwise, &Destinations::default()).map_err(|why| why.to_string())
}

#[track_caller]
fn rules(toml: &str) -> Rules {
    parsed(toml).unwrap_or_else(|why| panic!("{why}\n{toml}"))
}

fn user(name: &str, roles: &[&str], claims: Value) -> Principal {
    let Value::Object(claims) = claims else { panic!("{claims}") };
    Principal {
        name: name.into(),
        claims: Arc::new(claims.into()),
        roles: roles.iter().map(|role| (*role).into()).collect(),
        expires_at: None,
        authentication: Authentication::Token,
    }
}

fn named(name: &str) -> Principal {
    user(name, &[], json!({}))
}

fn destination(action: Action, text: &str) -> Destination {
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
fn allowed(rules: &Rules, who: &Principal, request: &str) -> bool {
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
fn check(rules: &Rules, who: &Principal, requests: &[(&str, bool)]) {
    for (request, expected) in requests {
        assert_eq!(allowed(rules, who, request), *expected, "{} {request}", who.name);
    }
}

/// Every kind of destination.
const REQUESTS: [&str; 17] = [
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

#[test]
fn without_rules_clients_listen_to_topics_and_to_their_own_and_send_to_the_application() {
    let granted =
        ["SUBSCRIBE /topic/a", "SUBSCRIBE /topic/#", "SUBSCRIBE /user/queue/x", "SEND /app/x"];
    let default = rules("rules = 'default'");
    let open = rules("rules = 'open'");
    let nothing = rules("rules = []\notherwise = 'deny'");
    let everything = rules("rules = []\notherwise = 'open'");
    for who in [named("ann"), Principal::anonymous()] {
        for request in REQUESTS {
            assert_eq!(allowed(&default, &who, request), granted.contains(&request), "{request}");
            assert!(allowed(&open, &who, request), "{request}");
            assert!(!allowed(&nothing, &who, request), "{request}");
            assert!(allowed(&everything, &who, request), "{request}");
        }
    }
}

#[test]
fn a_refusal_says_what_was_asked_and_where_to_change_it() {
    let default = rules("rules = 'default'");
    let said = default
        .check(&named("ann"), Action::Send, &destination(Action::Send, "/topic/a/b"))
        .unwrap_err();
    assert!(
        said.to_string().starts_with("SEND to /topic/a.b is not allowed: clients may"),
        "{said}"
    );
    assert!(said.to_string().contains("access.rules = \"open\""), "{said}");
    assert_eq!(said.by, By::Otherwise(Otherwise::Default));

    let denied = rules("rules = [{ deny = 'send', destination = '/topic/a', who = 'everyone' }]");
    let said = denied
        .check(&named("ann"), Action::Send, &destination(Action::Send, "/topic/a"))
        .unwrap_err();
    assert_eq!(said.by, By::Rule(1));
    assert_eq!(
        said.to_string(),
        "SEND to /topic/a is not allowed by the rules of this server (access.rules)"
    );
}

#[test]
fn a_rule_is_about_those_whom_it_names() {
    let rule = |who: &str| {
        rules(&format!(
            "otherwise = 'deny'\n[[rules]]\nallow = 'send'\ndestination = '/topic/x'\nwho = {who}"
        ))
    };
    let ann = user(
        "ann",
        &["trader", "staff"],
        json!({ "tier": "gold", "level": 3, "vip": true,
        "groups": ["a", "b c"], "scope": "read write", "org": { "id": "acme" } }),
    );
    let bob = named("bob");
    let nobody = Principal::anonymous();
    let said = Principal { authentication: Authentication::Unproven, ..named("ann") };
    for (who, expected) in [
        ("'everyone'", [true, true, true, true]),
        ("'authenticated'", [true, true, false, false]),
        ("'anonymous'", [false, false, true, true]),
        ("{ users = ['ann', 'carol'] }", [true, false, false, false]),
        ("{ users = ['anonymous'] }", [false, false, false, false]),
        ("{ users = [] }", [false, false, false, false]),
        ("{ roles = ['admin', 'trader'] }", [true, false, false, false]),
        ("{ roles = ['trade'] }", [false, false, false, false]),
        ("{ claim = 'tier', equals = 'gold' }", [true, false, false, false]),
        ("{ claim = 'tier', equals = 'gol' }", [false, false, false, false]),
        ("{ claim = 'level', equals = 3 }", [true, false, false, false]),
        ("{ claim = 'level', equals = '3' }", [false, false, false, false]),
        ("{ claim = 'vip', equals = true }", [true, false, false, false]),
        ("{ claim = 'org.id', equals = 'acme' }", [true, false, false, false]),
        ("{ claim = 'groups', contains = 'a' }", [true, false, false, false]),
        ("{ claim = 'groups', contains = 'b c' }", [true, false, false, false]),
        ("{ claim = 'groups', contains = 'b' }", [false, false, false, false]),
        ("{ claim = 'scope', contains = 'write' }", [true, false, false, false]),
        ("{ claim = 'scope', contains = 'writ' }", [false, false, false, false]),
        ("{ claim = 'none', contains = '' }", [false, false, false, false]),
        ("[{ users = ['bob'] }, { roles = ['staff'] }]", [true, true, false, false]),
        ("[]", [false, false, false, false]),
    ] {
        let rules = rule(who);
        let found = [&ann, &bob, &nobody, &said].map(|who| allowed(&rules, who, "SEND /topic/x"));
        assert_eq!(found, expected, "{who}");
    }
}

#[test]
fn the_first_rule_that_is_about_a_request_decides_it() {
    let rules = rules(
        "[[rules]]
         allow = 'subscribe'
         destination = '/topic/secret/public/**'
         who = 'everyone'
         [[rules]]
         allow = ['subscribe', 'send']
         destination = '/topic/secret/**'
         who = { roles = ['admin'] }
         [[rules]]
         deny = ['subscribe', 'send']
         destination = '/topic/secret/**'
         who = 'everyone'",
    );
    let admin = user("root", &["admin"], json!({}));
    check(
        &rules,
        &admin,
        &[
            ("SUBSCRIBE /topic/secret/a", true),
            ("SUBSCRIBE /topic/secret/**", true),
            ("SEND /topic/secret/a", true),
            // Without a rule of its own that covers it, what touches the secret is denied to all.
            ("SUBSCRIBE /topic/**", false),
            ("SUBSCRIBE /topic/other", true),
        ],
    );
    check(
        &rules,
        &named("ann"),
        &[
            ("SUBSCRIBE /topic/secret/a", false),
            ("SUBSCRIBE /topic/secret", false),
            ("SUBSCRIBE /topic/secret/public/x", true),
            ("SUBSCRIBE /topic/secret/public/#", true),
            ("SUBSCRIBE /topic/secret/*/x", false),
            ("SUBSCRIBE /topic/*/a", false),
            ("SUBSCRIBE /topic/#", false),
            ("SUBSCRIBE /topic/#.x", false),
            ("SUBSCRIBE /topic/other.#", true),
            ("SUBSCRIBE /topic/*", false),
            ("SEND /topic/secret.public.x", false),
        ],
    );
}

#[test]
fn a_pattern_is_subscribed_to_only_where_it_is_contained() {
    let rules = rules(
        "otherwise = 'deny'
         [[rules]]
         allow = 'subscribe'
         destination = ['/topic/a.*.c', '/topic/b.#', '/topic/d.*', '/topic/d.e.f']
         who = 'everyone'",
    );
    check(
        &rules,
        &named("ann"),
        &[
            ("SUBSCRIBE /topic/a.x.c", true),
            ("SUBSCRIBE /topic/a/x/c", true),
            ("SUBSCRIBE /topic/a.*.c", true),
            ("SUBSCRIBE /topic/a.#.c", false),
            ("SUBSCRIBE /topic/a.#", false),
            ("SUBSCRIBE /topic/b", true),
            ("SUBSCRIBE /topic/b.#", true),
            ("SUBSCRIBE /topic/b/*/**", true),
            ("SUBSCRIBE /topic/#.b", false),
            ("SUBSCRIBE /topic/#", false),
            // The union of several is not considered.
            ("SUBSCRIBE /topic/d.#", false),
            ("SEND /topic/b", false),
        ],
    );
}

#[test]
fn spellings_of_a_destination_and_of_a_rule_are_the_same() {
    for pattern in ["/topic/user/john.doe/*", "/topic/user.john%2Edoe.*"] {
        let rules = rules(&format!(
            "otherwise = 'deny'\nrules = [{{ allow = 'subscribe', destination = '{pattern}', who = 'everyone' }}]"
        ));
        check(
            &rules,
            &named("ann"),
            &[
                ("SUBSCRIBE /topic/user/john.doe/x", true),
                ("SUBSCRIBE /topic/user.john%2Edoe.x", true),
                ("SUBSCRIBE /topic/user.john.doe.x", false),
                ("SUBSCRIBE /topic/user/john/doe", false),
            ],
        );
    }
}

#[test]
fn every_kind_has_rules_of_its_own() {
    let rules = rules(
        "otherwise = 'deny'
         [[rules]]
         allow = ['send', 'subscribe', 'queue']
         destination = ['/queue/orders.*', '/amq/queue/legacy.#', '/exchange/logs/app.#', '/exchange/x',
                        '/temp-queue/**', '/reply-queue/amq%2Egen', '/group/team.{claim.team}',
                        '/app/orders/**', '/user/queue/**', '/user/*/queue/alerts', '/user/bob/topic/#']
         who = 'authenticated'",
    );
    let ann = user("ann", &[], json!({ "team": "red" }));
    check(
        &rules,
        &ann,
        &[
            ("SEND /queue/orders.new", true),
            ("SUBSCRIBE /queue/orders.new", true),
            ("QUEUE /queue/orders.new", true),
            ("SEND /queue/orders", false),
            ("SEND /queue/orders.a.b", false),
            // In a name a wildcard is a letter.
            ("SUBSCRIBE /queue/#", false),
            ("SUBSCRIBE /queue/orders.#", true),
            ("SEND /amq/queue/orders.new", false),
            ("SUBSCRIBE /amq/queue/legacy.a.b", true),
            ("SEND /exchange/logs/app.a", true),
            ("SUBSCRIBE /exchange/logs/app.#", true),
            ("SUBSCRIBE /exchange/logs/#", false),
            ("SUBSCRIBE /exchange/logs", false),
            ("SEND /exchange/other/app.a", false),
            ("SEND /exchange/x", true),
            ("SEND /exchange/x/k", false),
            ("QUEUE /temp-queue/anything", true),
            ("SEND /group/team.red", true),
            ("SUBSCRIBE /group/team.red", true),
            ("SUBSCRIBE /group/team.blue", false),
            ("SEND /app/orders/new", true),
            ("SEND /app/orders.new", true),
            ("SEND /app/orders", true),
            ("SEND /app/other", false),
            ("SUBSCRIBE /user/queue/x", true),
            ("SUBSCRIBE /user/queue/x/y", true),
            ("SUBSCRIBE /user/topic/x", false),
            ("SEND /user/bob/queue/alerts", true),
            ("SEND /user/bob/queue/other", false),
            ("SEND /user/bob/topic/x.y", true),
            ("SEND /user/eve/topic/x.y", false),
            ("SUBSCRIBE /topic/a", false),
        ],
    );
    for (request, _) in [("SEND /queue/orders.new", ()), ("SUBSCRIBE /user/queue/x", ())] {
        assert!(!allowed(&rules, &Principal::anonymous(), request));
    }
}

#[test]
fn an_exchange_key_with_many_wildcards_is_refused_at_once() {
    let rules = rules(
        "rules = [{ allow = 'subscribe', destination = '/exchange/x/#.a.#.a.#.b', who = 'everyone' }]",
    );
    let key = vec!["#.a"; 60].join(".");
    let asked = destination(Action::Subscribe, &format!("/exchange/x/{key}"));
    let decision = rules.decide(&named("ann"), Action::Subscribe, &asked);
    assert_eq!((decision.allowed, decision.by), (false, By::TooManyWildcards));
    assert!(!allowed(&rules, &named("ann"), &format!("SEND /exchange/x/{key}")));
}

#[test]
fn everything_may_be_named_at_once() {
    let rules = rules(
        "otherwise = 'deny'
         [[rules]]
         allow = ['send', 'subscribe', 'queue']
         destination = '**'
         who = { roles = ['admin'] }",
    );
    for request in REQUESTS {
        assert!(allowed(&rules, &user("root", &["admin"], json!({})), request), "{request}");
        assert!(!allowed(&rules, &named("ann"), request), "{request}");
    }
}

#[test]
fn topics_under_another_prefix_are_other_topics() {
    let prefixes: Prefixes = toml::from_str("[prefixes]\n'/events' = 'topic'").unwrap();
    let destinations = Destinations::new(&prefixes);
    let file: File = toml::from_str(
        "otherwise = 'deny'\nrules = [{ allow = 'send', destination = '/events/a', who = 'everyone' }]",
    )
    .unwrap();
    let rules = Rules::new(&file.rules, file.otherwise, &destinations).unwrap();
    for (text, expected) in [("/events/a", true), ("/topic/a", false)] {
        let asked = destinations.parse(text, Verb::Send).unwrap();
        assert_eq!(rules.decide(&named("ann"), Action::Send, &asked).allowed, expected, "{text}");
    }
}

#[test]
fn a_rule_that_cannot_be_meant_is_told_by_its_number() {
    let rule = |rest: &str| format!("rules = [{{ {rest} }}]");
    for (toml, why) in [
        (
            rule("allow = 'send', destination = '/topic', who = 'everyone'"),
            "nothing follows /topic",
        ),
        (
            rule("allow = 'send', destination = '/topic/a..b', who = 'everyone'"),
            "rule 1: destination \"/topic/a..b\": it has an empty word",
        ),
        (
            rule("allow = 'send', destination = 'orders', who = 'everyone'"),
            "it begins with none of /amq/queue, /app",
        ),
        (
            rule("allow = 'send', destination = '/topic/x{user}', who = 'everyone'"),
            "a word of its own",
        ),
        (
            rule("allow = 'send', destination = '/topic/{name}', who = 'everyone'"),
            "neither {user} nor {claim.name}",
        ),
        (rule("allow = 'send', destination = '/queue/a/b', who = 'everyone'"), "one name"),
        (
            rule("allow = 'send', destination = '/user/ann', who = 'everyone'"),
            "what follows must be /queue or /topic",
        ),
        (
            rule("allow = 'send', destination = '/user/a*/queue/x', who = 'everyone'"),
            "a whole name",
        ),
        (
            rule("allow = 'send', destination = '/exchange/x/a/b', who = 'everyone'"),
            "an exchange and one key",
        ),
        (
            rule("allow = 'publish', destination = '/topic/a', who = 'everyone'"),
            "unknown variant `publish`, expected one of `send`, `subscribe`, `queue`",
        ),
        (
            rule("allow = 'send', deny = 'send', destination = '/topic/a', who = 'everyone'"),
            "either allow or deny",
        ),
        (rule("destination = '/topic/a', who = 'everyone'"), "either allow or deny"),
        (rule("allow = [], destination = '/topic/a', who = 'everyone'"), "a rule allows or denies"),
        (rule("allow = 'send', destination = [], who = 'everyone'"), "at least one destination"),
        (rule("allow = 'send', destination = '/topic/a'"), "missing field `who`"),
        (
            rule("allow = 'send', destination = '/topic/a', who = 'all'"),
            "\"all\" is nobody; write \"everyone\"",
        ),
        (
            rule("allow = 'send', destination = '/topic/a', who = { user = ['ann'] }"),
            "unknown field `user`",
        ),
        (
            rule("allow = 'send', destination = '/topic/a', who = { claim = 'x' }"),
            "this says nobody",
        ),
        (
            rule("allow = 'send', destination = '/topic/a', who = { claim = 'x', equals = [1] }"),
            "equals must be",
        ),
        (rule("allow = 'send', destination = '/topic/a', to = 'everyone'"), "unknown field `to`"),
        ("rules = 'opne'".to_owned(), "unknown variant `opne`, expected `default` or `open`"),
        ("rules = 1".to_owned(), "\"default\", \"open\", or rules under [[access.rules]]"),
    ] {
        let said = parsed(&toml).err().unwrap_or_else(|| panic!("{toml}"));
        assert!(said.contains(why), "{toml}\n{said}");
    }
}

#[test]
fn a_rule_that_would_never_decide_is_a_mistake() {
    for (above, below, mistaken) in [
        ("allow, /topic/#, everyone", "deny, /topic/secret.#, everyone", true),
        ("allow, /topic/#, everyone", "deny, /topic/secret.#, authenticated", true),
        ("allow, /topic/#, authenticated", "deny, /topic/secret.#, everyone", false),
        ("allow, /topic/a.#, everyone", "deny, /topic/b, everyone", false),
        ("allow, /topic/*.x, everyone", "deny, /topic/{user}.x, everyone", true),
        ("allow, /topic/{user}.x, everyone", "deny, /topic/*.x, everyone", false),
        ("allow, /topic/{user}.x, everyone", "allow, /topic/{user}.x, everyone", true),
        ("deny, **, everyone", "allow, /queue/q, authenticated", true),
        ("deny, /user/**, everyone", "allow, /user/ann/queue/x, everyone", true),
        ("deny, /user/*/queue/x, everyone", "allow, /user/ann/queue/x, everyone", true),
        ("deny, /exchange/**, everyone", "allow, /exchange/x/k, everyone", true),
        ("deny, /exchange/x, everyone", "allow, /exchange/x/k, everyone", false),
    ] {
        let rule = |text: &str| {
            let parts: Vec<_> = text.split(", ").collect();
            format!(
                "[[rules]]\n{} = 'subscribe'\ndestination = '{}'\nwho = '{}'\n",
                parts[0], parts[1], parts[2]
            )
        };
        let result = parsed(&(rule(above) + &rule(below)));
        assert_eq!(result.is_err(), mistaken, "{above}; {below}");
        if let Err(said) = result {
            assert!(said.starts_with("rule 2: rule 1 above it decides"), "{said}");
        }
    }
}

#[test]
fn what_is_configured_can_be_written_again() {
    let file: File = toml::from_str(
        "[[rules]]
         allow = 'send'
         destination = '/topic/{user}'
         who = [{ users = ['ann'] }, { claim = 'a', equals = 1 }, 'authenticated']
         [[rules]]
         deny = ['subscribe', 'queue']
         destination = ['/queue/a', '/queue/b']
         who = { claim = 'a', contains = 'x' }",
    )
    .unwrap();
    let text = toml::to_string(&toml::Table::from_iter([(
        "rules".to_owned(),
        toml::Value::try_from(&file.rules).unwrap(),
    )]))
    .unwrap();
    assert_eq!(toml::from_str::<File>(&text).unwrap().rules, file.rules);
    for word in ["default", "open"] {
        let value =
            toml::Value::try_from(RulesConfig::deserialize(toml::Value::from(word)).unwrap());
        assert_eq!(value.unwrap().as_str(), Some(word));
    }
}

/// Names that try to be more than a word.
const HOSTILE: [&str; 16] = [
    "#",
    "*",
    "**",
    "a.#",
    "bob.x",
    "bob/x",
    "bob%2Fx",
    "bob%2Ex",
    "../bob",
    "",
    "\0",
    "a\nb",
    "{user}",
    "{claim.t}",
    "%",
    "\u{202e}bob",
];

fn hostile() -> Vec<String> {
    let long = ["x".repeat(1000), "#".repeat(1000), ".".repeat(255)];
    HOSTILE.into_iter().map(str::to_owned).chain(long).collect()
}

#[test]
fn a_hostile_name_is_one_word_or_none() {
    let of_user = rules(
        "otherwise = 'deny'
         [[rules]]
         allow = ['subscribe', 'send', 'queue']
         destination = ['/topic/of.{user}.x', '/topic/of/{user}', '/queue/q.{user}', '/exchange/e/{user}',
                        '/group/{user}', '/app/{user}/x', '/user/{user}/queue/x']
         who = 'authenticated'",
    );
    let of_claim = rules(
        "otherwise = 'deny'
         [[rules]]
         allow = ['subscribe', 'send', 'queue']
         destination = ['/topic/of.{claim.t}.x', '/topic/of/{claim.t}', '/queue/q.{claim.t}',
                        '/exchange/e/{claim.t}', '/group/{claim.t}', '/app/{claim.t}/x',
                        '/user/{claim.t}/queue/x']
         who = 'authenticated'",
    );
    let others = [
        "SUBSCRIBE /topic/#",
        "SUBSCRIBE /topic/of.#",
        "SUBSCRIBE /topic/of.*",
        "SUBSCRIBE /topic/of.*.x",
        "SUBSCRIBE /topic/of/bob",
        "SUBSCRIBE /topic/of.bob.x",
        "SUBSCRIBE /topic/of/bob/x",
        "SUBSCRIBE /topic/of/#/x",
        "SUBSCRIBE /topic/of/a/b/x",
        "SEND /topic/of/bob",
        "SEND /topic/of.bob.x.x",
        "SEND /queue/q.bob",
        "SUBSCRIBE /queue/q.*",
        "SUBSCRIBE /queue/q.bob.x",
        "SUBSCRIBE /exchange/e/#",
        "SUBSCRIBE /exchange/e/*",
        "SUBSCRIBE /exchange/e/bob.x",
        "SUBSCRIBE /exchange/e/bob",
        "SUBSCRIBE /group/bob",
        "SEND /app/bob/x",
        "SEND /app/bob/x/x",
        "SEND /app/../bob/x",
        "SEND /user/bob/queue/x",
        "SUBSCRIBE /topic/of",
        "SEND /topic/of.x",
    ];
    for name in hostile() {
        let by_name = named(&name);
        let by_claim = user("eve", &[], json!({ "t": name }));
        for request in others {
            assert!(!allowed(&of_user, &by_name, request), "{name:?} {request}");
            assert!(!allowed(&of_claim, &by_claim, request), "{name:?} {request}");
        }
        let own = written_word(&name).filter(|_| !name.starts_with('\u{202e}'));
        if let Some(word) = own.filter(|word| word.len() < 200) {
            for (rules, who) in [(&of_user, &by_name), (&of_claim, &by_claim)] {
                check(
                    rules,
                    who,
                    &[
                        (&format!("SUBSCRIBE /topic/of.{word}.x"), true),
                        (&format!("SEND /topic/of/{word}"), true),
                        (&format!("SEND /queue/q.{word}"), true),
                        (&format!("SUBSCRIBE /exchange/e/{word}"), true),
                        (&format!("SUBSCRIBE /group/{word}"), true),
                        (&format!("SEND /app/{word}/x"), true),
                    ],
                );
            }
        }
    }
}

#[test]
fn a_claim_that_is_no_single_text_makes_no_rule_match() {
    let rules = rules(
        "otherwise = 'deny'
         [[rules]]
         deny = 'subscribe'
         destination = '/topic/{claim.t}.secret'
         who = 'everyone'
         [[rules]]
         allow = 'subscribe'
         destination = '/topic/{claim.t}.#'
         who = 'everyone'",
    );
    for claims in [
        json!({}),
        json!({ "t": ["a"] }),
        json!({ "t": { "a": 1 } }),
        json!({ "t": null }),
        json!({ "t": true }),
        json!({ "t": 1.5 }),
        json!({ "t": "" }),
    ] {
        let who = user("ann", &[], claims.clone());
        for request in ["SUBSCRIBE /topic/a", "SUBSCRIBE /topic/a.x", "SUBSCRIBE /topic/#"] {
            assert!(!allowed(&rules, &who, request), "{claims} {request}");
        }
    }
    check(
        &rules,
        &user("ann", &[], json!({ "t": 7 })),
        &[
            ("SUBSCRIBE /topic/7.x", true),
            ("SUBSCRIBE /topic/7.secret", false),
            ("SUBSCRIBE /topic/7.#", false),
            ("SUBSCRIBE /topic/8.x", false),
        ],
    );
}

#[test]
fn the_name_of_those_without_one_is_nobodys() {
    let rules = rules(
        "otherwise = 'deny'\nrules = [{ allow = 'subscribe', destination = '/topic/{user}', who = 'everyone' }]",
    );
    assert!(!allowed(&rules, &Principal::anonymous(), "SUBSCRIBE /topic/anonymous"));
    assert!(allowed(&rules, &named("ann"), "SUBSCRIBE /topic/ann"));
}

/// Rules over few words, so that they often meet.
fn some_rules() -> impl Strategy<Value = String> {
    let rule = (
        prop_oneof![Just("allow"), Just("deny")],
        "(a|b|\\*|#|\\{user\\})(\\.(a|b|\\*|#|\\{user\\})){0,3}",
        prop_oneof![Just("'everyone'"), Just("{ users = ['b'] }"), Just("{ roles = ['r'] }")],
    );
    (proptest::collection::vec(rule, 0..5), prop_oneof![Just("default"), Just("deny"), Just("open")])
        .prop_map(|(rules, otherwise)| {
            let rules: String = rules
                .into_iter()
                .map(|(effect, pattern, who)| {
                    format!("{{ {effect} = 'subscribe', destination = '/topic/{pattern}', who = {who} }},")
                })
                .collect();
            format!("otherwise = '{otherwise}'\nrules = [{rules}]")
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// What this module is for.
    #[test]
    fn no_pattern_that_is_allowed_receives_a_key_that_is_not(
        toml in some_rules(),
        asked in "(a|b|c|\\*|#)(\\.(a|b|c|\\*|#)){0,3}",
        keys in proptest::collection::vec("(a|b|c|z)(\\.(a|b|c|z)){0,4}", 1..12),
        name in "a|b|c|a\\.b|#|\\*",
        role in prop_oneof![Just(&["r"][..]), Just(&[][..])],
    ) {
        // Rules that hide each other are refused, and prove nothing.
        let Ok(rules) = parsed(&toml) else { return Ok(()) };
        let who = user(&name, role, json!({}));
        let Ok(pattern) = Destinations::default().parse(&format!("/topic/{asked}"), Verb::Subscribe)
        else {
            return Ok(());
        };
        if rules.decide(&who, Action::Subscribe, &pattern).allowed {
            let Destination::Topic(pattern) = &pattern else { panic!() };
            for key in keys.iter().filter(|key| topic::matches(pattern.key(), key)) {
                let exact = Destination::Topic(Topic::exact("/topic".into(), key.as_str().into()));
                prop_assert!(
                    rules.decide(&who, Action::Subscribe, &exact).allowed,
                    "{} may have {} but not {}\n{}", name, asked, key, toml
                );
            }
        }
    }

    #[test]
    fn a_value_never_reaches_beyond_its_word(
        name in "[a-c./%*#{}2FE]{0,8}", other in "[a-c./%*#]{1,8}",
    ) {
        let rules = rules(
            "otherwise = 'deny'
             rules = [{ allow = 'subscribe', destination = '/topic/u.{user}.x', who = 'everyone' }]",
        );
        let text = format!("/topic/u.{other}.x");
        if let Ok(asked) = Destinations::default().parse(&text, Verb::Subscribe) {
            let allowed = rules.decide(&named(&name), Action::Subscribe, &asked).allowed;
            let Destination::Topic(topic) = &asked else { panic!() };
            let own = encoded_word(&name).map(|word| format!("u.{word}.x"));
            prop_assert_eq!(allowed, own.as_deref() == Some(&**topic.key()), "{} {}", name, text);
        }
    }
}
