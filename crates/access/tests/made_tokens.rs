//! Tokens that are made here, and what is said of one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use access::token::{MakeError, Signer, wanted_claims};
use access::{Config, Secret, TokenError};
use serde_json::json;

use self::support::*;

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

#[tokio::test]
async fn what_is_made_with_a_key_is_accepted_by_it() {
    let wanted = |config: Config| Config {
        jwt_issuers: vec!["us".into(), "them".into()],
        jwt_audiences: vec!["footbridge".into()],
        jwt_user_claim: "name".into(),
        ..config
    };
    let config = wanted(with_secret());
    let signer = Signer::of_secret(&Secret::from(SECRET)).unwrap();
    let token = signer.sign(wanted_claims(&config, "ann"), HOUR, now()).unwrap();
    let ann = principal_of(&start(&config), &token).await.unwrap();
    assert_eq!(ann.name, "ann");
    assert_eq!(ann.claims.get("exp"), Some(&json!(NOW + 3600)));
    assert_eq!(ann.claims.get("iat"), Some(&json!(NOW)));

    for keys in [Keys::rsa(), Keys::p256(), Keys::p384(), Keys::ed25519()] {
        let (_file, config) = with_key_file(&keys.public_pem());
        let config = wanted(config);
        let signer = Signer::of_pem(&keys.pair.serialize_pem()).unwrap().with_id(Some("k".into()));
        let token = signer.sign(wanted_claims(&config, "ann"), HOUR, now()).unwrap();
        assert_eq!(principal_of(&start(&config), &token).await.unwrap().name, "ann");
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid.as_deref(), Some("k"));
    }
}

#[test]
fn a_key_that_cannot_sign_says_why() {
    let why = |signer: Result<Signer, MakeError>| signer.err().unwrap().to_string();
    let of_pem = |pem: &str| why(Signer::of_pem(pem));
    assert!(of_pem(&Keys::p256().public_pem()).contains("it is public"));
    assert!(of_pem(&Keys::rsa().public_pem()).contains("it is public"));
    assert!(of_pem("").contains("no private key in PEM"));
    let old = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
    assert!(of_pem(old).contains("PKCS#8"));
    assert!(why(Signer::of_secret(&Secret::from("short"))).contains("at least 32 bytes, not 5"));
    let signer = Signer::of_secret(&Secret::from(SECRET)).unwrap();
    let big = object(json!({ "x": "y".repeat(7000) }));
    assert!(matches!(signer.sign(big, HOUR, now()), Err(MakeError::TooLong(_))));
    let never = signer.sign(object(json!({})), Some(Duration::MAX), now());
    assert_eq!(never, Err(MakeError::TooLate));
}

#[tokio::test]
async fn a_token_is_explained_whether_or_not_it_is_good() {
    let access = start(&with_secret());
    let signer = Signer::of_secret(&Secret::from(SECRET)).unwrap();
    let claims = object(json!({ "sub": "ann", "roles": ["admin"], "x": "\u{9b}31m" }));
    let token = signer.sign(claims.clone(), HOUR, now()).unwrap();
    let good = access.explain(&token, now()).await.unwrap();
    assert!(good.verdict.is_ok());
    let said = good.to_string();
    for part in [
        "\"alg\": \"HS256\"",
        "\"sub\": \"ann\"",
        "exp:    2027-01-15T09:00:00Z",
        "accepted: user \"ann\" with roles [\"admin\"], until 2027-01-15T09:00:30Z",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains('\u{9b}'), "{said:?}");

    let late = access.explain(&token, now() + Duration::from_secs(7200)).await.unwrap();
    assert!(late.to_string().ends_with("refused: the token expired 3600 s ago"), "{late}");
    // What a stranger signed is shown as well, and refused.
    let other = Signer::of_secret(&Secret::from("another secret of at least 32 bytes")).unwrap();
    let strange = other.sign(claims, HOUR, now()).unwrap();
    let said = access.explain(&strange, now()).await.unwrap();
    assert_eq!(said.verdict, Err(TokenError::Signature));
    assert!(said.to_string().contains("\"sub\": \"ann\""), "{said}");
    let nonsense = access.explain("nonsense", now()).await.unwrap().to_string();
    assert!(nonsense.contains("header: cannot be read"), "{nonsense}");
    assert!(start(&Config::default()).explain(&token, now()).await.is_none());
}
