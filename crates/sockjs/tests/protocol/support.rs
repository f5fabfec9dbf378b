//! The example's services on a port of their own, and a client of HTTP that sees every chunk.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use warp::Filter;
use warp::reply::Reply;

use crate::routes;

/// Longer than anything here takes on a busy machine; reached only when something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

/// Serves the example's services.
pub(crate) async fn serve() -> Server {
    serve_routes(routes::routes()).await
}

pub(crate) async fn serve_routes<F>(routes: F) -> Server
where
    F: Filter<Error = warp::Rejection> + Clone + Send + Sync + 'static,
    F::Extract: Reply,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(routes).incoming(listener).run());
    Server { address }
}

#[derive(Clone, Copy)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
}

/// A request that has been sent, and the head of its answer.
pub(crate) struct Exchange {
    socket: BufReader<TcpStream>,
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Server {
    /// Sends a request; the body of the answer comes by [`Exchange::chunk`] or [`Exchange::body`].
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Exchange {
        let socket = timeout(TcpStream::connect(self.address)).await.unwrap();
        Exchange::on(BufReader::new(socket), method, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Exchange {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Exchange {
        self.ask("POST", path, &[], body).await
    }

    /// The status and the whole body.
    pub(crate) async fn got(&self, path: &str) -> (u16, String) {
        self.get(path).await.whole().await
    }

    pub(crate) async fn posted(&self, path: &str, body: &str) -> (u16, String) {
        self.post(path, body).await.whole().await
    }

    /// Sends messages to a session, and sees that they are taken.
    pub(crate) async fn send(&self, session: &str, body: &str) {
        let answer = self.posted(&format!("{session}/xhr_send"), body).await;
        assert_eq!(answer, (204, String::new()));
    }

    /// Polls once.
    pub(crate) async fn poll(&self, session: &str) -> String {
        let (status, frame) = self.posted(&format!("{session}/xhr"), "").await;
        assert_eq!(status, 200, "{frame}");
        frame
    }

    /// A session of that endpoint that nobody else names.
    pub(crate) fn session(&self, endpoint: &str) -> String {
        format!("{endpoint}/000/{:x}", rand::random::<u64>())
    }
}

impl Exchange {
    /// On a connection that is there.
    pub(crate) async fn on(
        mut socket: BufReader<TcpStream>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", "h");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        request += body;
        timeout(socket.write_all(request.as_bytes())).await.unwrap();
        let head = line(&mut socket).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = line(&mut socket).await;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Self { socket, status, headers }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// `Content-Type` without its spaces.
    pub(crate) fn content_type(&self) -> String {
        self.header("content-type").unwrap_or_default().replace(' ', "")
    }

    /// The next chunk of a body that streams; empty at its end.
    pub(crate) async fn chunk(&mut self) -> String {
        assert_eq!(self.header("transfer-encoding"), Some("chunked"));
        let len = usize::from_str_radix(&line(&mut self.socket).await, 16).unwrap();
        let mut chunk = vec![0; len + 2];
        timeout(self.socket.read_exact(&mut chunk)).await.unwrap();
        chunk.truncate(len);
        String::from_utf8(chunk).unwrap()
    }

    /// All of the body; the connection is left for another request.
    pub(crate) async fn body(&mut self) -> String {
        if let Some(len) = self.header("content-length") {
            let mut body = vec![0; len.parse().unwrap()];
            timeout(self.socket.read_exact(&mut body)).await.unwrap();
            return String::from_utf8(body).unwrap();
        }
        if self.header("transfer-encoding").is_none() {
            return String::new();
        }
        let mut body = String::new();
        loop {
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                return body;
            }
            body += &chunk;
        }
    }

    pub(crate) async fn whole(mut self) -> (u16, String) {
        let body = self.body().await;
        (self.status, body)
    }

    pub(crate) fn into_socket(self) -> BufReader<TcpStream> {
        self.socket
    }

    /// Pages of `origin` may see it, or of any.
    pub(crate) fn assert_cors(&self, origin: Option<&str>) {
        let shown = origin.filter(|origin| *origin != "null").unwrap_or("*");
        assert_eq!(self.header("access-control-allow-origin"), Some(shown));
        assert_eq!(self.header("access-control-allow-credentials"), Some("true"));
    }

    pub(crate) fn assert_not_cached(&self) {
        let never = "no-store, no-cache, must-revalidate, max-age=0";
        assert_eq!(self.header("cache-control"), Some(never));
        assert_eq!((self.header("expires"), self.header("last-modified")), (None, None));
    }

    pub(crate) fn assert_cached(&self) {
        let control = self.header("cache-control").unwrap();
        assert!(control.contains("public") && control.contains("max-age=31536000"), "{control}");
        assert!(self.header("expires").is_some());
        assert_eq!(self.header("last-modified"), None);
    }

    pub(crate) fn assert_no_cookie(&self) {
        assert_eq!(self.header("set-cookie"), None);
    }
}

async fn line(socket: &mut BufReader<TcpStream>) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(timeout(socket.read_u8()).await.unwrap());
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).unwrap()
}
