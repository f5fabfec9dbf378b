//! What a gateway lets clients do, compared with an oracle of the rules, while messages flow everywhere.
//!
//! The whole of the comparison is beside the rules (`crates/access/tests/rules`); here it is seen from outside, and
//! what is refused is seen not to happen.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../../access/tests/rules/oracle.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod oracle;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access::Action;
use access::token::Signer;
use broker_embedded::EmbeddedBroker;
use oracle::{Asked, Book, Line, Part, Person, Place, Spelling, Step, Whom, Within, Word, World};
use presence::{GroupName, Groups, Member, UserName};
use serde_json::{Value, json};
use stomp::{Command, Frame, header};
use support::{Client, Node, config, frame};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const SECRET: &str = "a secret that is long enough: 32 bytes.";
const ALL: &[Action] = &[Action::Send, Action::Subscribe, Action::Queue];
const LISTEN: &[Action] = &[Action::Subscribe];

/// Topics to which messages flow.
const TOPICS: [&str; 7] =
    ["news", "news a", "secret", "secret a", "secret public a", "of bob x", "of ann x"];

fn words(text: &str) -> Vec<Step> {
    let word = |word: &str| match word {
        "*" => Step::One,
        "#" => Step::Many,
        // Names with what means something in a destination.
        word => Step::Is(Word::Means(word.to_owned())),
    };
    text.split_whitespace().map(word).collect()
}

fn parts(text: &'static str) -> Vec<Part> {
    let part = |word| match word {
        "*" => Part::One,
        "#" => Part::Many,
        "{user}" => Part::User,
        word => Part::Is(word),
    };
    text.split_whitespace().map(part).collect()
}

fn book() -> Book {
    let at = |place, text| (Within::Place(place), parts(text));
    let line = |allows, actions, whom, patterns| Line { allows, actions, whom, patterns };
    let lines = vec![
        line(true, ALL, Whom::Having("admin"), vec![(Within::Everything, vec![])]),
        line(true, LISTEN, Whom::Everyone, vec![at(Place::Topic, "secret public #")]),
        line(
            false,
            ALL,
            Whom::Everyone,
            vec![
                at(Place::Topic, "secret #"),
                at(Place::Queue, "secret #"),
                at(Place::Group, "blue"),
            ],
        ),
        line(
            true,
            ALL,
            Whom::Everyone,
            vec![
                at(Place::Topic, "of {user} #"),
                at(Place::Topic, "news #"),
                at(Place::Queue, "q {user}"),
                at(Place::Group, "red"),
                at(Place::App, "{user}"),
                at(Place::Own, "queue #"),
                (Within::OfPart(Part::User), parts("queue #")),
            ],
        ),
        line(
            true,
            &[Action::Send],
            Whom::Having("trader"),
            vec![(Within::OfPart(Part::One), parts("queue x"))],
        ),
    ];
    Book { lines, otherwise: "deny" }
}

fn person(name: &str, roles: &[&'static str]) -> Person {
    let claims = json!({ "roles": roles });
    Person { name: name.to_owned(), proven: true, roles: roles.to_vec(), claims }
}

fn persons() -> Vec<Person> {
    let nobody =
        Person { name: "anonymous".into(), proven: false, roles: vec![], claims: json!({}) };
    let hostile = ["#", "*", "bob.x", "a/b", "%2E", "bob%2Ex", "queue", "b\u{43e}b", "{user}"];
    let long = ["x".repeat(255), "0123456789abcdefghijABCDEFGHIJ".to_owned()];
    let hostile = hostile.map(str::to_owned).into_iter().chain(long);
    [nobody, person("ann", &["trader"]), person("bob", &[])]
        .into_iter()
        .chain(hostile.map(|name| person(&name, &[])))
        .collect()
}

fn requests(name: &str) -> Vec<Asked> {
    let own = Step::Is(Word::Means(name.to_owned()));
    let with = |before: &str, behind: &str| {
        words(before).into_iter().chain([own.clone()]).chain(words(behind)).collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    let mut ask = |action, place: Place, steps: Vec<Step>| all.push(Asked { action, place, steps });
    for pattern in
        ["#", "news #", "* a", "secret *", "secret public #", "# public #", "of #", "of * x"]
    {
        ask(Action::Subscribe, Place::Topic, words(pattern));
    }
    for topic in TOPICS {
        ask(Action::Subscribe, Place::Topic, words(topic));
        ask(Action::Send, Place::Topic, words(topic));
    }
    ask(Action::Subscribe, Place::Topic, with("of", "#"));
    ask(Action::Subscribe, Place::Topic, with("of", "x"));
    ask(Action::Send, Place::Topic, with("of", "x"));
    for queue in [words("secret a"), words("q bob"), with("q", "")] {
        ask(Action::Subscribe, Place::Queue, queue.clone());
        ask(Action::Send, Place::Queue, queue);
    }
    for group in [words("red"), words("blue"), words("none"), with("", "")] {
        ask(Action::Subscribe, Place::Group, group.clone());
        ask(Action::Send, Place::Group, group);
    }
    for path in ["queue x", "queue a x", "topic x"] {
        ask(Action::Subscribe, Place::Own, words(path));
        for to in ["bob", "root", name] {
            ask(Action::Send, Place::Of(to.to_owned()), words(path));
        }
    }
    for app in [words("bob"), with("", "")] {
        ask(Action::Send, Place::App, app);
    }
    for place in [Place::AmqQueue, Place::ReplyQueue, Place::Exchange("amq.topic")] {
        ask(Action::Send, place.clone(), words("secret"));
        if place != Place::ReplyQueue {
            ask(Action::Subscribe, place, words("secret"));
        }
    }
    all
}

fn token(person: &Person) -> String {
    let Value::Object(mut claims) = person.claims.clone() else { panic!("{person:?}") };
    claims.insert("sub".into(), person.name.clone().into());
    let signer = Signer::of_secret(&SECRET.into()).unwrap();
    signer.sign(claims, Some(Duration::from_secs(3600)), SystemTime::now()).unwrap()
}

async fn node() -> Node {
    let text =
        format!("jwt_secret = '{SECRET}'\nanonymous = 'allow'\n{}", book().written(Spelling::Dots));
    let access: access::Config = toml::from_str(&text).unwrap();
    let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
    let stomp = stomp::Config { max_frames_per_second: 0, ..stomp::Config::default() };
    Node::start_for(access, broker, config(), stomp).await
}

async fn connect(node: &Node, person: &Person) -> Client {
    let authorization = format!("Bearer {}", token(person));
    let headers: &[_] = if person.proven { &[("authorization", &*authorization)] } else { &[] };
    let mut client = node.open(headers).await.unwrap();
    client.send_text("CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0").await;
    let answer = client.frame().await;
    assert_eq!(answer.command, Command::Connected, "{}: {answer:?}", person.name);
    client
}

/// Sends to all topics until a frame says that it is enough.
async fn keep_publishing(mut root: Client, enough: Arc<Notify>) {
    let topics = TOPICS.map(|topic| {
        let asked = Asked { action: Action::Send, place: Place::Topic, steps: words(topic) };
        asked.written(Spelling::Dots).unwrap()
    });
    let publish = async {
        loop {
            for topic in &topics {
                root.publish_confirmed(topic, "flood").await;
            }
        }
    };
    tokio::select! {
        () = publish => {}
        () = enough.notified() => {}
    }
}

/// Where messages are looked for: what is sent there and may not be must not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Watched {
    Topics,
    Queue,
    Bob,
    Group,
}

impl Watched {
    const ALL: [Self; 4] = [Self::Topics, Self::Queue, Self::Bob, Self::Group];

    /// Who watches, to what it is subscribed, and where to the last message is sent.
    fn subscription(self) -> (Person, &'static [&'static str], &'static str) {
        let root = person("root", &["admin"]);
        match self {
            Self::Topics => (root, &["/topic/#"], "/topic/the.end"),
            Self::Queue => (root, &["/queue/secret.a"], "/queue/secret.a"),
            Self::Bob => {
                let paths = &["/user/queue/x", "/user/queue/a/x", "/user/queue/a.x"];
                (person("bob", &["admin"]), paths, "/user/bob/queue/x")
            }
            Self::Group => (root, &["/group/red", "/group/blue"], "/group/red"),
        }
    }

    /// Where what is sent to `asked` is seen, if anywhere.
    fn of(asked: &Asked) -> Option<Self> {
        match &asked.place {
            Place::Topic => Some(Self::Topics),
            Place::Queue if asked.steps == words("secret a") => Some(Self::Queue),
            Place::Of(name) if name == "bob" => Some(Self::Bob),
            Place::Group if [words("red"), words("blue")].contains(&asked.steps) => {
                Some(Self::Group)
            }
            _ => None,
        }
    }
}

/// Collects the bodies that come, except those that flow all the time.
async fn watch(node: &Node, watched: Watched) -> JoinHandle<BTreeSet<String>> {
    let (person, destinations, _) = watched.subscription();
    let mut client = connect(node, &person).await;
    for (id, destination) in destinations.iter().enumerate() {
        let id = id.to_string();
        client.tell(Command::Subscribe, &[("id", &id), ("destination", destination)]).await;
        while client.frame().await.command != Command::Receipt {}
    }
    tokio::spawn(async move {
        let mut bodies = BTreeSet::new();
        loop {
            match &*client.body().await {
                "flood" => {}
                "the end" => return bodies,
                body => _ = bodies.insert(body.to_owned()),
            }
        }
    })
}

/// The words of a topic that a MESSAGE shows.
fn topic_of(message: &Frame) -> Vec<Step> {
    let shown = message.header(header::DESTINATION).unwrap();
    let rest = shown.strip_prefix("/topic/").unwrap();
    words(&rest.replace(['.', '/'], " "))
}

/// What a client may get as the person that it is.
struct View<'a> {
    book: &'a Book,
    person: &'a Person,
    world: World,
}

impl View<'_> {
    fn allows(&self, asked: &Asked) -> bool {
        self.book.allows(self.person, asked, &self.world)
    }

    /// Checks a frame that came, if it is a MESSAGE of a topic.
    #[track_caller]
    fn check(&self, message: &Frame) {
        let topic =
            Asked { action: Action::Subscribe, place: Place::Topic, steps: topic_of(message) };
        assert!(self.allows(&topic), "{} got {message:?}", self.person.name);
    }
}

#[tokio::test]
async fn a_gateway_does_what_the_rules_say_and_delivers_nothing_that_they_refuse() {
    let (node, book) = (node().await, book());
    let root = person("root", &["admin"]);
    let red = GroupName::new("red").unwrap();
    let blue = GroupName::new("blue").unwrap();
    for (group, name) in [(&red, "ann"), (&red, "root"), (&blue, "root")] {
        let member = Member::User(UserName::new(name).unwrap());
        node.presence.add(group, &[member], None).await.unwrap();
    }
    let enough = Arc::new(Notify::new());
    let flood = tokio::spawn(keep_publishing(connect(&node, &root).await, enough.clone()));

    let mut watching = Vec::new();
    for watched in Watched::ALL {
        watching.push((watched, watch(&node, watched).await));
    }
    let mut sent: BTreeMap<Watched, BTreeSet<String>> = BTreeMap::new();
    let [mut allowed, mut refused] = [0, 0];
    for person in &persons() {
        let own = Word::Means(person.name.clone());
        let usual =
            ["news", "a", "secret", "public", "of", "x"].map(|word| Word::Means(word.into()));
        let world = World::of(usual.into_iter().chain([own]).collect(), 3);
        let view = View { book: &book, person, world };
        for (number, asked) in requests(&person.name).into_iter().enumerate() {
            let spelling = [Spelling::Dots, Spelling::Slashes][number % 2];
            let Some(text) = asked.written(spelling) else { continue };
            // What is too long is no destination.
            if text.len() > 255 {
                continue;
            }
            let expected = view.allows(&asked);
            let is_member = person.name == "ann" && asked.steps == words("red");
            let expected = match (&asked.place, asked.action) {
                (Place::Group, Action::Subscribe) => expected && is_member,
                _ => expected,
            };
            let mut client = connect(&node, person).await;
            let body = format!("{number} of {}", person.name);
            match asked.action {
                Action::Send => {
                    let headers = [("destination", &*text), (header::RECEIPT, "r")];
                    client.send(frame(Command::Send, &headers).with_body(body.clone())).await;
                }
                _ => client.tell(Command::Subscribe, &[("id", "1"), ("destination", &text)]).await,
            }
            let answer = loop {
                let frame = client.frame().await;
                match frame.command {
                    Command::Message => view.check(&frame),
                    _ => break frame,
                }
            };
            let title = format!("{} {} {text}: {answer:?}", person.name, asked.action);
            let supported = matches!(
                asked.place,
                Place::Topic | Place::Queue | Place::Own | Place::Of(_) | Place::Group
            );
            match (expected, answer.command) {
                (true, Command::Receipt) if supported => {
                    allowed += 1;
                    if asked.action == Action::Send
                        && let Some(watched) = Watched::of(&asked)
                    {
                        sent.entry(watched).or_default().insert(body);
                    }
                    if asked.action == Action::Subscribe && asked.place == Place::Topic {
                        let flows = TOPICS.iter().any(|topic| {
                            let single = Asked { steps: words(topic), ..asked.clone() };
                            asked.singly(&view.world).iter().any(|one| one.steps == single.steps)
                        });
                        for _ in 0..if flows { 10 } else { 0 } {
                            view.check(&client.frame().await);
                        }
                    }
                }
                // There is nothing behind these here.
                (true, Command::Error) if !supported => {
                    let code = client.frame_or_close().await.unwrap_err();
                    assert_ne!(code, Some(4403), "{title}");
                }
                (false, Command::Error) => {
                    refused += 1;
                    let code = client.frame_or_close().await.unwrap_err();
                    assert_eq!(code, Some(4403), "{title}");
                }
                _ => panic!("expected {expected}: {title}"),
            }
        }
    }
    enough.notify_one();
    flood.await.unwrap();
    println!("{allowed} allowed, {refused} refused");
    assert!(allowed > 100 && refused > 100);
    let mut last = connect(&node, &root).await;
    for (watched, bodies) in watching {
        last.publish_confirmed(watched.subscription().2, "the end").await;
        assert_eq!(bodies.await.unwrap(), sent.remove(&watched).unwrap_or_default(), "{watched:?}");
    }
}
