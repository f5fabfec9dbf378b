//! Rules as they are written: which are mistakes, and how they are written again.

use access::rules::Config as RulesConfig;
use serde::Deserialize;

use crate::asked::{File, parsed};

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
