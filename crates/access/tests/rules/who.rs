//! Whom a rule is about.

use access::{Authentication, Principal};
use serde_json::json;

use crate::asked::{allowed, check, named, rules, user};

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
