//! What rules decide: their order, containment, spellings and kinds.

use access::rules::{By, Otherwise};
use access::{Action, Principal, Rules};
use broker::Destinations;
use broker::destination::{Config as Prefixes, Verb};
use serde_json::json;

use crate::asked::{File, REQUESTS, allowed, check, destination, named, rules, user};

#[test]
fn without_rules_clients_listen_to_topics_and_to_their_own_and_send_to_the_application() {
    let granted = [
        "SUBSCRIBE /topic/a",
        "SUBSCRIBE /topic/#",
        "SUBSCRIBE /user/queue/x",
        "SEND /app/x",
        // Whether it is a member is asked besides.
        "SUBSCRIBE /group/g",
        "SEND /group/g",
    ];
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
