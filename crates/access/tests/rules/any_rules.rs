//! Rules that nobody thought of, against the [`oracle`](crate::oracle).

use access::Action;
use proptest::prelude::*;
use serde_json::json;

use crate::compared::{ALL, Compiled, LISTEN, SEND, SUBSCRIBE, line, person};
use crate::oracle::{Asked, Book, Line, Part, Person, Place, Step, Whom, Within, Word};

fn some_part() -> impl Strategy<Value = Part> {
    prop_oneof![
        3 => Just(Part::Is("a")), 2 => Just(Part::Is("b")), 2 => Just(Part::One), 2 => Just(Part::Many),
        2 => Just(Part::User), 1 => Just(Part::Claim("team")),
    ]
}

fn some_step(wild: bool) -> impl Strategy<Value = Step> {
    let is = |word: &str| Just(Step::Is(Word::Means(word.to_owned())));
    let wild = u32::from(wild) * 2;
    prop_oneof![3 => is("a"), 2 => is("b"), 1 => is("elsewhere"), 1 => is("a.b"), wild => Just(Step::One), wild => Just(Step::Many)]
}

fn some_place() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => Just(Place::Topic), 2 => Just(Place::Exchange("e")), 1 => Just(Place::Queue), 1 => Just(Place::App),
        1 => Just(Place::Group),
    ]
}

fn some_line() -> impl Strategy<Value = Line> {
    let within = prop_oneof![
        12 => some_place().prop_map(Within::Place),
        1 => Just(Within::Everything),
    ];
    let pattern = (within, proptest::collection::vec(some_part(), 1..4));
    let actions = prop_oneof![Just(ALL), Just(SEND), Just(SUBSCRIBE), Just(LISTEN)];
    let whom = prop_oneof![
        4 => Just(Whom::Everyone), 1 => Just(Whom::Proven), 1 => Just(Whom::Unproven),
        1 => Just(Whom::Named(&["a", "anonymous"])), 1 => Just(Whom::Having("admin")),
        1 => Just(Whom::Claiming("team", "b")),
    ];
    (any::<bool>(), actions, whom, proptest::collection::vec(pattern, 1..3))
        .prop_map(|(allows, actions, whom, patterns)| line(allows, actions, whom, patterns))
}

fn some_book() -> impl Strategy<Value = Book> {
    let otherwise = prop_oneof![Just("default"), Just("deny"), Just("open")];
    (proptest::collection::vec(some_line(), 0..5), otherwise)
        .prop_map(|(lines, otherwise)| Book { lines, otherwise })
}

fn some_person() -> impl Strategy<Value = Person> {
    let name = prop_oneof![Just("a"), Just("b"), Just("a.b"), Just("#"), Just("*"), Just("")];
    let roles = prop_oneof![Just(vec![]), Just(vec!["admin"])];
    let team = prop_oneof![Just("a"), Just("b"), Just("#"), Just("a.b")];
    (name, any::<bool>(), roles, team).prop_map(|(name, proven, roles, team)| {
        if proven {
            Person { name: name.to_owned(), proven, roles, claims: json!({ "team": team }) }
        } else {
            person("anonymous", false, &[], json!({}))
        }
    })
}

fn some_request() -> impl Strategy<Value = Asked> {
    (some_place(), prop_oneof![Just(Action::Send), Just(Action::Subscribe), Just(Action::Queue)])
        .prop_flat_map(|(place, action)| {
            let wild = action != Action::Send && matches!(place, Place::Topic | Place::Exchange(_));
            (Just(place), Just(action), proptest::collection::vec(some_step(wild), 1..4))
        })
        // More are refused, see `decisions`.
        .prop_filter("more than two #", |(.., steps)| {
            steps.iter().filter(|step| **step == Step::Many).count() <= 2
        })
        .prop_map(|(place, action, steps)| Asked { place, action, steps })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_rules_decide_as_if_each_destination_were_looked_at(
        book in some_book(), person in some_person(), requests in proptest::collection::vec(some_request(), 1..6),
    ) {
        // Rules that hide each other are refused, and prove nothing.
        if let Ok(book) = Compiled::new("any", book) {
            book.compare(&person, &requests);
        }
    }
}
