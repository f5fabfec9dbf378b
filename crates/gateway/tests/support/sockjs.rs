//! A bridge that lets clients of WebSocket use SockJS, so that the tests of sessions run over that too.
//!
//! A test binary says by its name whether its clients do: see [`Over::of_this_binary`].

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

/// By what the clients of a test binary reach the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    WebSocket,
    SockJsWebSocket,
    XhrStreaming,
    Xhr,
}

impl Over {
    pub(crate) fn of_this_binary() -> Self {
        match env!("CARGO_CRATE_NAME") {
            "over_sockjs_websocket" => Self::SockJsWebSocket,
            "over_sockjs_streaming" => Self::XhrStreaming,
            "over_sockjs_polling" => Self::Xhr,
            _ => Self::WebSocket,
        }
    }
}

/// Where one client may connect by WebSocket to reach `node` over `over`.
pub(crate) async fn bridge(node: SocketAddr, over: Over) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let (mut path, mut headers) = (String::new(), HeaderMap::new());
        #[expect(clippy::result_large_err, reason = "its type is given")]
        let see = |request: &server::Request, response: server::Response| {
            path = request.uri().to_string();
            headers = end_to_end(request.headers());
            Ok(response)
        };
        let client = tokio_tungstenite::accept_hdr_async(socket, see).await.unwrap();
        let (path, query) =
            path.split_once('?').map_or((&*path, ""), |(path, query)| (path, query));
        let id: u64 = rand::random();
        let base = format!("{path}/000/{id:x}");
        match over {
            Over::WebSocket | Over::SockJsWebSocket => {
                let uri = format!("ws://{node}{base}/websocket?{query}").parse().unwrap();
                let request =
                    headers.iter().fold(ClientRequestBuilder::new(uri), |request, (k, v)| {
                        request.with_header(k.as_str(), v.to_str().unwrap())
                    });
                websocket(client, request).await;
            }
            Over::XhrStreaming | Over::Xhr => {
                let receive = if over == Over::Xhr { "xhr" } else { "xhr_streaming" };
                let url = |name: &str| format!("{base}/{name}?{query}");
                Http { node, headers, receive: url(receive), send: url("xhr_send") }
                    .run(client)
                    .await;
            }
        }
    });
    address
}

/// Those of the headers that are not of this one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let is_of_one = |name: &str| {
        name.starts_with("sec-websocket") || ["upgrade", "connection", "host"].contains(&name)
    };
    let kept = headers.iter().filter(|(name, _)| !is_of_one(name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What a frame of SockJS says to a client of WebSocket.
fn translated(frame: &str) -> Vec<Message> {
    match frame.split_at(1) {
        ("a", messages) => {
            let messages: Vec<String> = serde_json::from_str(messages).unwrap();
            messages.into_iter().map(Message::text).collect()
        }
        ("c", close) => {
            let (code, reason): (u16, String) = serde_json::from_str(close).unwrap();
            // RFC 6455, section 5.5, leaves less room than SockJS does.
            let reason: String = reason.chars().take(30).collect();
            let frame = CloseFrame { code: code.into(), reason: reason.into() };
            vec![Message::Close(Some(frame))]
        }
        _ => Vec::new(),
    }
}

/// What a client of WebSocket says, as SockJS has it; none at its end.
fn sent(message: Message) -> Option<String> {
    let text = match message {
        Message::Text(text) => text.to_string(),
        Message::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Message::Close(_) => return None,
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Some("[]".into()),
    };
    Some(serde_json::to_string(&[text]).unwrap())
}

async fn websocket(mut client: WebSocketStream<TcpStream>, request: ClientRequestBuilder) {
    let (mut node, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    loop {
        tokio::select! {
            said = client.next() => match said.and_then(Result::ok).and_then(sent) {
                Some(array) => if node.send(Message::text(array)).await.is_err() { return },
                // Gone without a word, as the client may have.
                None => return,
            },
            heard = node.next() => match heard {
                Some(Ok(Message::Text(frame))) => {
                    for message in translated(&frame) {
                        if client.send(message).await.is_err() { return }
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

/// A session over HTTP.
struct Http {
    node: SocketAddr,
    headers: HeaderMap,
    receive: String,
    send: String,
}

impl Http {
    async fn run(self, client: WebSocketStream<TcpStream>) {
        let (mut to_client, mut from_client) = client.split();
        let (sends, mut sending) = mpsc::channel::<String>(1024);
        let opened = Notify::new();
        let receiving = async {
            while let Some(mut response) = self.post(&self.receive, String::new()).await {
                assert_eq!(response.status(), 200, "{response:?}");
                let mut line = Vec::new();
                while let Some(Ok(part)) = response.body_mut().frame().await {
                    line.extend_from_slice(part.data_ref().unwrap());
                    while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                        let rest = line.split_off(end + 1);
                        let frame = String::from_utf8(std::mem::replace(&mut line, rest)).unwrap();
                        if frame == "o\n" {
                            opened.notify_one();
                        }
                        for message in translated(frame.trim_end()) {
                            let is_close = message.is_close();
                            if to_client.send(message).await.is_err() || is_close {
                                return;
                            }
                        }
                    }
                }
            }
        };
        let passing = async {
            opened.notified().await;
            while let Some(array) = sending.recv().await {
                // After the end there is nobody to be told.
                self.post(&self.send, array).await;
            }
        };
        let reading = async {
            while let Some(array) = from_client.next().await.and_then(Result::ok).and_then(sent) {
                sends.send(array).await.unwrap();
            }
        };
        tokio::select! {
            () = receiving => {}
            () = passing => {}
            () = reading => {}
        }
    }

    async fn post(&self, url: &str, body: String) -> Option<Response<Incoming>> {
        let socket = TcpStream::connect(self.node).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.ok()?;
        tokio::spawn(connection);
        let mut request = Request::post(url).header("host", self.node.to_string());
        request.headers_mut().unwrap().extend(self.headers.clone());
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        sender.send_request(request).await.ok()
    }
}
