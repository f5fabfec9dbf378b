//! Keys at a URL: fetched once for all, again when they change, and kept while the URL is away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use access::{Access, Config, Refusal, TokenError};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::support::*;

/// What the issuer answers.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    Text(String),
    Status(u16),
    /// Nothing, for so long.
    Late(Duration),
}

/// An issuer of tokens that publishes its keys.
struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Issuer {
    async fn start(answer: Answer) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), answer).await
    }

    async fn at(address: SocketAddr, answer: Answer) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (answers, counts) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answers, counts) = (Arc::clone(&answers), Arc::clone(&counts));
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<hyper::body::Incoming>| {
                        let (answers, counts) = (Arc::clone(&answers), Arc::clone(&counts));
                        async move {
                            assert_eq!(request.uri().path(), "/jwks.json");
                            counts.fetch_add(1, Ordering::SeqCst);
                            let answer = answers.lock().clone();
                            Ok::<_, Infallible>(respond(answer).await)
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, answer, asked, task }
    }

    fn publish(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn config(&self) -> Config {
        Config {
            jwks_url: format!("http://{}/jwks.json", self.address),
            jwks_min_interval: Duration::from_secs(1),
            ..Config::default()
        }
    }

    /// Lets nobody in any more.
    async fn stop(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

async fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let (status, body) = match answer {
        Answer::Keys(keys) => (200, json!({ "keys": keys }).to_string()),
        Answer::Text(text) => (200, text),
        Answer::Status(status) => (status, String::new()),
        Answer::Late(late) => {
            tokio::time::sleep(late).await;
            (200, String::new())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if (300..400).contains(&status) {
        response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
    }
    response
}

fn ann() -> Value {
    claims("ann", json!({}))
}

/// Asks until that is the answer; it may ask too early.
async fn until(access: &Access, token: &str, good: bool) {
    let begun = Instant::now();
    while principal_of(access, token).await.is_ok() != good {
        assert!(begun.elapsed() < Duration::from_secs(60), "never {good}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_for_the_first_keys() {
    let keys = Keys::p256();
    let issuer = Issuer::start(Answer::Keys(json!([keys.jwk("a")]))).await;
    let access = Arc::new(start(&issuer.config()));
    let token = keys.sign_with_id("a", &ann());
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (access, token) = (Arc::clone(&access), token.clone());
            tokio::spawn(async move { principal_of(&access, &token).await })
        })
        .collect();
    for waits in waiting {
        waits.await.unwrap().unwrap();
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_fetched_once_for_all() {
    let (old, new) = (Keys::p256(), Keys::p256());
    let issuer = Issuer::start(Answer::Keys(json!([old.jwk("old")]))).await;
    let access = Arc::new(start(&issuer.config()));
    principal_of(&access, &old.sign_with_id("old", &ann())).await.unwrap();
    issuer.publish(Answer::Keys(json!([old.jwk("old"), new.jwk("new")])));
    // So long nobody is asked again.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let token = new.sign_with_id("new", &ann());
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (access, token) = (Arc::clone(&access), token.clone());
            tokio::spawn(async move { principal_of(&access, &token).await })
        })
        .collect();
    for waits in waiting {
        waits.await.unwrap().unwrap();
    }
    assert_eq!(issuer.asked(), 2);
    principal_of(&access, &old.sign_with_id("old", &ann())).await.unwrap();
}

#[tokio::test]
async fn keys_are_taken_away_and_exchanged() {
    let (old, new) = (Keys::rsa(), Keys::ed25519());
    let issuer = Issuer::start(Answer::Keys(json!([old.jwk("k1")]))).await;
    let access = start(&issuer.config());
    let (by_old, by_new) = (old.sign_with_id("k1", &ann()), new.sign_with_id("k2", &ann()));
    until(&access, &by_old, true).await;
    issuer.publish(Answer::Keys(json!([new.jwk("k2")])));
    until(&access, &by_new, true).await;
    let why = principal_of(&access, &by_old).await.unwrap_err();
    assert!(matches!(why, TokenError::UnknownKey { .. }), "{why:?}");
    // Another key under an id that is known.
    let newest = Keys::ed25519();
    issuer.publish(Answer::Keys(json!([newest.jwk("k2")])));
    until(&access, &newest.sign_with_id("k2", &ann()), true).await;
}

#[tokio::test]
async fn made_up_keys_do_not_have_the_issuer_asked_ever_again() {
    let keys = Keys::p256();
    let issuer = Issuer::start(Answer::Keys(json!([keys.jwk("a")]))).await;
    let config = Config { jwks_min_interval: Duration::from_secs(3600), ..issuer.config() };
    let access = start(&config);
    principal_of(&access, &keys.sign_with_id("a", &ann())).await.unwrap();
    for n in 0..200 {
        let why = principal_of(&access, &keys.sign_with_id(&format!("x{n}"), &ann())).await;
        assert!(matches!(why, Err(TokenError::UnknownKey { .. })), "{why:?}");
    }
    assert_eq!(issuer.asked(), 1);
    principal_of(&access, &keys.sign_with_id("a", &ann())).await.unwrap();
}

#[tokio::test]
async fn the_last_good_keys_stay_while_the_url_is_away() {
    let (keys, next) = (Keys::p256(), Keys::p256());
    let issuer = Issuer::start(Answer::Keys(json!([keys.jwk("a")]))).await;
    // Old at once, so that it is fetched all the time.
    let config = Config {
        jwks_max_age: Duration::from_secs(1),
        jwks_timeout: Duration::from_millis(300),
        ..issuer.config()
    };
    let access = start(&config);
    let token = keys.sign_with_id("a", &ann());
    until(&access, &token, true).await;
    for answer in [
        Answer::Status(500),
        Answer::Status(404),
        Answer::Status(302),
        Answer::Text("no keys".into()),
        Answer::Text("{\"keys\":[]}".into()),
        Answer::Text(format!("{{\"keys\":[],\"x\":\"{}\"}}", "y".repeat(300 * 1024))),
        Answer::Keys(
            json!([{ "kty": "oct", "kid": "a", "k": "c2VjcmV0IHRoYXQgaXMgbG9uZyBlbm91Z2gsIGJ1dCBub3Qgc2VjcmV0" }]),
        ),
        Answer::Late(Duration::from_secs(60)),
    ] {
        issuer.publish(answer);
        let before = issuer.asked();
        while issuer.asked() < before + 2 {
            principal_of(&access, &token).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        principal_of(&access, &token).await.unwrap();
        // A key that is not known may be one that could not be fetched: no fault of the token.
        let why = principal_of(&access, &next.sign_with_id("b", &ann())).await.unwrap_err();
        assert_eq!(why, TokenError::KeysUnavailable);
        assert!(Refusal::Token(why).may_pass_later());
    }
    let address = issuer.stop().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    principal_of(&access, &token).await.unwrap();
    let _back = Issuer::at(address, Answer::Keys(json!([next.jwk("b")]))).await;
    until(&access, &next.sign_with_id("b", &ann()), true).await;
    until(&access, &token, false).await;
}

#[tokio::test]
async fn an_issuer_that_was_never_there_is_waited_for_no_longer_than_it_may_take() {
    let keys = Keys::p256();
    let address = Issuer::start(Answer::Status(500)).await.stop().await;
    let config = Config {
        jwks_url: format!("http://{address}/jwks.json"),
        jwks_min_interval: Duration::from_secs(1),
        ..Config::default()
    };
    let access = start(&config);
    let token = keys.sign_with_id("a", &ann());
    assert_eq!(principal_of(&access, &token).await.unwrap_err(), TokenError::KeysUnavailable);
    let why = access.key_failure().unwrap();
    assert!(why.contains("Connection refused"), "{why}");
    let _issuer = Issuer::at(address, Answer::Keys(json!([keys.jwk("a")]))).await;
    until(&access, &token, true).await;
    assert_eq!(access.key_failure(), None);
}

#[tokio::test]
async fn keys_come_by_tls_from_those_who_are_trusted_only() {
    let keys = Keys::p256();
    let authority = Keys::p256().pair;
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(params, authority);
    let server = Keys::p256().pair;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&server, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(server.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = json!({ "keys": [keys.jwk("a")] });
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, body) = (acceptor.clone(), body.clone());
            tokio::spawn(async move {
                let Ok(socket) = acceptor.accept(socket).await else { return };
                let service = service_fn(|_| async {
                    Ok::<_, Infallible>(respond(Answer::Text(body.to_string())).await)
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    let ca_file = file(&ca.pem());
    let config = |host: &str, ca: bool| Config {
        jwks_url: format!("https://{host}:{port}/jwks.json"),
        jwks_ca_file: if ca { ca_file.path().into() } else { std::path::PathBuf::new() },
        ..Config::default()
    };
    let token = keys.sign_with_id("a", &ann());
    principal_of(&start(&config("localhost", true)), &token).await.unwrap();
    for distrusted in [config("localhost", false), config("127.0.0.1", true)] {
        let why = principal_of(&start(&distrusted), &token).await.unwrap_err();
        assert_eq!(why, TokenError::KeysUnavailable);
    }
}
