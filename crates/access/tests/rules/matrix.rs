//! Principals × rules × destinations × actions: what the rules decide against the [`oracle`](crate::oracle).

use access::Action;
use serde_json::json;

use crate::compared::{ALL, Compiled, LISTEN, SEND, SUBSCRIBE, line, person};
use crate::oracle::{Asked, Book, Part, Person, Place, Step, Whom, Within, Word};

/// Names that a token may hold, or that none may but that must do no harm here.
fn hostile() -> Vec<String> {
    let short = [
        "*",
        "#",
        "**",
        "a.b",
        "a/b",
        "a%2Fb",
        "%2E",
        "%2e",
        "%2F",
        "%",
        "..",
        ".",
        "/",
        "bob.x",
        "bob/queue",
        "bob%2Fqueue",
        "queue",
        "topic",
        "{user}",
        "{claim.team}",
        "?",
        // Not those letters of bob and ann.
        "b\u{43e}b",
        "\u{ff41}nn",
        "bob\u{200b}",
        "\u{202e}bob",
        "BOB",
        " bob",
        // As ids of sessions are.
        "0123456789abcdefghijABCDEFGHIJ",
        "",
        "\0",
        "bob\n",
        "bob\0",
    ];
    let long =
        ["x".repeat(255), ".".repeat(255), "#".repeat(85), "x".repeat(256), "x".repeat(1000)];
    short.map(str::to_owned).into_iter().chain(long).collect()
}

fn persons() -> Vec<Person> {
    let mut all = vec![
        person("anonymous", false, &[], json!({})),
        // It says so, and nobody has checked it.
        person("ann", false, &[], json!({})),
        person("ann", true, &["trader"], json!({ "team": "red", "tier": "gold" })),
        person("bob", true, &[], json!({ "team": "blue" })),
        person("root", true, &["admin", "trader"], json!({})),
    ];
    all.extend(hostile().iter().map(|name| person(name, true, &[], json!({ "team": name }))));
    all
}

/// The parts of a pattern: words, `*`, `#`, `{user}`, `{claim.team}`.
fn parts(text: &'static str) -> Vec<Part> {
    let part = |word| match word {
        "*" => Part::One,
        "#" => Part::Many,
        "{user}" => Part::User,
        "{claim.team}" => Part::Claim("team"),
        word => Part::Is(word),
    };
    text.split_whitespace().map(part).collect()
}

fn at(place: Place, text: &'static str) -> (Within, Vec<Part>) {
    (Within::Place(place), parts(text))
}

/// A corner of each kind for everybody, named by `part`.
fn corners(part: &'static str) -> Vec<(Within, Vec<Part>)> {
    let leaked = |text: String| -> &'static str { String::leak(text) };
    let of = parts(part).remove(0);
    vec![
        at(Place::Topic, leaked(format!("of {part} x"))),
        at(Place::Topic, leaked(format!("of {part}"))),
        at(Place::Queue, leaked(format!("q {part}"))),
        at(Place::AmqQueue, part),
        at(Place::TempQueue, leaked(format!("{part} #"))),
        at(Place::ReplyQueue, leaked(format!("r {part}"))),
        at(Place::Exchange("e"), leaked(format!("{part} #"))),
        at(Place::Group, part),
        at(Place::App, leaked(format!("{part} *"))),
        (Within::OfPart(of), parts("queue x")),
    ]
}

fn books() -> Vec<(&'static str, Book)> {
    let book = |otherwise, lines| Book { lines, otherwise };
    let topic = |text| at(Place::Topic, text);
    vec![
        ("default", book("default", vec![])),
        ("deny", book("deny", vec![])),
        ("open", book("open", vec![])),
        ("own corners", book("deny", vec![line(true, ALL, Whom::Everyone, corners("{user}"))])),
        (
            "corners by claim",
            book("deny", vec![line(true, ALL, Whom::Proven, corners("{claim.team}"))]),
        ),
        (
            "everybody's corners are closed",
            book("open", vec![line(false, ALL, Whom::Everyone, corners("{user}"))]),
        ),
        (
            "secrets",
            book(
                "open",
                vec![
                    line(
                        true,
                        LISTEN,
                        Whom::Everyone,
                        vec![topic("secret public #"), at(Place::Exchange("e"), "a #")],
                    ),
                    line(
                        true,
                        ALL,
                        Whom::Having("admin"),
                        vec![topic("secret #"), (Within::Users, vec![])],
                    ),
                    line(
                        false,
                        ALL,
                        Whom::Everyone,
                        vec![
                            topic("secret #"),
                            topic("# secret"),
                            at(Place::Queue, "secret #"),
                            at(Place::Exchange("e"), "* secret #"),
                            at(Place::Group, "secret"),
                            at(Place::App, "secret #"),
                            at(Place::Of("bob".into()), "queue #"),
                        ],
                    ),
                ],
            ),
        ),
        (
            "some persons",
            book(
                "default",
                vec![
                    line(false, SUBSCRIBE, Whom::Named(&["bob", "anonymous"]), vec![topic("a *")]),
                    line(
                        true,
                        SEND,
                        Whom::Named(&["ann", "anonymous"]),
                        vec![topic("a #"), (Within::OfPart(Part::One), parts("queue x"))],
                    ),
                    line(
                        true,
                        LISTEN,
                        Whom::Having("trader"),
                        vec![at(Place::Queue, "a *"), at(Place::Exchange("e"), "#")],
                    ),
                    line(
                        false,
                        SUBSCRIBE,
                        Whom::Unproven,
                        vec![topic("# x"), at(Place::Own, "queue a")],
                    ),
                    line(
                        true,
                        ALL,
                        Whom::Claiming("tier", "gold"),
                        vec![at(Place::Group, "red"), at(Place::App, "a *")],
                    ),
                    line(false, ALL, Whom::Proven, vec![topic("of {user} #")]),
                ],
            ),
        ),
        (
            "wildcards",
            book(
                "deny",
                vec![
                    line(
                        false,
                        LISTEN,
                        Whom::Everyone,
                        vec![topic("a # x"), at(Place::Exchange("e"), "* * x")],
                    ),
                    line(
                        true,
                        LISTEN,
                        Whom::Everyone,
                        vec![
                            topic("a * x"),
                            topic("# x #"),
                            topic("of *"),
                            at(Place::Exchange("e"), "* #"),
                            at(Place::Own, "topic # x"),
                        ],
                    ),
                ],
            ),
        ),
        (
            "all but the application",
            book(
                "open",
                vec![
                    line(true, SEND, Whom::Everyone, vec![at(Place::App, "a #")]),
                    line(false, SEND, Whom::Unproven, vec![(Within::Everything, vec![])]),
                ],
            ),
        ),
    ]
}

fn steps(text: &str) -> Vec<Step> {
    let step = |word: &str| match word {
        "*" => Step::One,
        "#" => Step::Many,
        word => Step::Is(Word::Means(word.to_owned())),
    };
    text.split_whitespace().map(step).collect()
}

fn asked(actions: &[Action], place: &Place, steps: &[Step]) -> impl Iterator<Item = Asked> {
    actions.iter().map(|action| Asked {
        action: *action,
        place: place.clone(),
        steps: steps.to_vec(),
    })
}

/// What everybody asks for, `name` being somebody's.
fn requests(name: &str) -> Vec<Asked> {
    let mut all = Vec::new();
    let named = Step::Is(Word::Means(name.to_owned()));
    let with = |before: &str, behind: &str| {
        let mut all = steps(before);
        all.push(named.clone());
        all.extend(steps(behind));
        all
    };
    let topics = [
        steps("a"),
        steps("a x"),
        steps("a b x"),
        steps("secret"),
        steps("secret public x"),
        steps("b secret"),
        with("of", ""),
        with("of", "x"),
        with("of", "x x"),
        with("", "x"),
        with("", ""),
    ];
    let keys = topics.iter().cloned().chain([vec![]]);
    let patterns = [
        "#",
        "*",
        "* *",
        "# x",
        "a #",
        "a * x",
        "a # x",
        "of #",
        "of *",
        "of * x",
        "of # x",
        "secret *",
        "secret public #",
        "secret public * x",
        "* secret",
        "# secret #",
        "* #",
        "# *",
        "b #",
    ]
    .map(steps);
    for words in topics.iter().chain(&patterns) {
        all.extend(asked(LISTEN, &Place::Topic, words));
    }
    for words in &topics {
        all.extend(asked(SEND, &Place::Topic, words));
    }
    for words in [with("of", "#"), with("of", "*"), with("", "#")].iter().chain(&patterns) {
        all.extend(asked(LISTEN, &Place::Exchange("e"), words));
    }
    for words in keys {
        all.extend(asked(ALL, &Place::Exchange("e"), &words));
        all.extend(asked(SEND, &Place::Exchange("other"), &words));
    }
    for place in [Place::Queue, Place::AmqQueue, Place::ReplyQueue, Place::Group, Place::App] {
        for words in [
            steps("a"),
            steps("a b"),
            steps("secret"),
            steps("red"),
            with("q", ""),
            with("r", ""),
            with("", ""),
            with("", "x"),
        ] {
            all.extend(asked(ALL, &place, &words));
        }
        // In a name these are letters.
        for letters in ["*", "#", "**", "q.*", "%2e", "%2a", "secret..x", "secret."] {
            let words = letters.split('.').map(|word| match word {
                word if word.contains(['*', '#', '%']) || word.is_empty() => {
                    Word::Letters(word.to_owned())
                }
                word => Word::Means(word.to_owned()),
            });
            let words: Vec<_> = words.map(Step::Is).collect();
            all.extend(asked(ALL, &place, &words));
        }
    }
    for words in [with("", ""), with("", "x"), steps("a")] {
        all.extend(asked(&[Action::Queue], &Place::TempQueue, &words));
    }
    for words in [
        steps("queue a"),
        steps("queue x"),
        steps("topic x"),
        steps("topic a x"),
        with("queue", ""),
        with("queue queue", ""),
    ] {
        all.extend(asked(SUBSCRIBE, &Place::Own, &words));
        for name in [name, "bob", "ann", "nobody"] {
            all.extend(asked(SEND, &Place::Of(name.to_owned()), &words));
        }
    }
    all
}

#[test]
fn every_principal_may_do_by_every_rule_what_it_says_and_no_more() {
    for (title, book) in books() {
        let book = Compiled::new(title, book).unwrap_or_else(|why| panic!("{title}: {why}"));
        let mut found = [0, 0];
        for person in persons() {
            let mut requests = requests(&person.name);
            if !["anonymous", "ann", "bob", "root"].contains(&&*person.name) {
                // What has nothing to do with names is the same to all of these.
                let of = Step::Is(Word::Means("of".into()));
                requests.retain(|asked| !asked.has_wildcards() || asked.steps.contains(&of));
            }
            let [allowed, refused] = book.compare(&person, &requests);
            found = [found[0] + allowed, found[1] + refused];
        }
        println!("{title}: {} allowed, {} refused", found[0], found[1]);
        assert!(found[0] > 0 || title == "deny");
        assert!(found[1] > 0 || title == "open");
    }
}

#[test]
fn nobody_gets_by_a_hostile_name_what_is_anothers() {
    let mut others = requests("bob");
    others.retain(|asked| !asked.has_wildcards());
    for (title, book) in books().into_iter().filter(|(title, _)| title.contains("corners")) {
        let book = Compiled::new(title, book).unwrap_or_else(|why| panic!("{title}: {why}"));
        for name in hostile() {
            book.compare(&person(&name, true, &[], json!({ "team": name })), &others);
        }
    }
}
