//! Who clients are: what they show, wherever they may show it, and for how long it holds.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use access::token::Signer;
use broker_embedded::EmbeddedBroker;
use gateway::Config;
use serde_json::{Map, json};
use stomp::{Command, Frame, header};
use support::tcp::{TcpClient, tcp_config};
use support::{Client, Node, config, frame};
use tokio::time::Instant;

const SECRET: &str = "a secret that is long enough: 32 bytes.";
const OTHER: &str = "another secret that nobody believes in.";
/// Long after the end of every test, in seconds.
const HOUR: u64 = 3600;

/// A node with a key, and this besides it in `[access]`.
async fn node(access: &str) -> Node {
    node_with(access, config(), stomp::Config::default()).await
}

async fn node_with(access: &str, config: Config, stomp: stomp::Config) -> Node {
    let text = format!("jwt_secret = '{SECRET}'\nfailure_delay = '0s'\n{access}");
    node_by(&text, config, stomp).await
}

/// A node with this section `[access]`.
async fn node_by(access: &str, config: Config, stomp: stomp::Config) -> Node {
    let access: access::Config = toml::from_str(access).unwrap();
    let broker = Arc::new(EmbeddedBroker::new(broker_embedded::Config::default()));
    Node::start_for(access, broker, config, stomp).await
}

/// Seconds since 1970, some of them from now on.
fn in_seconds(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

/// A token that expires at that time.
fn token_of(secret: &str, user: &str, expires: u64, more: serde_json::Value) -> String {
    let mut claims: Map<_, _> = serde_json::from_value(more).unwrap();
    claims.insert("sub".into(), user.into());
    claims.insert("exp".into(), expires.into());
    let signer = Signer::of_secret(&secret.into()).unwrap();
    signer.sign(claims, None, SystemTime::now()).unwrap()
}

fn token(user: &str) -> String {
    token_of(SECRET, user, in_seconds(HOUR), json!({}))
}

/// Where a token can be shown.
#[derive(Debug, Clone, Copy)]
enum Way {
    Connect,
    TokenHeader,
    Query,
    Http,
    Cookie,
}

const WAYS: [Way; 5] = [Way::Connect, Way::TokenHeader, Way::Query, Way::Http, Way::Cookie];

/// A client that shows a token and has said CONNECT.
async fn show(node: &Node, way: Way, token: &str) -> Client {
    let own = format!("http://{}", node.address);
    let (bearer, cookie) = (format!("Bearer {token}"), format!("theme=dark; session={token}"));
    let path = format!("/ws?room=1&access_token={token}");
    let (path, headers, connect) = match way {
        Way::Connect => ("/ws", vec![], format!("Authorization:{bearer}\n")),
        Way::TokenHeader => ("/ws", vec![], format!("token:{token}\n")),
        Way::Query => (&*path, vec![], String::new()),
        Way::Http => ("/ws", vec![("authorization", &*bearer)], String::new()),
        Way::Cookie => ("/ws", vec![("cookie", &*cookie), ("origin", &*own)], String::new()),
    };
    let mut client = node.open_from(Ipv4Addr::LOCALHOST, path, &headers).await.unwrap();
    say_connect(&mut client, &connect).await;
    client
}

async fn say_connect(client: &mut Client, headers: &str) {
    client.send_text(&format!("CONNECT\naccept-version:1.2\nheart-beat:0,0\n{headers}\n\0")).await;
}

/// A client with that token in CONNECT, which is accepted.
async fn connected(node: &Node, token: &str) -> Client {
    let mut client = show(node, Way::Connect, token).await;
    let answer = client.frame().await;
    assert_eq!(answer.command, Command::Connected, "{answer:?}");
    client
}

/// The user name that CONNECTED shows.
async fn user_name(client: &mut Client) -> String {
    let answer = client.frame().await;
    assert_eq!(answer.command, Command::Connected, "{answer:?}");
    answer.header(header::USER_NAME).unwrap().to_string()
}

#[track_caller]
fn assert_refused(told: &(String, Option<String>, Option<u16>), why: &str, code: u16) {
    let (message, _, close) = told;
    assert!(message.contains(why), "{message}");
    assert_eq!(*close, Some(code), "{message}");
}

/// A SEND of a fresh token, with `receipt:r`.
async fn renew(client: &mut Client, token: &str) {
    let headers = [("destination", "/app/~/token"), ("receipt", "r")];
    client.send(frame(Command::Send, &headers).with_body(token.to_owned())).await;
}

#[tokio::test]
async fn a_token_is_taken_wherever_it_is_shown() {
    let node = node("token_cookie = 'session'").await;
    for way in WAYS {
        let mut client = show(&node, way, &token("ann")).await;
        assert_eq!(user_name(&mut client).await, "ann", "{way:?}");
        client.ask(Command::Subscribe, &[("id", "1"), ("destination", "/topic/a")]).await;
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_wherever_it_is_shown() {
    let node = node("token_cookie = 'session'\nmax_failures = 0").await;
    let forged = token_of(OTHER, "ann", in_seconds(HOUR), json!({}));
    let expired = token_of(SECRET, "ann", in_seconds(0) - HOUR, json!({}));
    let bad = [(&*forged, "signature is wrong"), (&*expired, "expired"), ("nonsense", "token")];
    for way in WAYS {
        for (token, why) in bad {
            let told = show(&node, way, token).await.error().await;
            assert_refused(&told, why, 4401);
            assert!(!told.0.contains(token), "{}", told.0);
        }
    }
    node.wait_for_metric(
        "gateway_sessions_closed_total{reason=\"unauthenticated\"}",
        (WAYS.len() * bad.len()) as f64,
    )
    .await;
}

#[tokio::test]
async fn who_shows_nothing_is_told_what_to_show() {
    let node = node("").await;
    let mut client = node.open(&[]).await.unwrap();
    say_connect(&mut client, "login:ann\npasscode:any\n").await;
    assert_refused(&client.error().await, "Authorization: Bearer <token>", 4401);
}

#[tokio::test]
async fn what_is_shown_must_name_one_user() {
    let node = node("").await;
    let path = format!("/ws?access_token={}", token("bob"));
    for (user, accepted) in [("ann", false), ("bob", true)] {
        let mut client = node.open_from(Ipv4Addr::LOCALHOST, &path, &[]).await.unwrap();
        say_connect(&mut client, &format!("Authorization:Bearer {}\n", token(user))).await;
        match accepted {
            true => assert_eq!(user_name(&mut client).await, "bob"),
            false => assert_refused(&client.error().await, "different users", 4401),
        }
    }
}

#[tokio::test]
async fn a_cookie_counts_only_where_the_origin_was_checked_by_name() {
    let origins = ["*", "https://app.example.com"].map(|origin| origin.parse().unwrap());
    let config = Config { origins: origins.into_iter().collect(), ..config() };
    let node = node_with("token_cookie = 'session'", config, stomp::Config::default()).await;
    let cookie = format!("session={}", token("ann"));
    for (origin, counts) in [
        (Some("https://app.example.com"), true),
        (Some("https://evil.example.com"), false),
        (Some("null"), false),
        (None, false),
    ] {
        let headers: Vec<_> = [Some(("cookie", &*cookie)), origin.map(|origin| ("origin", origin))]
            .into_iter()
            .flatten()
            .collect();
        let mut client = node.open(&headers).await.unwrap();
        say_connect(&mut client, "").await;
        match counts {
            true => assert_eq!(user_name(&mut client).await, "ann"),
            false => assert_refused(&client.error().await, "show who you are", 4401),
        }
    }
}

#[tokio::test]
async fn without_websocket_connect_shows_everything() {
    let mut users = tempfile::NamedTempFile::new().unwrap();
    let hash = bcrypt::hash("apple", 4).unwrap();
    let entry = format!("[[users]]\nname = 'bob'\nhash = '{hash}'");
    std::io::Write::write_all(&mut users, entry.as_bytes()).unwrap();
    let access = format!("users_file = '{}'", users.path().display());
    let node = node_with(&access, tcp_config(), stomp::Config::default()).await;
    for (headers, answer) in [
        (format!("Authorization:Bearer {}", token("ann")), Ok("ann")),
        ("login:bob\npasscode:apple".to_owned(), Ok("bob")),
        ("login:bob\npasscode:pear".to_owned(), Err("login or passcode is wrong")),
        ("Authorization:Bearer nonsense".to_owned(), Err("token")),
    ] {
        let mut client = TcpClient::open(&node).await;
        client.send(format!("CONNECT\naccept-version:1.2\n{headers}\n\n\0")).await;
        let frame = client.frame().await;
        match answer {
            Ok(name) => assert_eq!(frame.header(header::USER_NAME).unwrap(), name),
            Err(why) => {
                assert_eq!(frame.command, Command::Error);
                let message = frame.header(header::MESSAGE).unwrap();
                assert!(message.contains(why), "{message}");
                assert!(!message.contains("pear"), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn a_name_without_a_proof_is_believed_only_where_everything_is_open() {
    for (access, name) in [("rules = 'open'", "ann"), ("", "anonymous")] {
        let node = node_by(access, config(), stomp::Config::default()).await;
        let mut client = node.open(&[]).await.unwrap();
        say_connect(&mut client, "login:ann\npasscode:any\n").await;
        assert_eq!(user_name(&mut client).await, name);
    }
}

#[tokio::test]
async fn a_token_that_expires_ends_its_session() {
    let node = node("jwt_leeway = '0s'").await;
    let mut stays = connected(&node, &token("bob")).await;
    let mut client = connected(&node, &token_of(SECRET, "ann", in_seconds(5), json!({}))).await;
    client.ask(Command::Subscribe, &[("id", "1"), ("destination", "/topic/a")]).await;
    let told = client.error().await;
    assert_refused(&told, "the token has expired: connect again with a fresh one", 4401);
    node.wait_for_metric("gateway_sessions_closed_total{reason=\"expired\"}", 1.0).await;
    stays.ask(Command::Subscribe, &[("id", "1"), ("destination", "/topic/a")]).await;
}

#[tokio::test]
async fn a_fresh_token_extends_its_session() {
    let node = node("jwt_leeway = '0s'").await;
    let expires = in_seconds(10);
    let mut client = connected(&node, &token_of(SECRET, "ann", expires, json!({}))).await;
    // It expires later, but is not extended.
    let witness = token_of(SECRET, "ann", expires + 1, json!({}));
    let mut witness = connected(&node, &witness).await;
    renew(&mut client, &token("ann")).await;
    let receipt = client.frame().await;
    assert_eq!(receipt.command, Command::Receipt, "{receipt:?}");
    assert_eq!(receipt.header(header::RECEIPT_ID).unwrap(), "r");
    assert_refused(&witness.error().await, "expired", 4401);
    client.ask(Command::Subscribe, &[("id", "1"), ("destination", "/topic/a")]).await;
}

#[tokio::test]
async fn a_fresh_token_may_shorten_a_session_and_come_in_a_header() {
    let node = node("jwt_leeway = '0s'").await;
    let mut client = connected(&node, &token("ann")).await;
    let bearer = format!("Bearer {}", token_of(SECRET, "ann", in_seconds(5), json!({})));
    client.ask(Command::Send, &[("destination", "/app/~/token"), ("Authorization", &bearer)]).await;
    assert_refused(&client.error().await, "expired", 4401);
}

#[tokio::test]
async fn a_fresh_token_that_is_not_accepted_ends_its_session() {
    let node = node("").await;
    let forged = token_of(OTHER, "ann", in_seconds(HOUR), json!({}));
    let expired = token_of(SECRET, "ann", in_seconds(0) - HOUR, json!({}));
    for (fresh, why, code) in [
        (&*forged, "signature is wrong", 4401),
        (&expired, "expired", 4401),
        (&token("bob"), "of another user", 4401),
        ("", "holds no token", 1002),
    ] {
        let mut client = connected(&node, &token("ann")).await;
        renew(&mut client, fresh).await;
        let told = client.error().await;
        assert_refused(&told, why, code);
        assert_eq!(told.1.as_deref(), Some("r"));
        assert!(fresh.is_empty() || !told.0.contains(fresh));
    }
}

#[tokio::test]
async fn who_showed_nothing_cannot_become_somebody() {
    let node = node("anonymous = 'allow'").await;
    for name in ["ann", "bob"] {
        let mut client = node.connect().await;
        renew(&mut client, &token(name)).await;
        assert_refused(&client.error().await, "connect anew with it", 4401);
    }
}

#[tokio::test]
async fn a_fresh_token_needs_no_rule_and_its_claims_decide_from_then_on() {
    let node = node(
        "otherwise = 'deny'\n[[rules]]\nallow = 'subscribe'\ndestination = '/topic/staff'\n\
         who = { roles = ['staff'] }",
    )
    .await;
    let staff = token_of(SECRET, "ann", in_seconds(HOUR), json!({ "roles": ["staff"] }));
    let subscribe = [("id", "1"), ("destination", "/topic/staff")];
    let mut client = connected(&node, &token("ann")).await;
    client.tell(Command::Subscribe, &subscribe).await;
    assert_refused(&client.error().await, "is not allowed", 4403);

    let mut client = connected(&node, &token("ann")).await;
    renew(&mut client, &staff).await;
    assert_eq!(client.frame().await.command, Command::Receipt);
    client.ask(Command::Subscribe, &subscribe).await;

    // A transaction brings it when it is committed, and not before.
    let mut client = connected(&node, &token("ann")).await;
    client.ask(Command::Begin, &[("transaction", "t")]).await;
    let held = frame(Command::Send, &[("destination", "/app/~/token"), ("transaction", "t")]);
    client.send(held.with_body(staff)).await;
    client.ask(Command::Commit, &[("transaction", "t")]).await;
    client.ask(Command::Subscribe, &subscribe).await;
}

#[tokio::test]
async fn no_application_gets_what_is_the_gateways_own() {
    let node = node("").await;
    let mut client = connected(&node, &token("ann")).await;
    client.tell(Command::Send, &[("destination", "/app/~/tokens")]).await;
    assert_refused(&client.error().await, "not available", 1002);
}

#[tokio::test]
async fn whoever_fails_waits_longer_each_time_and_is_then_turned_away_unseen() {
    let delay = Duration::from_millis(200);
    let access = format!(
        "jwt_secret = '{SECRET}'\nfailure_delay = '200ms'\nfailure_memory = '1h'\nmax_failures = 3"
    );
    let node = node_by(&access, config(), stomp::Config::default()).await;
    for failures in 0..3 {
        let since = Instant::now();
        let mut client = show(&node, Way::Connect, "nonsense").await;
        assert_refused(&client.error().await, "token", 4401);
        let (waited, least) = (since.elapsed(), delay * (1 << failures));
        assert!(waited >= least, "{waited:?} after {failures} failures");
    }
    let mut client = show(&node, Way::Connect, &token("ann")).await;
    assert_refused(&client.error().await, "too many failed attempts from this address", 4429);
    // Others do not pay for it.
    let mut other = node.open_from(Ipv4Addr::new(127, 0, 0, 2), "/ws", &[]).await.unwrap();
    say_connect(&mut other, &format!("token:{}\n", token("ann"))).await;
    assert_eq!(user_name(&mut other).await, "ann");
}

#[tokio::test]
async fn a_wait_ends_before_the_time_to_connect_does() {
    let access =
        format!("jwt_secret = '{SECRET}'\nfailure_delay = '10m'\nmax_failure_delay = '10m'");
    let connect_timeout = Duration::from_secs(3);
    let stomp = stomp::Config { connect_timeout, ..stomp::Config::default() };
    let node = node_by(&access, config(), stomp).await;
    let mut client = show(&node, Way::Connect, "nonsense").await;
    assert_refused(&client.error().await, "token", 4401);
}

#[tokio::test]
async fn a_wait_holds_up_no_stop() {
    let access =
        format!("jwt_secret = '{SECRET}'\nfailure_delay = '10m'\nmax_failure_delay = '10m'");
    let stomp =
        stomp::Config { connect_timeout: Duration::from_secs(600), ..stomp::Config::default() };
    let mut node = node_by(&access, config(), stomp).await;
    let mut client = show(&node, Way::Connect, "nonsense").await;
    node.wait_for_metric("gateway_frames_received_total{command=\"CONNECT\"}", 1.0).await;
    node.stop();
    assert_eq!(client.frame_or_close().await.unwrap_err(), Some(1001));
    node.stopped().await;
}

/// Who asks for what, and whether it is granted.
type Asked = (&'static str, Command, &'static str, bool);

const RULES: &str = "
otherwise = 'deny'
anonymous = 'allow'
[[rules]]
deny = 'subscribe'
destination = '/topic/chat/*/secret'
who = 'everyone'
[[rules]]
allow = ['send', 'subscribe']
destination = '/topic/chat/{user}/**'
who = 'authenticated'
[[rules]]
allow = 'subscribe'
destination = '/topic/news/*'
who = 'everyone'
[[rules]]
allow = 'send'
destination = ['/topic/news/**', '/queue/{claim.team}']
who = { roles = ['editor'] }
[[rules]]
allow = ['subscribe']
destination = '/queue/{claim.team}'
who = 'authenticated'
";

#[tokio::test]
async fn rules_decide_who_may_send_and_subscribe_where() {
    use Command::{Send, Subscribe};
    let node = node(RULES).await;
    let editor = json!({ "roles": ["editor"], "team": "red" });
    let asked: &[Asked] = &[
        // {user} is one's own name, and nobody's for who has none.
        ("ann", Send, "/topic/chat/ann/x", true),
        ("ann", Send, "/topic/chat.ann.x", true),
        ("ann", Send, "/topic/chat/bob/x", false),
        ("ann", Subscribe, "/topic/chat/ann/x", true),
        ("ann", Subscribe, "/topic/chat/bob/x", false),
        ("bob", Subscribe, "/topic/chat/bob/x", true),
        ("anonymous", Subscribe, "/topic/chat/anonymous/x", false),
        ("anonymous", Send, "/topic/chat/anonymous/x", false),
        // A name is one word, whatever it holds.
        ("a.b", Subscribe, "/topic/chat/a.b/x", true),
        ("a.b", Subscribe, "/topic/chat.a.b.x", false),
        ("*", Subscribe, "/topic/chat/ann/x", false),
        // A pattern must lie within what is allowed, and touch nothing that is denied.
        ("anonymous", Subscribe, "/topic/news/today", true),
        ("anonymous", Subscribe, "/topic/news/*", true),
        ("anonymous", Subscribe, "/topic/news/#", false),
        ("anonymous", Subscribe, "/topic/news/**", false),
        ("anonymous", Subscribe, "/topic/#", false),
        ("anonymous", Subscribe, "/topic/*/today", false),
        ("ann", Subscribe, "/topic/chat/ann/a/*", true),
        ("ann", Subscribe, "/topic/chat/*/x", false),
        ("ann", Subscribe, "/topic/chat/ann/secret", false),
        ("ann", Subscribe, "/topic/chat/ann/*", false),
        ("ann", Subscribe, "/topic/chat/ann/#", false),
        ("ann", Send, "/topic/chat/ann/secret", true),
        // Roles and claims.
        ("ann", Send, "/topic/news/today", false),
        ("editor", Send, "/topic/news/today", true),
        ("editor", Send, "/queue/red", true),
        ("editor", Send, "/queue/blue", false),
        ("editor", Subscribe, "/queue/red", true),
        ("ann", Subscribe, "/queue/red", false),
        // What no rule is about is denied.
        ("ann", Send, "/app/message", false),
        ("ann", Subscribe, "/user/queue/x", false),
        ("editor", Subscribe, "/exchange/amq.topic/news.#", false),
        ("editor", Subscribe, "/amq/queue/red", false),
    ];
    for (user, command, destination, allowed) in asked {
        let claims = if *user == "editor" { editor.clone() } else { json!({}) };
        let mut client = match *user {
            "anonymous" => node.connect().await,
            user => connected(&node, &token_of(SECRET, user, in_seconds(HOUR), claims)).await,
        };
        let mut headers = vec![("destination", *destination)];
        if *command == Subscribe {
            headers.push(("id", "1"));
        }
        client.tell(*command, &headers).await;
        let answer = client.frame().await;
        let case = format!("{user} {command:?} {destination}: {answer:?}");
        match allowed {
            true => assert_eq!(answer.command, Command::Receipt, "{case}"),
            false => {
                assert_eq!(answer.command, Command::Error, "{case}");
                assert!(
                    answer.header(header::MESSAGE).unwrap().contains("is not allowed"),
                    "{case}"
                );
                assert_eq!(client.frame_or_close().await.unwrap_err(), Some(4403), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_with_what_is_not_allowed_does_nothing() {
    let node = node(RULES).await;
    let mut ann = connected(&node, &token("ann")).await;
    ann.ask(Command::Subscribe, &[("id", "1"), ("destination", "/topic/chat/ann/x")]).await;
    let mut other = connected(&node, &token("ann")).await;
    other.ask(Command::Begin, &[("transaction", "t")]).await;
    for destination in ["/topic/chat/ann/x", "/topic/chat/bob/x"] {
        let held = frame(Command::Send, &[("destination", destination), ("transaction", "t")]);
        other.send(held.with_body("in vain")).await;
    }
    other.tell(Command::Commit, &[("transaction", "t")]).await;
    assert_refused(&other.error().await, "/topic/chat.bob.x is not allowed", 4403);
    ann.publish("/topic/chat/ann/x", "after").await;
    assert_eq!(ann.body().await, "after");
}

#[tokio::test]
async fn a_queue_of_ones_own_takes_a_rule_of_its_own() {
    let durable = [("id", "1"), ("destination", "/topic/a"), ("exclusive", "true")];
    for (allow, granted) in [("'subscribe'", false), ("['subscribe', 'queue']", true)] {
        let rule =
            format!("[[rules]]\nallow = {allow}\ndestination = '/topic/**'\nwho = 'everyone'");
        let node = node(&rule).await;
        let mut client = connected(&node, &token("ann")).await;
        client.tell(Command::Subscribe, &durable).await;
        match granted {
            true => assert_eq!(client.frame().await.command, Command::Receipt),
            false => {
                assert_refused(&client.error().await, "a queue of one's own at /topic/a", 4403);
            }
        }
    }
}

#[tokio::test]
async fn who_may_only_listen_hears_who_may_speak() {
    let node = node(RULES).await;
    let mut reader = node.connect().await;
    reader.ask(Command::Subscribe, &[("id", "1"), ("destination", "/topic/news/today")]).await;
    let editor = token_of(SECRET, "eve", in_seconds(HOUR), json!({ "roles": ["editor"] }));
    let mut editor = connected(&node, &editor).await;
    let news = Frame::new(Command::Send).with_header(header::DESTINATION, "/topic/news/today");
    editor.send(news.with_body("rain")).await;
    assert_eq!(reader.body().await, "rain");
}
