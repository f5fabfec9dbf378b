//! Tests of the console's views: what they show, to whom, and what they refuse.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::net::Ipv4Addr;
use std::time::Instant;

use gateway::Config;
use inbox::{Address, Draft};
use presence::{GroupName, Groups, Member, UserName};
use serde_json::{Value, json};

use stomp::Command;
use support::{Node, config};

const NAME: &str = "<img src=x onerror=alert(1)>";

/// A request and what came back.
struct Answer {
    status: u16,
    head: String,
    json: Value,
}

async fn ask(node: &Node, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|header| header.to_lowercase().starts_with("host:")) {
        request += &format!("host: {}\r\n", node.address);
    }
    headers.iter().for_each(|header| request += &format!("{header}\r\n"));
    if method == "POST" {
        request += &format!("content-length: {}\r\n", body.len());
    }
    let text = node.http(node.address, &format!("{request}\r\n{body}")).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Answer {
        status: head[9..12].parse().unwrap(),
        head: head.to_lowercase(),
        json: serde_json::from_str(body).unwrap_or_default(),
    }
}

async fn get(node: &Node, path: &str) -> Value {
    let answer = ask(node, "GET", path, &[], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.json);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    answer.json
}

async fn post(node: &Node, path: &str, headers: &[&str], body: &Value) -> Answer {
    let origin = format!("origin: http://{}", node.address);
    let mut all = vec!["content-type: application/json", &origin];
    all.extend(headers);
    ask(node, "POST", path, &all, &body.to_string()).await
}

fn with_console() -> Config {
    Config { console: true, ..config() }
}

/// A node with a console that asks for a login: ann is an operator, bob is none.
async fn guarded() -> (Node, tempfile::NamedTempFile) {
    with_users(Config { console_role: "operator".into(), ..with_console() }).await
}

async fn with_users(config: Config) -> (Node, tempfile::NamedTempFile) {
    let users = tempfile::NamedTempFile::new().unwrap();
    let hash = bcrypt::hash("apple", 4).unwrap();
    let text = format!(
        "[[users]]\nname = 'ann'\nhash = '{hash}'\nroles = ['operator']\n\
         [[users]]\nname = 'bob'\nhash = '{hash}'\n"
    );
    std::fs::write(users.path(), text).unwrap();
    let access = format!(
        "users_file = '{}'\nrules = 'open'\nfailure_delay = '300ms'",
        users.path().display()
    );
    let access: access::Config = toml::from_str(&access).unwrap();
    let broker = broker_embedded::EmbeddedBroker::new(broker_embedded::Config::default());
    let stomp = stomp::Config::default();
    (Node::start_for(access, std::sync::Arc::new(broker), config, stomp).await, users)
}

async fn store(node: &Node, user: &str, path: &str, body: &str) {
    let of = Address::of_user(UserName::new(user.to_owned()).unwrap(), path.to_owned().into());
    let boot = presence::Presence::boot(&*node.presence);
    let draft = Draft::new(boot, body.to_owned());
    node.dispatcher.append(&[of], &draft).await.unwrap();
}

fn rows<'a>(view: &'a Value, list: &str) -> &'a Vec<Value> {
    view[list].as_array().unwrap_or_else(|| panic!("no {list} in {view}"))
}

#[tokio::test]
async fn without_the_console_there_is_nothing_of_it() {
    let node = Node::start(config()).await;
    for path in ["/", "/console.js", "/console/view.js", "/console/about", "/console/node"] {
        assert_eq!(ask(&node, "GET", path, &[], "").await.status, 404, "{path}");
    }
    assert_eq!(post(&node, "/console/login", &[], &json!({})).await.status, 404);
}

#[tokio::test]
async fn the_node_view_shows_sessions_subscriptions_and_counts() {
    let node = Node::start(with_console()).await;
    let mut ann = node.connect_named("ann").await;
    let mut bob = node.connect_named("bob").await;
    ann.subscribe("1", "/topic/a").await;
    ann.subscribe("2", "/user/queue/x").await;
    bob.subscribe("1", "/topic/a").await;
    let view = get(&node, "/console/node").await;
    assert_eq!(view["session_count"], 2);
    assert_eq!(view["connections"], 2);
    assert_eq!(view["subscriptions"], 3);
    let row = rows(&view, "sessions").iter().find(|row| row["user"] == "ann").unwrap();
    assert_eq!(row["id"], ann.session().as_str());
    assert_eq!(row["address"], "127.0.0.1");
    assert_eq!(row["transport"], "WebSocket");
    assert_eq!(row["subscriptions"], 2);
    assert_eq!(row["queued_bytes"], 0);
    assert!(row["since"].as_u64().unwrap() > 0);
    let expected = json!([{ "destination": "/topic/a", "subscribers": 2 }]);
    assert_eq!(view["destinations"], expected);

    ann.ask(Command::Unsubscribe, &[("id", "1")]).await;
    let view = get(&node, "/console/node?filter=ann").await;
    assert_eq!(view["session_count"], 1);
    assert_eq!(view["sessions"][0]["subscriptions"], 1);
    assert_eq!(view["counted"]["received"], 0);
    let view = get(&node, "/console/node?filter=/topic").await;
    assert_eq!(view["destinations"], json!([{ "destination": "/topic/a", "subscribers": 1 }]));
}

#[tokio::test]
async fn a_view_has_at_most_200_rows_and_says_how_many_there_are() {
    let node = Node::start(with_console()).await;
    let mut clients = Vec::new();
    for n in 0..201 {
        clients.push(node.connect_named(&format!("user-{n:03}")).await);
    }
    let view = get(&node, "/console/node").await;
    assert_eq!((rows(&view, "sessions").len(), &view["session_count"]), (200, &json!(201)));
    let view = get(&node, "/console/presence").await;
    assert_eq!((rows(&view, "users").len(), &view["user_count"]), (200, &json!(201)));
    let next = view["next"].as_str().unwrap();
    let view = get(&node, &format!("/console/presence?after={next}")).await;
    assert_eq!(rows(&view, "users").len(), 1);
    assert_eq!(view["next"], Value::Null);
}

#[tokio::test]
async fn presence_and_groups_show_who_is_there() {
    let node = Node::start(with_console()).await;
    let ann = node.connect_named("ann").await;
    let _again = node.connect_named("ann").await;
    let group = GroupName::new("staff").unwrap();
    let members = [Member::User(UserName::new("ann").unwrap()), Member::Session(ann.session())];
    node.presence.add(&group, &members, None).await.unwrap();
    let view = get(&node, "/console/presence").await;
    assert_eq!((&view["user_count"], &view["session_count"]), (&json!(1), &json!(2)));
    assert_eq!(view["users"], json!([{ "user": "ann", "sessions": 2 }]));
    assert_eq!(view["nodes"][0]["this"], true);
    let view = get(&node, "/console/user?user=ann").await;
    assert_eq!(rows(&view, "sessions").len(), 2);
    assert_eq!(view["groups"], json!(["staff"]));
    let view = get(&node, "/console/group?group=staff").await;
    assert_eq!(view["member_count"], 2);
    let sessions: Vec<_> =
        rows(&view, "members").iter().filter_map(|row| row["session"].as_str()).collect();
    assert_eq!(sessions, [ann.session().as_str()]);
    assert_eq!(get(&node, "/console/group?group=none").await["member_count"], 0);
    assert_eq!(ask(&node, "GET", "/console/group", &[], "").await.status, 400);
}

#[tokio::test]
async fn an_inbox_shows_what_waits_and_drops_what_is_unwanted() {
    let node = Node::start(with_console()).await;
    store(&node, "ann", "/queue/news", "one").await;
    store(&node, "ann", "/queue/news", "two").await;
    assert_eq!(get(&node, "/console/inboxes").await["users"], json!(["ann"]));
    let view = get(&node, "/console/inboxes?user=ann").await;
    assert_eq!(view["inboxes"][0]["path"], "/queue/news");
    assert_eq!(view["inboxes"][0]["count"]["pending"], 2);
    let path = "/console/inbox?user=ann&path=/queue/news";
    let view = get(&node, path).await;
    let first = &rows(&view, "messages")[0];
    let status = &first["status"];
    assert_eq!((&status["state"], &status["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!((&first["bytes"], &first["beginning"]), (&json!(128 + 3), &json!("one")));

    let one = json!({ "user": "ann", "path": "/queue/news", "ids": [first["id"]] });
    assert_eq!(post(&node, "/console/purge", &[], &one).await.json["dropped"], 1);
    assert_eq!(get(&node, path).await["count"]["messages"], 1);
    let id = first["id"].as_str().unwrap();
    let status = format!("/console/status?user=ann&path=/queue/news&id={id}");
    assert_eq!(get(&node, &status).await["status"]["state"], "dropped");
    let unknown = "/console/status?user=ann&path=/queue/news&id=01M8FJEMQ47HJF45CJQ12TF9AJ";
    assert_eq!(get(&node, unknown).await["status"], Value::Null);
    let all = json!({ "user": "ann", "path": "/queue/news" });
    assert_eq!(post(&node, "/console/purge", &[], &all).await.json["dropped"], 1);
    assert_eq!(get(&node, path).await["count"]["messages"], 0);
    let odd = json!({ "user": "ann", "path": "/queue/news", "ids": ["x"] });
    assert_eq!(post(&node, "/console/purge", &[], &odd).await.status, 400);
    assert_eq!(ask(&node, "GET", "/console/purge", &[], "").await.status, 405);
}

#[tokio::test]
async fn a_get_changes_nothing_and_a_post_asks_for_nothing_to_see() {
    let node = Node::start(with_console()).await;
    for path in
        ["node", "presence", "user", "groups", "group", "inboxes", "inbox", "status", "about"]
    {
        let path = format!("/console/{path}");
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(ask(&node, method, &path, &[], "").await.status, 405, "{method} {path}");
        }
    }
    assert_eq!(ask(&node, "GET", "/console/nothing", &[], "").await.status, 404);
}

#[tokio::test]
async fn pages_of_others_see_nothing_and_change_nothing() {
    let node = Node::start(with_console()).await;
    store(&node, "ann", "/queue/news", "one").await;
    let own = format!("origin: http://{}", node.address);
    assert_eq!(ask(&node, "GET", "/console/node", &[&own], "").await.status, 200);
    for hostile in [
        &["host: evil.example"][..],
        &["host: 127.0.0.1.evil.example:8080"],
        &["host: evil.example", "origin: http://evil.example"],
        &["origin: http://evil.example"],
        &["origin: null"],
        &["sec-fetch-site: cross-site"],
        &["host: 127.0.0.1", "host: 127.0.0.1"],
    ] {
        let answer = ask(&node, "GET", "/console/node", hostile, "").await;
        assert_eq!(answer.status, 403, "{hostile:?}");
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    let body = r#"{"user":"ann","path":"/queue/news"}"#;
    let json = "content-type: application/json";
    for hostile in [
        &[][..],
        &[json],
        &[own.as_str()],
        &[own.as_str(), "content-type: text/plain"],
        &[json, "origin: http://evil.example"],
        &[json, "origin: http://evil.example", "host: evil.example"],
        &[json, "origin: null"],
    ] {
        let answer = ask(&node, "POST", "/console/purge", hostile, body).await;
        assert_eq!(answer.status, 403, "{hostile:?}");
    }
    let view = get(&node, "/console/inboxes?user=ann").await;
    assert_eq!(view["inboxes"][0]["count"]["messages"], 1);
}

#[tokio::test]
async fn markup_in_names_is_text_in_json_that_is_no_page() {
    let node = Node::start(with_console()).await;
    let mut odd = node.connect_named(NAME).await;
    odd.subscribe("1", "/topic/<script>").await;
    let answer = ask(&node, "GET", "/console/node", &[], "").await;
    assert_eq!(answer.json["sessions"][0]["user"], NAME);
    assert_eq!(answer.json["destinations"][0]["destination"], "/topic/<script>");
    for header in ["content-type: application/json", "nosniff", "default-src 'none'"] {
        assert!(answer.head.contains(header), "no {header} in {}", answer.head);
    }
}

#[tokio::test]
async fn where_a_role_is_needed_only_who_logs_in_with_it_sees_anything() {
    let (node, _users) = guarded().await;
    let about = get(&node, "/console/about").await;
    assert_eq!((&about["open"], &about["user"]), (&json!(false), &Value::Null));
    for path in ["node", "presence", "user?user=a", "groups", "group?group=g", "inboxes", "inbox"] {
        let answer = ask(&node, "GET", &format!("/console/{path}"), &[], "").await;
        assert_eq!(answer.status, 401, "{path}");
    }
    let unwanted = json!({ "user": "ann", "path": "/queue/news" });
    assert_eq!(post(&node, "/console/purge", &[], &unwanted).await.status, 401);

    let right = json!({ "login": "ann", "passcode": "apple" });
    let answer = post(&node, "/console/login", &[], &right).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    for wanted in ["httponly", "samesite=strict", "path=/console"] {
        assert!(cookie.contains(wanted), "{cookie}");
    }
    let cookie = format!("cookie: other=1; {}", cookie.split(';').next().unwrap());
    assert_eq!(ask(&node, "GET", "/console/node", &[&cookie], "").await.status, 200);
    let about = ask(&node, "GET", "/console/about", &[&cookie], "").await;
    assert_eq!(about.json["user"], "ann");
    // The cookie alone does not change anything: the page of another site could have it sent.
    let answer = ask(&node, "POST", "/console/purge", &[&cookie], "{}").await;
    assert_eq!(answer.status, 403);

    assert_eq!(post(&node, "/console/logout", &[&cookie], &json!({})).await.status, 200);
    assert_eq!(ask(&node, "GET", "/console/node", &[&cookie], "").await.status, 401);
}

#[tokio::test]
async fn a_login_without_the_role_or_the_passcode_is_refused_and_a_wrong_one_waits() {
    let (node, _users) = guarded().await;
    let bob = json!({ "login": "bob", "passcode": "apple" });
    assert_eq!(post(&node, "/console/login", &[], &bob).await.status, 403);
    for nobody in [json!({}), json!({ "login": "ann" })] {
        let status = post(&node, "/console/login", &[], &nobody).await.status;
        assert!(matches!(status, 401 | 403), "{nobody}: {status}");
    }
    let wrong = json!({ "login": "ann", "passcode": "pear" });
    let before = Instant::now();
    let answer = post(&node, "/console/login", &[], &wrong).await;
    assert_eq!(answer.status, 401);
    assert!(before.elapsed().as_millis() >= 300, "{:?}", before.elapsed());
    assert!(!answer.head.contains("set-cookie"), "{}", answer.head);
    assert_eq!(post(&node, "/console/login", &[], &json!({ "passcode": 1 })).await.status, 400);
    let long = json!({ "login": "x".repeat(20_000) });
    assert_eq!(post(&node, "/console/login", &[], &long).await.status, 400);
    let foreign = ask(
        &node,
        "POST",
        "/console/login",
        &["content-type: application/json", "origin: http://evil.example"],
        r#"{"login":"ann","passcode":"apple"}"#,
    );
    assert_eq!(foreign.await.status, 403);
}

/// The status of a view that is asked for from an address of this machine that is not loopback, if it has one.
async fn status_from_afar(node: &Node) -> Option<u16> {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: it only says by which address this machine would.
    probe.connect("192.0.2.1:9").ok()?;
    let address = (probe.local_addr().ok()?.ip(), node.address.port()).into();
    let request =
        format!("GET /console/node HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let answer = node.http(address, &request).await;
    answer[9..12].parse().ok()
}

#[tokio::test]
async fn without_a_role_other_machines_see_nothing_where_not_everything_is_open() {
    let everywhere = Config { listen: "0.0.0.0:0".parse().unwrap(), ..with_console() };
    let (node, _users) = with_users(everywhere.clone()).await;
    assert!(matches!(status_from_afar(&node).await, None | Some(403)));
    let near = (Ipv4Addr::LOCALHOST, node.address.port()).into();
    let request = "GET /console/node HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(node.http(near, request).await.starts_with("HTTP/1.1 200"));
    let open = Node::start(everywhere).await;
    assert!(matches!(status_from_afar(&open).await, None | Some(200)));
}
