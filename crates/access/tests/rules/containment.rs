//! No pattern that may be subscribed to receives a key whose own subscription is denied.

use access::Action;
use broker::destination::{Destination, Topic, Verb};
use broker::{Destinations, topic};
use proptest::prelude::*;
use serde_json::json;

use crate::asked::{parsed, user};

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
}
