//! Who passes, who waits, and until when.

use access::token::{Signer, wanted_claims};
use access::{Config, Secret};
use broker::Destinations;
use serde_json::{Map, Value, json};

use super::*;

const SECRET: &str = "a secret that is long enough: 32 bytes";
const PUBLISH: &str = "/footbridge.v1.Notifications/Publish";
const ADD: &str = "/footbridge.v1.Groups/Add";

fn config() -> Config {
    let roles = toml::from_str("publisher = ['Notifications/*']\nadmin = ['*']").unwrap();
    Config { jwt_secret: Secret::from(SECRET), grpc_roles: roles, ..Config::default() }
}

fn door(asked: Asked) -> Door {
    let access = Access::start(&config(), &Destinations::default()).unwrap();
    let roles =
        toml::from_str("'orders.internal' = ['publisher']\nboss = ['admin', 'none']").unwrap();
    Door::new(Arc::new(access), asked, roles)
}

fn token(secret: &str, claims: Value, lifetime: Duration) -> String {
    let Value::Object(claims) = claims else { panic!("{claims}") };
    let mut all: Map<_, _> = wanted_claims(&config(), "orders");
    all.extend(claims);
    let signer = Signer::of_secret(&Secret::from(secret)).unwrap();
    format!("Bearer {}", signer.sign(all, Some(lifetime), SystemTime::now()).unwrap())
}

fn good(claims: Value) -> String {
    token(SECRET, claims, Duration::from_secs(3_600))
}

fn peer(address: &str, names: &[&str]) -> Peer {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Peer { opened: Instant::now(), address: address.parse().unwrap(), names }
}

#[tokio::test]
async fn a_token_opens_what_its_claims_and_roles_say_and_as_long_as_it_is_good() {
    let door = door(Asked::Token);
    for (claims, publish, add) in [
        (json!({}), Code::PermissionDenied, Code::PermissionDenied),
        (json!({"roles": ["publisher"]}), Code::Ok, Code::PermissionDenied),
        (json!({"roles": ["admin"]}), Code::Ok, Code::Ok),
        (json!({"footbridge:methods": ["Groups/Add"]}), Code::PermissionDenied, Code::Ok),
        (
            json!({"footbridge:methods": ["Groups/Ad"]}),
            Code::PermissionDenied,
            Code::PermissionDenied,
        ),
    ] {
        let token = good(claims.clone());
        for (path, expected) in [(PUBLISH, publish), (ADD, add)] {
            let entered = door.enter(None, Some(&token), path).await;
            let code = entered.as_ref().map_or_else(Status::code, |_| Code::Ok);
            assert_eq!(code, expected, "{claims} {path}");
            match entered {
                Ok(allowed) => {
                    let left = allowed.until.unwrap().duration_since(SystemTime::now()).unwrap();
                    assert!(left > Duration::from_secs(3_500) && left < Duration::from_secs(3_700));
                }
                Err(status) => assert!(status.message().contains(&path[1..]), "{status:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_waits_longer_each_time_and_then_is_turned_away_unseen() {
    let door = door(Asked::Token);
    let limits = door.access.failure_limits();
    let (bad, other) = (peer("192.0.2.1", &[]), peer("192.0.2.2", &[]));
    let forged =
        token(&format!("another {SECRET}"), json!({"roles": ["admin"]}), Duration::from_secs(60));
    let mut last = Duration::ZERO;
    for n in 0..4 {
        let start = Instant::now();
        let status = door.enter(Some(&bad), Some(&forged), PUBLISH).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(!status.message().contains(&forged[8..]), "no token in any text");
        let waited = start.elapsed();
        assert!(waited >= limits.delay * (1 << n) && waited > last, "{waited:?}");
        last = waited;
    }
    {
        let mut failures = door.failures.lock();
        for _ in 0..limits.limit {
            failures.failed(bad.address, Instant::now().into_std());
        }
    }
    let status = door.enter(Some(&bad), Some(&good(json!({"roles": ["admin"]}))), PUBLISH).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    door.enter(Some(&other), Some(&good(json!({"roles": ["admin"]}))), PUBLISH).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_good_token_is_unauthenticated() {
    let door = door(Asked::Token);
    let past = SystemTime::now() - Duration::from_secs(7_200);
    let signer = Signer::of_secret(&Secret::from(SECRET)).unwrap();
    let expired = signer
        .sign(wanted_claims(&config(), "orders"), Some(Duration::from_secs(60)), past)
        .unwrap();
    // {"alg":"none"} and {"sub":"orders","roles":["admin"],"exp":4000000000}
    let unsigned =
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcmRlcnMiLCJyb2xlcyI6WyJhZG1pbiJdLCJleHAiOjQwMDAwMDAwMDB9.";
    for shown in [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer x".to_owned()),
        Some("Basic b3JkZXJzOng=".to_owned()),
        Some(good(json!({}))["Bearer ".len()..].to_owned()),
        Some(format!("Bearer {expired}")),
        Some(format!("Bearer {unsigned}")),
        Some(format!("Bearer {}", "x".repeat(100_000))),
        Some(token(&format!("another {SECRET}"), json!({}), Duration::from_secs(60))),
    ] {
        let status = door.enter(None, shown.as_deref(), PUBLISH).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{shown:?}: {status:?}");
    }
}

#[tokio::test]
async fn a_certificate_opens_what_the_roles_of_its_names_say() {
    let door = door(Asked::Certificate);
    for (names, publish, add) in [
        (&[][..], Code::PermissionDenied, Code::PermissionDenied),
        (&["nobody"], Code::PermissionDenied, Code::PermissionDenied),
        (&["orders.internal"], Code::Ok, Code::PermissionDenied),
        (&["nobody", "orders.internal"], Code::Ok, Code::PermissionDenied),
        (&["boss"], Code::Ok, Code::Ok),
    ] {
        let peer = peer("192.0.2.1", names);
        for (path, expected) in [(PUBLISH, publish), (ADD, add)] {
            // A token says nothing where certificates are asked for.
            let shown = good(json!({"roles": ["admin"]}));
            let entered = door.enter(Some(&peer), Some(&shown), path).await;
            let code = entered.map_or_else(|status| status.code(), |_| Code::Ok);
            assert_eq!(code, expected, "{names:?} {path}");
        }
    }
    let entered = door.enter(None, None, PUBLISH).await;
    assert_eq!(entered.unwrap_err().code(), Code::PermissionDenied);
}
