//! The commands as a shell sees them, with `footbridge dev` on the other side.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Node, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn dev() -> (Node, String, String) {
    let mut node = Settings::dev().start().await;
    let (websocket, grpc) = (node.websocket().await, node.grpc().await);
    (node, websocket, grpc)
}

/// Everything that comes to a queue, which keeps it until somebody asks.
async fn heard(url: &str, queue: &str, count: usize) -> String {
    let count = count.to_string();
    let arguments = ["listen", "-i", "--url", url, "-n", &count, queue];
    let heard = Settings::of(&arguments).run().await;
    assert_eq!(heard.code, 0, "{}", heard.err);
    heard.out
}

#[tokio::test]
async fn dev_takes_messages_by_grpc_with_headers_and_type() {
    let (node, websocket, grpc) = dev().await;
    let json = ["-t", "application/json", "-H", "a:b", "/queue/q", "{\"n\": 1}"];
    for arguments in [
        [&["send", "--grpc", &grpc], json.as_slice()].concat(),
        vec!["send", "--grpc", &grpc, "/queue/q", "text"],
    ] {
        let sent = Settings::of(&arguments).run().await;
        assert_eq!((sent.code, &*sent.err), (0, ""));
    }
    // The URL may come from the environment, and the options of STOMP with it.
    let by_variable = Settings::of(&["send", "--grpc", "/queue/q", "by variable"])
        .variable("FOOTBRIDGE_GRPC", &grpc)
        .variable("FOOTBRIDGE_URL", "ws://127.0.0.1:9/ws");
    assert_eq!(by_variable.run().await.code, 0);

    let heard = heard(&websocket, "/queue/q", 3).await;
    for text in [
        "content-type:application/json\na:b\ncontent-length:8\n\n{\"n\": 1}\n",
        "content-type:text/plain\ncontent-length:4\n\ntext\n",
        "\n\nby variable\n",
    ] {
        assert!(heard.contains(text), "{text:?} in {heard}");
    }
    node.stop().await;
}

#[tokio::test]
async fn lines_are_published_in_order_and_a_failure_stops_none() {
    let (node, websocket, grpc) = dev().await;
    let mut sending = Settings::of(&["send", "--grpc", &grpc, "/queue/lines"]).spawn();
    for n in 1..=1_000 {
        sending.line(&format!("line {n}")).await;
    }
    let sent = sending.ended().await;
    assert_eq!((sent.code, &*sent.err), (0, ""));
    let heard = heard(&websocket, "/queue/lines", 1_000).await;
    let bodies: Vec<_> = heard.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<_> = (1..=1_000).map(|n| format!("line {n}")).collect();
    assert_eq!(bodies, expected);
    node.stop().await;
}

#[tokio::test]
async fn a_failure_names_the_field_and_ends_with_code_1() {
    let (node, _, grpc) = dev().await;
    for (arguments, text) in [
        (vec!["/topic/#", "x"], "error: destination '/topic/#' is a pattern"),
        (vec!["-H", "ack:1", "/topic/a", "x"], "error: message.headers[0].name is reserved"),
        (vec!["-H", "persistent:maybe", "/topic/a", "x"], "error: the header persistent is true"),
    ] {
        let failed = Settings::of(&[&["send", "--grpc", &grpc], &*arguments].concat()).run().await;
        assert_eq!(failed.code, 1);
        assert!(failed.err.starts_with(text), "{}", failed.err);
        assert_eq!(failed.err.lines().count(), 1, "{}", failed.err);
    }
    let mut lines = Settings::of(&["send", "--grpc", &grpc, "/app/a"]).spawn();
    lines.line("one").await;
    lines.line("two").await;
    let failed = lines.ended().await;
    let told: Vec<_> = failed.err.lines().collect();
    assert!(told[0].starts_with("error: line 1: destination is of kind app"), "{told:?}");
    assert!(told[1].starts_with("error: line 2: destination is of kind app"), "{told:?}");
    assert_eq!(told[2..], ["error: 2 of 2 messages were not confirmed"]);
    node.stop().await;
}

#[tokio::test]
async fn what_is_durable_waits_and_can_be_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let mut node = Settings::dev().variable("FOOTBRIDGE_INBOX__DIRECTORY", data).start().await;
    let grpc = node.grpc().await;
    let send = async |arguments: &[&str]| {
        let all = [&["send", "--grpc", &grpc, "--user", "ann", "--key", "k"], arguments].concat();
        let sent = Settings::of(&all).run().await;
        assert_eq!((sent.code, &*sent.err), (0, ""));
        sent.out
    };
    let inbox = async |arguments: &[&str]| {
        let asked = Settings::of(&[&["inbox", "--grpc", &grpc], arguments].concat()).run().await;
        (asked.code, format!("{}{}", asked.out, asked.err))
    };
    let stored = send(&["--ttl", "1h", "/queue/news", "hello"]).await;
    let id = stored.trim().strip_prefix("stored in 1 inbox: message ").unwrap().to_owned();
    let again = send(&["/queue/news", "hello"]).await;
    assert_eq!(again.trim(), format!("known before in 1 inbox: message {id}"));
    let (code, listed) = inbox(&["ls", "ann", "/queue/news"]).await;
    let line = listed.lines().nth(1).unwrap();
    assert_eq!(code, 0, "{listed}");
    assert!(line.starts_with(&format!("{id}\t1\tpending\t0\t")), "{listed}");
    let (_, inboxes) = inbox(&["ls", "ann"]).await;
    assert!(inboxes.lines().nth(1).unwrap().starts_with("/queue/news\t1\t0\t0\t0\t"), "{inboxes}");
    let (_, settled) = inbox(&["ack", "ann", "/queue/news", &id]).await;
    assert_eq!(settled, "1 settled\n");
    let (code, watched) = inbox(&["watch", "--until-final", "ann", "/queue/news", &id]).await;
    assert_eq!((code, watched.lines().count()), (0, 2), "{watched}");
    assert!(watched.contains(&format!("\tann\t{id}\tacked\t0")), "{watched}");
    let (code, again) = inbox(&["ack", "ann", "/queue/news", &id]).await;
    assert_eq!(
        (code, &*again),
        (1, "0 settled\nerror: 1 of 1 are not in the inbox, or scheduled\n")
    );
    let (_, purged) = inbox(&["purge", "ann", "/queue/news", "--all"]).await;
    assert_eq!(purged, "0 dropped\n");
    assert_eq!(inbox(&["forget", "ann"]).await, (0, String::new()));

    // What is published later is watched until it is.
    let later = ["send", "--grpc", &grpc, "--deliver-at", "+1s", "--watch", "/topic/a", "hello"];
    let later = Settings::of(&later).run().await;
    assert_eq!((later.code, &*later.err), (0, ""));
    assert!(later.out.starts_with("stored until then: message "), "{}", later.out);
    assert!(later.out.trim_end().ends_with("\tacked\t1"), "{}", later.out);
    for (arguments, why) in [
        (&["--durable", "/topic/a", "x"][..], "are for users"),
        (&["--session", "x", "--durable", "/queue/a", "x"], "a session has no inbox"),
        (&["--all", "--durable", "--watch", "/queue/a", "x"], "give --user"),
        (&["--user", "ann", "--ttl", "0s", "/queue/a", "x"], "durable.ttl must be more than 0"),
        (&["--user", "ann", "--key", "k", "/queue/a"], "--key is of one message"),
    ] {
        let refused = Settings::of(&[&["send", "--grpc", &grpc], arguments].concat()).run().await;
        assert_eq!(refused.code, 1, "{arguments:?}: {}", refused.out);
        assert!(refused.err.contains(why), "{arguments:?}: {}", refused.err);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_token_says_who_sends() {
    const SECRET: (&str, &str) =
        ("FOOTBRIDGE_ACCESS__JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let settings = Settings::dev().variable(SECRET.0, SECRET.1);
    let mut node = settings.variable("FOOTBRIDGE_NOTIFIER__CALLERS", "token").start().await;
    let grpc = node.grpc().await;
    let make = ["token", "make", "orders", "--claim", "footbridge:methods=Notifications/*"];
    let made = Settings::of(&make).variable(SECRET.0, SECRET.1).run().await;
    assert_eq!(made.code, 0, "{}", made.err);
    let send = ["send", "--grpc", &grpc, "/queue/q", "x"];
    let refused = Settings::of(&send).run().await;
    assert!(refused.code == 1 && refused.err.contains("authorization: Bearer"), "{}", refused.err);
    let sent = Settings::of(&send).variable("FOOTBRIDGE_TOKEN", made.out.trim()).run().await;
    assert_eq!((sent.code, &*sent.err), (0, ""));
    let sent = Settings::of(&[&send[..], &["--token", made.out.trim()]].concat()).run().await;
    assert_eq!((sent.code, &*sent.err), (0, ""));
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_is_none_is_told_with_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (node, ..) = dev().await;
    for (url, text) in [
        (format!("--grpc=http://{free}"), "start `footbridge dev` or `footbridge notifier`"),
        (format!("--grpc=http://{}", node.admin), "is it `footbridge notifier`?"),
        ("--grpc=127.0.0.1:50051".to_owned(), "is no http:// URL such as http://127.0.0.1:50051"),
    ] {
        let failed = Settings::of(&["send", &url, "/topic/a", "x"]).run().await;
        assert_eq!(failed.code, 1);
        assert!(failed.err.contains(text), "{}", failed.err);
    }
    let both = Settings::of(&["send", "--grpc", "--login", "ann", "/topic/a", "x"]).run().await;
    assert_eq!(both.code, 2);
    assert!(both.err.contains("cannot be used with '--login"), "{}", both.err);
    node.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_names_the_option_that_chooses_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    for (command, option, ports) in [
        ("dev", "--listen", vec!["--admin", "--grpc"]),
        ("dev", "--admin", vec!["--listen", "--grpc"]),
        ("dev", "--grpc", vec!["--listen", "--admin"]),
        ("dev", "--stomp", vec!["--listen", "--admin", "--grpc"]),
        ("gateway", "--listen", vec!["--admin"]),
        ("gateway", "--admin", vec!["--listen"]),
        ("notifier", "--listen", vec!["--admin"]),
        ("notifier", "--admin", vec!["--listen"]),
    ] {
        let mut arguments = vec![command, option, &taken];
        arguments.extend(ports.into_iter().flat_map(|port| [port, free]));
        let failed = Settings::of(&arguments).set("log.level", "off").run().await;
        assert_eq!((failed.code, &*failed.out), (1, ""), "{command} {option}");
        assert!(failed.err.starts_with("error: choose another address for "), "{}", failed.err);
        let end = format!(" with {option}: cannot listen on {taken}: Address already in use");
        assert!(failed.err.contains(&end), "{}", failed.err);
    }
}

#[tokio::test]
async fn stomp_without_websocket_is_served_where_the_node_says() {
    let mut node = Settings::dev().set("gateway.stomp_listen", "127.0.0.1:0").start().await;
    let address = node.stomp().await;
    let taken = Settings::of(&["gateway", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .set("gateway.stomp_listen", &address)
        .set("log.level", "off")
        .run()
        .await;
    let told =
        "error: choose another address for clients as gateway.stomp_listen: cannot listen on";
    assert_eq!(taken.code, 1);
    assert!(taken.err.starts_with(&format!("{told} {address}: ")), "{}", taken.err);

    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.write_all(b"CONNECT\n\n\0DISCONNECT\nreceipt:r\n\n\0").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("CONNECTED\n"), "{answer}");
    assert!(answer.ends_with("RECEIPT\nreceipt-id:r\n\n\0"), "{answer}");
    node.stop().await;

    // A gateway says so too, whether RabbitMQ is there or not.
    let gateway = Settings::gateway()
        .set("gateway.stomp_listen", "127.0.0.1:0")
        .set("rabbitmq.uris", "amqp://127.0.0.1:9");
    let mut gateway = gateway.start().await;
    TcpStream::connect(gateway.stomp().await).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn the_admin_port_tells_how_a_node_is() {
    let (node, ..) = dev().await;
    assert_eq!(node.get("/livez").await, (200, "live".to_owned()));
    assert_eq!(node.get("/readyz").await, (200, "ready".to_owned()));
    let (status, help) = node.get("/elsewhere").await;
    assert_eq!((status, &*help), (404, "try /metrics, /livez, /readyz"));
    for (name, least) in [
        ("broker_connected", 1.0),
        ("broker_gaps", 0.0),
        ("gateway_sessions", 0.0),
        ("notifier_streams", 0.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 3.0),
        ("process_cpu_seconds_total", 1e-6),
    ] {
        let value = node.metric(name).await;
        assert!(value >= least && (value - least < 1.0 || least > 1.0), "{name} {value}");
    }
    let (_, text) = node.get("/metrics").await;
    let mut named: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let count = named.len();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), count, "a metric is there twice");
    assert!(text.ends_with("# EOF"), "{text}");
    node.stop().await;
}

/// Whoever reads the log may go away, and takes nothing along.
#[test]
fn a_node_whose_log_nobody_reads_serves_and_stops() {
    // Nobody listens there, which is worth a line in the log again and again.
    let mut node = Command::new(env!("CARGO_BIN_EXE_footbridge"))
        .args(["gateway", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .env("FOOTBRIDGE_RABBITMQ__URIS", "amqp://127.0.0.1:9/%2f")
        .env("FOOTBRIDGE_RABBITMQ__RECONNECT_PAUSE", "10ms")
        .env("FOOTBRIDGE_LOG__LEVEL", "debug")
        .env("FOOTBRIDGE_GATEWAY__MAX_SESSIONS", "10")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(node.stderr.take().unwrap());
    log.read_line(&mut String::new()).unwrap();
    drop(log);
    let mut out = BufReader::new(node.stdout.take().unwrap()).lines();
    let admin = out.find_map(|line| line.unwrap().trim().strip_prefix("Admin").map(str::to_owned));
    let admin = admin.unwrap();
    let admin = admin.trim().trim_start_matches("http://").split('/').next().unwrap();
    let readiness = || {
        let mut page = std::net::TcpStream::connect(admin).unwrap();
        page.write_all(b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        page.read_to_string(&mut answer).unwrap();
        answer
    };
    // The first attempt may be on its way yet.
    while !readiness().contains("cannot connect to RabbitMQ") {}
    kill(Pid::from_raw(node.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(node.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn users_sessions_groups_and_all_are_reached_and_counted() {
    let (node, websocket, grpc) = dev().await;
    let listen = |user: &str, count: &str| {
        let own = ["/user/queue/news", "/user/queue/ready"];
        Settings::of(
            &[&["listen", "--url", &websocket, "--login", user, "-n", count], &own[..]].concat(),
        )
    };
    let ann = listen("ann", "4").spawn();
    let bob = listen("bob", "3").spawn();
    node.wait_metric("gateway_subscriptions", 4.0).await;
    let send = async |arguments: &[&str]| {
        let sent = Settings::of(&[&["send", "--grpc", &grpc], arguments].concat()).run().await;
        assert_eq!((sent.code, &*sent.err), (0, ""), "{arguments:?}");
        sent.out
    };
    let both = ["--user", "ann", "--user", "bob", "--user", "eve"];
    let told = send(&[&both[..], &["/queue/news", "to both"]].concat()).await;
    assert_eq!(told, "2 sessions on 1 node (ann 1, bob 1, eve 0)\n");
    assert_eq!(send(&["--all", "/queue/news", "to all"]).await, "2 sessions on 1 node\n");
    assert_eq!(send(&["--user", "eve", "/queue/news", "to nobody"]).await, "no session\n");

    let online = Settings::of(&["users", "--grpc", &grpc]).run().await;
    assert_eq!(online.code, 0, "{}", online.err);
    let rows: Vec<Vec<_>> = online.out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[0], ["USER", "SESSION", "NODE", "SINCE", "ADDRESS", "DEVICE"]);
    assert_eq!(rows[1..].iter().map(|row| row[0]).collect::<Vec<_>>(), ["ann", "bob"]);
    assert!(rows[1][1].starts_with(&rows[2][1][..8]), "one node: {rows:?}");
    assert!(rows[1][3].ends_with('Z') && rows[1][4].contains("127.0.0.1"), "{rows:?}");
    let some = Settings::of(&["users", "--grpc", &grpc, "bob", "eve"]).run().await;
    assert_eq!((some.code, &*some.err), (1, "error: not online: eve\n"));
    assert!(some.out.lines().nth(1).is_some_and(|row| row.starts_with("bob\t")), "{}", some.out);

    let one = send(&["--session", rows[1][1], "/queue/news", "to one"]).await;
    assert_eq!(one, "1 session on 1 node\n");
    // Nobody is a member.
    assert_eq!(send(&["--group", "g", "hello"]).await, "no session\n");
    assert_eq!(send(&["--group", "g", "/queue/news", "hello"]).await, "no session\n");

    // Each line has an answer of its own.
    let mut lines = Settings::of(&["send", "--grpc", &grpc, "--all", "/queue/ready"]).spawn();
    lines.line("last").await;
    assert_eq!(lines.ended().await.out, "2 sessions on 1 node\n");
    let heard = ann.ended().await.out;
    let bodies = |texts: &[&str]| {
        texts.iter().map(|text| format!("/user/queue/news\t{text}\n")).collect::<String>()
    };
    let last = "/user/queue/ready\tlast\n";
    assert_eq!(heard, bodies(&["to both", "to all", "to one"]) + last);
    assert_eq!(bob.ended().await.out, bodies(&["to both", "to all"]) + last);
    node.stop().await;
}

#[tokio::test]
async fn recipients_are_of_one_kind_and_services_alone_name_them() {
    let (node, _, grpc) = dev().await;
    for (arguments, code, text) in [
        (vec!["send", "--user", "ann", "/queue/a", "x"], 2, "--grpc"),
        (
            vec!["send", "--grpc", &grpc, "--user", "a", "--all", "/queue/a", "x"],
            2,
            "cannot be used",
        ),
        (vec!["send", "--grpc", &grpc, "--user", "a"], 1, "such as /queue/news"),
        (vec!["send", "--grpc", &grpc, "--user", "a", "/user/queue/a", "x"], 1, "leave /user out"),
        (
            vec!["send", "--grpc", &grpc, "--session", "a", "/queue/a", "x"],
            1,
            "sessions.sessions[0]",
        ),
        (vec!["users", "--grpc", "http://127.0.0.1:9"], 1, "nobody listens at"),
    ] {
        let failed = Settings::of(&arguments).run().await;
        assert_eq!(failed.code, code, "{arguments:?}: {}", failed.err);
        assert!(failed.err.contains(text), "{arguments:?}: {}", failed.err);
    }
    node.stop().await;
}

/// The figures are another matter; here all that is sent must arrive, and once.
#[tokio::test]
async fn sends_to_users_are_measured_beside_a_topic() {
    let (node, websocket, grpc) = dev().await;
    let load =
        ["--users", "20", "--messages", "200", "--warm-up", "20", "--pairs", "2", "--json", "-"];
    let measured = [&["bench", "users"], &load[..]].concat();
    for server in [vec![], vec!["--url", &websocket, "--grpc", &grpc]] {
        let measured = Settings::of(&[&measured[..], &server].concat()).run().await;
        assert_eq!(measured.code, 0, "{}", measured.err);
        let report: serde_json::Value = serde_json::from_str(&measured.out).unwrap();
        for (side, name) in [(0, "users"), (1, "topic")] {
            let side = &report["sides"][side];
            assert_eq!(side["name"], name);
            assert_eq!(side["runs"].as_array().unwrap().len(), 2);
            for run in side["runs"].as_array().unwrap() {
                for (figure, value) in [("messages", 200.0), ("lost", 0.0), ("miscounted", 0.0)] {
                    assert_eq!(run[figure], value, "{name} {figure}: {report}");
                }
                assert!(run["messages_per_s"].as_f64().unwrap() > 0.0);
            }
        }
        assert!(report["ratio"]["messages_per_s"].as_f64().unwrap() > 0.0);
    }
    let alone = Settings::of(&[&measured[..], &["--url", &websocket]].concat()).run().await;
    assert_eq!(alone.code, 1);
    assert!(alone.err.contains("Give --grpc"), "{}", alone.err);
    node.stop().await;
}
