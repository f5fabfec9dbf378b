//! Tests that a request and its answer get through as they are.

use http::{HeaderValue, StatusCode};
use tokio::sync::{oneshot, watch};

use super::*;

#[tokio::test]
async fn the_other_node_gets_the_request_as_it_came_and_who_sent_it() {
    let network = Network::new();
    let (seen, mut requests) = mpsc::channel(1);
    let (asking, answering, peer) = pair(&network, move |request| {
        let seen = seen.clone();
        async move {
            seen.send(request).await.unwrap();
            let mut answer = port::empty(StatusCode::NO_CONTENT);
            for value in ["a=1", "b=2"] {
                answer.headers_mut().append("set-cookie", HeaderValue::from_static(value));
            }
            answer
        }
    })
    .await;
    let request = Request::post("/echo/000/a%2Fb/xhr_send?t=1&u=%20")
        .version(http::Version::HTTP_10)
        .header("host", "chat.example:8080")
        .header("origin", "http://chat.example:8080")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-blob", HeaderValue::from_bytes(b"\xe4\t\xff").unwrap())
        .header("content-length", "5")
        // What is about the client's own connection, or what it made up.
        .header("connection", "keep-alive, x-mine")
        .header("x-mine", "1")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers")
        .header("expect", "100-continue")
        .header("x-footbridge-forwarded", "v1 t=0 c=127.0.0.1 b= s=")
        .body(Bytes::from_static(b"[\"x\"]"))
        .unwrap();
    let answer = soon(asking.peers.forward(&peer, request, client())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);

    let (parts, body) = soon(requests.recv()).await.unwrap().into_parts();
    assert_eq!(parts.method, "POST");
    assert_eq!(parts.uri, "/echo/000/a%2Fb/xhr_send?t=1&u=%20");
    assert_eq!(body, "[\"x\"]");
    assert_eq!(parts.extensions.get(), Some(&ClientAddress(client())));
    assert!(parts.extensions.get::<Forwarded>().is_some());
    let mut headers: Vec<_> =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    headers.sort_by_key(|(name, _)| *name);
    let expected: [(&str, &[u8]); 6] = [
        ("content-length", b"5"),
        ("cookie", b"a=1"),
        ("cookie", b"b=2"),
        ("host", b"chat.example:8080"),
        ("origin", b"http://chat.example:8080"),
        ("x-blob", b"\xe4\t\xff"),
    ];
    assert_eq!(headers, expected);
    assert_eq!((asking.metrics.handed("out"), answering.metrics.handed("in")), (1, 1));
}

/// An answer as it comes to the node that asked, of pieces that the test writes at the other.
struct Streamed {
    pieces: mpsc::Sender<Result<Bytes, &'static str>>,
    answer: Response<BoxBody>,
    _nodes: (Node, Node),
}

async fn streamed(network: &Network) -> Streamed {
    let (pieces, answers) = mpsc::channel(1);
    let answers = Mutex::new(Some(answers));
    let (asking, answering, peer) = pair(network, move |_| {
        let answers = answers.lock().take().expect("one request");
        async move { streaming(answers) }
    })
    .await;
    let answer = asking.peers.forward(&peer, post("/xhr_streaming", ""), client());
    let answer = soon(answer).await.unwrap();
    Streamed { pieces, answer, _nodes: (asking, answering) }
}

#[tokio::test]
async fn an_answer_comes_as_it_is_written() {
    let network = Network::new();
    let Streamed { pieces, mut answer, _nodes } = streamed(&network).await;
    for text in ["o\n", "a[\"x\"]\n", "h\n"] {
        pieces.send(Ok(text.into())).await.unwrap();
        // Before there is more.
        assert_eq!(piece(&mut answer).await.unwrap(), text);
    }
    drop(pieces);
    assert_eq!(piece(&mut answer).await, None);
}

#[tokio::test]
async fn the_other_node_notices_that_the_client_left_its_answer() {
    let network = Network::new();
    let Streamed { pieces, mut answer, _nodes } = streamed(&network).await;
    pieces.send(Ok("o\n".into())).await.unwrap();
    piece(&mut answer).await.unwrap();
    drop(answer);
    // Without anything being written.
    soon(pieces.closed()).await;
}

#[tokio::test]
async fn the_other_node_notices_that_the_client_waits_no_longer() {
    let network = Network::new();
    let (began, mut calls) = mpsc::channel(1);
    let (asking, _answering, peer) = pair(&network, move |_| {
        let began = began.clone();
        async move {
            let (waits, gone) = oneshot::channel::<()>();
            began.send(gone).await.unwrap();
            std::future::pending::<()>().await;
            drop(waits);
            port::empty(StatusCode::OK)
        }
    })
    .await;
    let peers = asking.peers.clone();
    let asked = tokio::spawn(async move { peers.forward(&peer, post("/xhr", ""), client()).await });
    let gone = soon(calls.recv()).await.unwrap();
    asked.abort();
    assert!(soon(gone).await.is_err());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_whole_one() {
    let network = Network::new();
    let Streamed { pieces, mut answer, _nodes } = streamed(&network).await;
    pieces.send(Ok("o\n".into())).await.unwrap();
    piece(&mut answer).await.unwrap();
    pieces.send(Err("the session is gone")).await.unwrap();
    assert!(soon(answer.body_mut().frame()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let network = Network::new();
    let (asking, _answering, peer) = pair(&network, async |request: Request<Bytes>| {
        assert_eq!(request.body().len(), MAX_BODY);
        port::empty(StatusCode::OK)
    })
    .await;
    for (length, status) in [
        (MAX_BODY, StatusCode::OK),
        (MAX_BODY + 1, StatusCode::PAYLOAD_TOO_LARGE),
        (MAX_BODY, StatusCode::OK),
    ] {
        let request = post("/xhr_send", vec![b'x'; length]);
        let answer = soon(asking.peers.forward(&peer, request, client())).await.unwrap();
        assert_eq!(answer.status(), status, "{length}");
    }
}

#[tokio::test]
async fn nothing_is_handed_over_twice() {
    let network = Network::new();
    let there = Arc::new(watch::Sender::new(None::<(Arc<Peers>, Peer)>));
    let next = there.clone();
    let (asking, answering, peer) = pair(&network, move |request| {
        let (peers, peer) = next.borrow().clone().expect("where to hand it over");
        async move {
            let refused = peers.forward(&peer, request, client()).await.err().unwrap();
            assert!(matches!(refused, Unreachable::Twice), "{refused}");
            port::empty(refused.status())
        }
    })
    .await;
    there.send_replace(Some((answering.peers.clone(), Peer(asking.presence))));
    let answer = soon(asking.peers.forward(&peer, post("/xhr", ""), client())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_of_and_who_is_heard_of_late_is_waited_for() {
    let network = Network::new();
    let (asking, _listener) = network.node(Store::Memory).await;
    network.run(&asking);
    let stranger = Peer(Boot::generate());
    let refused = asking.peers.forward(&stranger, post("/xhr", ""), client()).await.err().unwrap();
    assert!(matches!(refused, Unreachable::Unknown), "{refused}");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);

    // One that is there, and says so while it is asked for.
    let (late, late_listener) = network.node(Store::Memory).await;
    let address = late_listener.local_addr().unwrap();
    drop(late_listener);
    let peer = Peer(late.presence);
    let asked = asking.peers.forward(&peer, post("/xhr", ""), client());
    let announced = async {
        tokio::time::sleep(LOOK_AGAIN * 4).await;
        network.announce(&late, &address.to_string());
    };
    let (refused, ()) = tokio::join!(asked, announced);
    let refused = refused.err().unwrap();
    assert!(matches!(refused, Unreachable::Failed(_)), "asked, though in vain: {refused}");

    // Its port is closed, and the others have not noticed.
    let (dead, listener) = network.node(Store::Memory).await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    network.announce(&dead, &address.to_string());
    let peer = acquainted(&asking, &dead).await;
    let refused = soon(asking.peers.forward(&peer, post("/xhr", ""), client())).await;
    let refused = refused.err().unwrap();
    assert!(matches!(refused, Unreachable::Failed(_)), "{refused}");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(asking.metrics.unreached(), 3);
}

#[tokio::test]
async fn who_has_another_secret_is_told_so_and_not_its_client() {
    let network = Network::new();
    let (asking, answering, peer) =
        pair(&network, async |_| panic!("the handler is reached")).await;
    let stranger = Forwarding::new(Key::new(b"another secret that is long enough"));
    let address = answering.port.unwrap().to_string();
    let refused = soon(stranger.forward(&address, post("/xhr", ""), client())).await;
    let refused = refused.err().unwrap();
    assert!(matches!(refused, Unreachable::Stranger), "{refused}");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answering.metrics.strangers("forged"), answering.metrics.handed("in")), (1, 0));
    drop((asking, peer));
}

#[tokio::test]
async fn no_more_is_handed_over_at_once_than_the_limit() {
    let network = Network::new();
    let (pieces, answers) = mpsc::channel(1);
    let answers = Mutex::new(Some(answers));
    let (asking, _answering, peer) = pair(&network, move |_| {
        let answers = answers.lock().take().expect("one request");
        async move { streaming(answers) }
    })
    .await;
    let room = asking.peers.forwarding.as_ref().unwrap().room.clone();
    let others = room.available_permits() - 1;
    let others = room.clone().try_acquire_many_owned(others.try_into().unwrap()).unwrap();
    let answer = asking.peers.forward(&peer, post("/xhr", ""), client());
    let mut answer = soon(answer).await.unwrap();
    // The first has its place until its answer is over.
    pieces.send(Ok("o\n".into())).await.unwrap();
    piece(&mut answer).await.unwrap();
    let refused = asking.peers.forward(&peer, post("/xhr", ""), client()).await.err().unwrap();
    assert!(matches!(refused, Unreachable::Busy), "{refused}");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(answer);
    assert_eq!(room.available_permits(), 1);
    drop(others);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused() {
    let network = Network::new();
    let (asking, _listener) = network.node(Store::Memory).await;
    network.run(&asking);
    let (odd, _other) = network.node(Store::Memory).await;
    network.announce(&odd, "no host at all");
    let peer = acquainted(&asking, &odd).await;
    let refused = asking.peers.forward(&peer, post("/xhr", ""), client()).await.err().unwrap();
    assert!(matches!(refused, Unreachable::Unfit(_)), "{refused}");
}
