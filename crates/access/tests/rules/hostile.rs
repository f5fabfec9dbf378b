//! Names and claims that try to be more than a word.

use access::Action;
use access::rules::{encoded_word, written_word};
use broker::Destinations;
use broker::destination::{Destination, Verb};
use proptest::prelude::*;
use serde_json::json;

use crate::asked::{allowed, check, named, rules, user};

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

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
