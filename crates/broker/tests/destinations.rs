//! Which text names which destination, and what a person reads who wrote another.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use broker::destination::{
    App, Config, Destination, Destinations, Kind, Problem, Topic, UserDestination, Verb,
};
use proptest::prelude::*;

#[track_caller]
fn send(text: &str) -> Destination {
    Destinations::default().parse(text, Verb::Send).unwrap()
}

#[track_caller]
fn subscribe(text: &str) -> Destination {
    Destinations::default().parse(text, Verb::Subscribe).unwrap()
}

#[track_caller]
fn topic(text: &str) -> Topic {
    match subscribe(text) {
        Destination::Topic(topic) => topic,
        other => panic!("{text} is {other:?}"),
    }
}

/// Why `text` is refused, for both verbs alike.
#[track_caller]
fn refused(text: &str) -> Problem {
    let destinations = Destinations::default();
    let problem = destinations.parse(text, Verb::Subscribe).unwrap_err().problem;
    assert_eq!(destinations.parse(text, Verb::Send).unwrap_err().problem, problem);
    problem
}

/// What the sender or subscriber reads.
#[track_caller]
fn said(text: &str, verb: Verb) -> String {
    Destinations::default().parse(text, verb).unwrap_err().to_string()
}

fn configured(toml: &str) -> Result<Destinations, String> {
    match toml::from_str::<Config>(toml) {
        Ok(config) => Ok(Destinations::new(&config)),
        Err(error) => Err(error.message().to_owned()),
    }
}

#[test]
fn a_topic_is_the_same_however_it_is_spelled() {
    assert_eq!(send("/topic/a/b"), subscribe("/topic/a.b"));
    assert_eq!(subscribe("/topic/a/*/**"), subscribe("/topic/a.*.#"));
    assert_ne!(send("/topic/a"), send("/topic/b"));
}

#[test]
fn once_there_is_a_slash_a_dot_is_a_letter() {
    assert_eq!(topic("/topic/user/john.doe").key(), "user.john%2Edoe");
    assert_eq!(topic("/topic/user.john%2Edoe").key(), "user.john%2Edoe");
    assert_eq!(topic("/topic/john.doe").key(), "john.doe");
}

#[test]
fn an_escaped_slash_is_a_letter_and_nothing_else_is_escaped() {
    assert_eq!(topic("/topic/a%2Fb").key(), "a/b");
    assert_eq!(topic("/topic/a%2Fb/c").key(), "a/b.c");
    assert_eq!(topic("/topic/a%2fb%20%41").key(), "a%2fb%20%41");
    assert_eq!(send("/queue/a%2Fb"), Destination::Queue("a/b".into()));
    assert_eq!(send("/queue/a%2fb"), Destination::Queue("a%2fb".into()));
}

#[test]
fn wildcards_are_one_word_or_any_words() {
    for (text, key) in [
        ("/topic/*", "*"),
        ("/topic/a.*.c", "a.*.c"),
        ("/topic/#", "#"),
        ("/topic/**", "#"),
        ("/topic/a/**", "a.#"),
        ("/topic/a.#.#.b.#.**", "a.#.b.#"),
        ("/topic/#.#.#.#", "#"),
    ] {
        assert_eq!(topic(text).key(), key, "{text}");
        assert!(topic(text).is_pattern(), "{text}");
    }
    assert!(!topic("/topic/a.b").is_pattern());
}

#[test]
fn a_topic_that_is_no_topic_is_refused() {
    use Problem::*;
    let word = |word: &str| WildcardInWord { word: word.into() };
    for (text, problem) in [
        ("/topic", Unnamed { prefix: "/topic".into(), kind: Kind::Topic }),
        ("/topic/", Unnamed { prefix: "/topic".into(), kind: Kind::Topic }),
        ("/topic//a", EmptyWord),
        ("/topic/a//b", EmptyWord),
        ("/topic/a/", EmptyWord),
        ("/topic/a.", EmptyWord),
        ("/topic/.a", EmptyWord),
        ("/topic/a..b", EmptyWord),
        ("/topic/a?", ForeignWildcard { letter: '?' }),
        ("/topic/{room}", ForeignWildcard { letter: '{' }),
        ("/topic/a*", word("a*")),
        ("/topic/a/b#", word("b#")),
        ("/topic/***", word("***")),
        ("/topic/a.*/b", word("a.*")),
        ("/topic/#.a.#.b.#", TooManyHashes),
        ("/topic/a\0", ControlCharacter { code: 0 }),
        ("/topic/a\nb", ControlCharacter { code: 10 }),
    ] {
        assert_eq!(refused(text), problem, "{text:?}");
    }
    let send = Destinations::default().parse("/topic/a.*", Verb::Send);
    assert_eq!(send.unwrap_err().problem, Pattern);
}

#[test]
fn a_name_may_have_255_bytes() {
    for prefix in ["/topic/", "/queue/", "/exchange/", "/exchange/x/", "/reply-queue/", "/group/"] {
        let fits = format!("{prefix}{}", "a".repeat(255));
        assert!(Destinations::default().parse(&fits, Verb::Send).is_ok(), "{prefix}");
        assert_eq!(refused(&(fits + "a")), Problem::TooLong { length: 256, limit: 255 });
    }
    // What counts is the key: each dot inside a word takes three bytes of it.
    let dots = format!("/topic/a/{}", "b.".repeat(64));
    assert_eq!(refused(&dots), Problem::TooLong { length: 258, limit: 255 });
}

#[test]
fn a_pattern_shows_topics_with_its_own_separators() {
    for (pattern, message, shown) in [
        ("/topic/a/*", "/topic/a.b", "/topic/a/b"),
        ("/topic/a.*", "/topic/a/b", "/topic/a.b"),
        ("/topic/user/*", "/topic/user.john%2Edoe", "/topic/user/john.doe"),
        ("/topic/user.*", "/topic/user/john.doe", "/topic/user.john%2Edoe"),
        ("/topic/a/*", "/topic/a/b%2Fc", "/topic/a/b%2Fc"),
        ("/topic/a.*", "/topic/a/b%2Fc", "/topic/a.b%2Fc"),
        ("/topic/**", "/topic/a.b", "/topic/a/b"),
        ("/topic/#", "/topic/a/b", "/topic/a.b"),
        // Without a slash behind the prefix a plain dot would separate.
        ("/topic/**", "/topic/john%2Edoe", "/topic/john%2Edoe"),
    ] {
        assert_eq!(topic(pattern).shown(&topic(message)), shown, "{pattern} of {message}");
    }
}

#[test]
fn a_key_from_the_broker_is_taken_as_it_is() {
    let odd = Topic::exact("/topic".into(), "a..*".into());
    assert!(!odd.is_pattern());
    assert_eq!(topic("/topic/a/#").shown(&odd), "/topic/a//*");
    assert_ne!(Topic::exact("/topic".into(), "a.*".into()), topic("/topic/a.*"));
    assert_eq!(Topic::exact("/topic".into(), "a.b".into()), topic("/topic/a/b"));
}

#[test]
fn a_name_without_a_leading_slash_is_a_queue() {
    assert_eq!(send("orders"), Destination::Queue("orders".into()));
    assert_eq!(subscribe("a%2Fb"), Destination::Queue("a/b".into()));
    assert!(matches!(refused("a/b"), Problem::Unknown { .. }));
    assert!(matches!(refused(""), Problem::Unknown { .. }));

    // Nobody gets queues by the back door where all prefixes are for something else.
    let no_queues = configured("prefixes = { '/queue' = 'topic' }").unwrap();
    assert!(no_queues.parse("orders", Verb::Send).is_err());
}

#[test]
fn exchanges_and_queues_are_named_as_for_the_stomp_plugin() {
    let exchange = |exchange: &str, key: Option<&str>| Destination::Exchange {
        exchange: exchange.into(),
        key: key.map(Into::into),
    };
    assert_eq!(send("/queue/a.b c"), Destination::Queue("a.b c".into()));
    assert_eq!(send("/amq/queue/q"), Destination::AmqQueue("q".into()));
    assert_eq!(send("/reply-queue/a/b%2Fc"), Destination::ReplyQueue("a/b%2Fc".into()));
    assert_eq!(send("/exchange/x"), exchange("x", None));
    assert_eq!(send("/exchange/x/"), exchange("x", None));
    assert_eq!(send("/exchange/x%2Fy/a.b%2Fc"), exchange("x/y", Some("a.b/c")));
    assert_eq!(refused("/exchange//k"), Problem::EmptyWord);
    for text in ["/queue/a/b", "/amq/queue/a/b", "/exchange/x/y/z", "/group/a/b"] {
        assert!(matches!(refused(text), Problem::TooManyWords { .. }), "{text}");
    }
    for text in ["/queue/", "/queue", "/amq/queue/", "/exchange/", "/reply-queue/", "/group/"] {
        assert!(matches!(refused(text), Problem::Unnamed { .. }), "{text}");
    }
}

#[test]
fn a_temp_queue_is_only_for_replies() {
    let destinations = Destinations::default();
    for verb in [Verb::Send, Verb::Subscribe] {
        let problem = destinations.parse("/temp-queue/t", verb).unwrap_err().problem;
        assert_eq!(problem, Problem::ReplyToOnly { verb, kind: Kind::TempQueue });
    }
    let reply_to = |text| destinations.parse_reply_to(text);
    assert_eq!(reply_to("/temp-queue/t").unwrap(), Destination::TempQueue("t".into()));
    assert_eq!(reply_to("/queue/q").unwrap(), Destination::Queue("q".into()));
    assert!(reply_to("/temp-queue/a/b").is_err());
    assert!(reply_to("/topic/*").is_err());
}

#[test]
fn a_user_subscribes_to_nobody_else() {
    let own = |path: &str| Destination::User(UserDestination { name: None, path: path.into() });
    assert_eq!(subscribe("/user/queue/x"), own("/queue/x"));
    assert_eq!(subscribe("/user/topic/a/b"), own("/topic/a/b"));
    assert_eq!(
        said("/user/bob/queue/x", Verb::Subscribe),
        "'/user/bob/queue/x' cannot be subscribed to: a user's destinations are open to that user \
         alone, who writes /user and then one of /queue, /topic"
    );
    let refused = |text| Destinations::default().parse(text, Verb::Subscribe).unwrap_err().problem;
    for text in ["/user", "/user/", "/user/x", "/user/app/x", "/user//queue/x"] {
        assert!(matches!(refused(text), Problem::AnotherUser { .. }), "{text}");
    }
    assert!(matches!(refused("/user/queue/"), Problem::Unnamed { .. }));
    assert_eq!(refused("/user/queue/a//b"), Problem::EmptyWord);
    assert_eq!(refused("/user/queue/*"), Problem::Pattern);
}

#[test]
fn a_send_to_a_user_names_the_user() {
    let to = |name: &str, path: &str| {
        Destination::User(UserDestination { name: Some(name.into()), path: path.into() })
    };
    assert_eq!(send("/user/bob/queue/x"), to("bob", "/queue/x"));
    assert_eq!(send("/user/a%2Fb/queue/x/y"), to("a/b", "/queue/x/y"));
    assert_eq!(send("/user/queue/queue/x"), to("queue", "/queue/x"));
    let refused = |text| Destinations::default().parse(text, Verb::Send).unwrap_err().problem;
    for text in ["/user", "/user/", "/user/bob", "/user//queue/x", "/user/queue/x", "/user/b/app/x"]
    {
        assert!(matches!(refused(text), Problem::NoUser { .. }), "{text}");
    }
    assert_eq!(refused("/user/bob/queue/*"), Problem::Pattern);
}

#[test]
fn the_application_gets_the_path_as_written() {
    let app = |path: &str| Destination::App(App { prefix: "/app".into(), path: path.into() });
    assert_eq!(send("/app/a/b"), app("a/b"));
    assert_eq!(subscribe("/app/~/a%2Fb.*"), app("~/a%2Fb.*"));
    assert!(matches!(refused("/app/"), Problem::Unnamed { .. }));
    for path in ["/app//a", "/app/a/", "/app/a//b"] {
        assert_eq!(refused(path), Problem::EmptyWord);
    }
}

#[test]
fn a_refusal_says_what_would_be_right() {
    assert_eq!(
        said("/topics/a", Verb::Send),
        "'/topics/a' is not a valid destination: it must begin with one of /amq/queue, /app, \
         /exchange, /group, /queue, /reply-queue, /temp-queue, /topic, /user"
    );
    assert_eq!(
        said("/queue/a/b", Verb::Send),
        "'/queue/a/b' has more words than a queue destination: write /queue/<name>, and %2F for a \
         slash in a name"
    );
    assert_eq!(
        said("/temp-queue/t", Verb::Subscribe),
        "'/temp-queue/t' is not a valid destination for SUBSCRIBE: a temp-queue can only be named \
         in the reply-to header of a SEND"
    );
}

#[test]
fn a_refusal_repeats_at_most_a_hundred_characters() {
    let error = Destinations::default().parse(&"/ü\n".repeat(100), Verb::Send).unwrap_err();
    assert_eq!(error.destination, format!("{}/…", "/ü\\n".repeat(33)));
}

#[test]
fn a_prefix_fits_whole_words_and_the_longest_wins() {
    let table = configured(
        "prefixes = { '/topic/orders' = 'queue', '/topic/secret' = 'off', '/amq/queue' = 'off' }",
    )
    .unwrap();
    let parse = |text| table.parse(text, Verb::Send).map(|d| d.kind());
    assert_eq!(parse("/topic/a/b"), Ok(Kind::Topic));
    assert_eq!(parse("/topic/orders/a"), Ok(Kind::Queue));
    assert_eq!(parse("/topic/orders2/a"), Ok(Kind::Topic));
    assert!(matches!(parse("/topic/secret/a").unwrap_err().problem, Problem::Unknown { .. }));
    assert!(matches!(parse("/amq/queue/a").unwrap_err().problem, Problem::Unknown { .. }));
}

#[test]
fn a_file_is_laid_over_the_default_prefixes() {
    let table = configured("prefixes = { '/queue' = 'topic', '/ws-app' = 'app' }").unwrap();
    let kind = |text| table.parse(text, Verb::Send).unwrap().kind();
    assert_eq!(kind("/queue/a/b"), Kind::Topic);
    assert_eq!(kind("/ws-app/a"), Kind::App);
    assert_eq!(kind("/app/a"), Kind::App);
    assert_eq!(kind("/topic/a"), Kind::Topic);
    assert_ne!(
        table.parse("/queue/a", Verb::Send).unwrap(),
        table.parse("/topic/a", Verb::Send).unwrap()
    );
}

#[test]
fn a_bad_prefix_is_refused_when_read() {
    let said = |prefix: &str| configured(&format!("prefixes = {{ '{prefix}' = 'topic' }}"));
    for (prefix, why) in [
        ("topic", "must begin with a slash"),
        ("", "must begin with a slash"),
        ("/", "must have a word after the slash"),
        ("/topic/", "must not end with a slash"),
        ("/a//b", "has an empty word"),
        ("/~nodes", "must not begin with /~, as the nodes' own topics do"),
        ("/a/*", "must not hold a wildcard (*, #, ? or {)"),
    ] {
        assert_eq!(said(prefix).unwrap_err(), format!("prefix \"{prefix}\" {why}"));
    }
    assert!(configured("prefixes = { '/a' = 'tropic' }").unwrap_err().contains("amq-queue"));
    assert!(configured("prefix = {}").unwrap_err().contains("unknown field"));
}

#[test]
fn the_configuration_reads_back_what_it_wrote() {
    let config = Config::default();
    let written = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<Config>(&written).unwrap(), config);
    for kind in config.prefixes.values() {
        assert!(written.contains(&format!("\"{kind}\"")), "{kind} is spelled as in the file");
    }
}

#[test]
fn a_destination_is_displayed_in_its_canonical_spelling() {
    for (text, shown) in [
        ("/topic/a/b.c", "/topic/a.b%2Ec"),
        ("orders", "/queue/orders"),
        ("/queue/a%2Fb", "/queue/a%2Fb"),
        ("/exchange/x/k", "/exchange/x/k"),
        ("/amq/queue/q", "/amq/queue/q"),
        ("/reply-queue/a/b", "/reply-queue/a/b"),
        ("/user/a%2Fb/queue/x", "/user/a%2Fb/queue/x"),
        ("/group/g", "/group/g"),
        ("/app/a/b", "/app/a/b"),
    ] {
        assert_eq!(send(text).to_string(), shown);
        assert_eq!(send(shown), send(text));
    }
    assert_eq!(subscribe("/user/queue/x").to_string(), "/user/queue/x");
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "(/(topic|queue|user|exchange|app|amq|x))?[/a.*#%2FE?\\PC]{0,30}") {
        let destinations = Destinations::default();
        for verb in [Verb::Send, Verb::Subscribe] {
            if let Ok(destination) = destinations.parse(&text, verb) {
                // What is displayed names the same.
                prop_assert_eq!(destinations.parse(&destination.to_string(), verb), Ok(destination));
            }
        }
    }

    #[test]
    fn what_a_pattern_shows_names_the_same_topic(
        text in "[a/.%2FE]{1,20}", pattern in prop::sample::select(vec!["#", "**", "a/**", "a.#"]),
    ) {
        let destinations = Destinations::default();
        if let Ok(Destination::Topic(message)) =
            destinations.parse(&format!("/topic/{text}"), Verb::Send)
        {
            let shown = topic(&format!("/topic/{pattern}")).shown(&message);
            prop_assert_eq!(
                destinations.parse(&shown, Verb::Send), Ok(Destination::Topic(message))
            );
        }
    }
}
