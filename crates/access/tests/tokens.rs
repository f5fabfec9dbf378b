//! Tokens that are good, and every way in which one is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, UNIX_EPOCH};

use access::{Authentication, Config, MAX_TOKEN, TokenError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use rcgen::PublicKeyData;
use serde_json::{Value, json};

use self::support::*;

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

#[tokio::test]
async fn a_good_token_says_who_it_is_and_until_when() {
    let access = start(&with_secret());
    let claims = claims("ann", json!({ "roles": ["admin", "staff"], "tenant": "acme" }));
    let ann = principal_of(&access, &hs(Algorithm::HS256, &claims)).await.unwrap();
    assert_eq!(ann.name, "ann");
    assert_eq!(*ann.roles, ["admin", "staff"]);
    assert_eq!(ann.claims.text("tenant").as_deref(), Some("acme"));
    assert_eq!(ann.authentication, Authentication::Token);
    // With the leeway, so that a token that was good at the door is not over at once.
    assert_eq!(ann.expires_at, Some(UNIX_EPOCH + Duration::from_secs(NOW + 3600 + 30)));
}

#[tokio::test]
async fn every_algorithm_of_a_key_is_accepted() {
    let access = start(&with_secret());
    for algorithm in HMAC {
        principal_of(&access, &hs(algorithm, &claims("ann", json!({})))).await.unwrap();
    }
    let rsa = Keys::rsa();
    let (_file, config) = with_key_file(&rsa.public_pem());
    let access = start(&config);
    for algorithm in RSA {
        let token = sign(&Header::new(algorithm), &claims("ann", json!({})), &rsa.signing);
        principal_of(&access, &token).await.unwrap_or_else(|why| panic!("{algorithm:?}: {why}"));
    }
    for keys in [Keys::p256(), Keys::p384(), Keys::ed25519()] {
        let (_file, config) = with_key_file(&keys.public_pem());
        let access = start(&config);
        principal_of(&access, &keys.sign(&claims("ann", json!({})))).await.unwrap();
    }
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret() {
    for keys in [Keys::rsa(), Keys::p256(), Keys::ed25519()] {
        let pem = keys.public_pem();
        let jwks = json!({ "keys": [keys.jwk("k")] }).to_string();
        let set = file(&jwks);
        let (_file, by_pem) = with_key_file(&pem);
        let by_set = Config { jwks_file: set.path().into(), ..Config::default() };
        let der = keys.pair.subject_public_key_info();
        for config in [by_pem, by_set] {
            let access = start(&config);
            for secret in [pem.as_bytes(), pem.trim().as_bytes(), &der, jwks.as_bytes()] {
                for algorithm in HMAC {
                    let key = EncodingKey::from_secret(secret);
                    let header = Header { kid: Some("k".into()), ..Header::new(algorithm) };
                    let token = sign(&header, &claims("eve", json!({})), &key);
                    let why = principal_of(&access, &token).await.unwrap_err();
                    assert!(matches!(why, TokenError::Algorithm { .. }), "{why:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_of_another_kind_is_refused_for_its_algorithm() {
    let (rsa, p256, p384, ed) = (Keys::rsa(), Keys::p256(), Keys::p384(), Keys::ed25519());
    let all = [&rsa, &p256, &p384, &ed];
    for own in all {
        let (_file, config) = with_key_file(&own.public_pem());
        let access = start(&config);
        for other in all.into_iter().filter(|other| other.algorithm != own.algorithm) {
            let why =
                principal_of(&access, &other.sign(&claims("eve", json!({})))).await.unwrap_err();
            assert!(matches!(why, TokenError::Algorithm { .. }), "{why:?}");
        }
    }
    let access = start(&with_secret());
    for keys in all {
        let why = principal_of(&access, &keys.sign(&claims("eve", json!({})))).await.unwrap_err();
        assert!(matches!(why, TokenError::Algorithm { .. }), "{why:?}");
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_none() {
    let rsa = Keys::rsa();
    let (_file, by_pem) = with_key_file(&rsa.public_pem());
    for config in [by_pem, with_secret()] {
        let access = start(&config);
        for algorithm in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256"] {
            let head = part(&json!({ "alg": algorithm, "typ": "JWT" }));
            for signature in ["", "AAAA"] {
                let token = format!("{head}.{}.{signature}", part(&claims("eve", json!({}))));
                let why = principal_of(&access, &token).await.unwrap_err();
                assert!(matches!(why, TokenError::Algorithm { .. }), "{algorithm:?}: {why:?}");
            }
        }
        // A good algorithm, and nothing for it.
        let head =
            part(&json!({ "alg": if config.jwt_secret.is_empty() { "RS256" } else { "HS256" } }));
        let token = format!("{head}.{}.", part(&claims("eve", json!({}))));
        assert_eq!(principal_of(&access, &token).await.unwrap_err(), TokenError::Signature);
    }
}

#[tokio::test]
async fn a_wrong_signature_is_told() {
    let access = start(&with_secret());
    let token = hs(Algorithm::HS256, &claims("ann", json!({})));
    let other = sign(
        &Header::new(Algorithm::HS256),
        &claims("ann", json!({})),
        &EncodingKey::from_secret(b"another secret that is long enough, too"),
    );
    assert_eq!(principal_of(&access, &other).await.unwrap_err(), TokenError::Signature);
    // Other claims under the same signature, and a signature of other claims.
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts[1] = part(&claims("root", json!({})));
    assert_eq!(principal_of(&access, &parts.join(".")).await.unwrap_err(), TokenError::Signature);
    let other_algorithm = part(&json!({ "alg": "HS512", "typ": "JWT" }));
    let swapped = format!("{other_algorithm}.{}", token.split_once('.').unwrap().1);
    assert_eq!(principal_of(&access, &swapped).await.unwrap_err(), TokenError::Signature);
}

#[tokio::test]
async fn times_are_kept_with_leeway() {
    let access = start(&with_secret());
    let at = |exp: Value, nbf: Value| {
        let mut claims = json!({ "sub": "ann" });
        for (name, value) in [("exp", exp), ("nbf", nbf)] {
            if !value.is_null() {
                claims[name] = value;
            }
        }
        claims
    };
    for (claims, expected) in [
        (at(json!(NOW + 1), json!(null)), None),
        (at(json!(NOW - 29), json!(null)), None),
        (at(json!(NOW - 30), json!(null)), Some("the token expired 30 s ago")),
        (at(json!(NOW - 3600), json!(null)), Some("the token expired 3600 s ago")),
        (at(json!(0), json!(null)), Some("the token expired 1800000000 s ago")),
        (at(json!(-5), json!(null)), Some("the token expired 1800000000 s ago")),
        (at(json!(NOW as f64 + 0.5), json!(null)), None),
        (at(json!(NOW + 60), json!(NOW + 30)), None),
        (at(json!(NOW + 60), json!(NOW + 31)), Some("the token is not valid for another 31 s")),
        (
            at(json!(null), json!(null)),
            Some("the token's claim \"exp\" is missing: it must say when it expires"),
        ),
        (
            at(json!("soon"), json!(null)),
            Some("the token's claim \"exp\" is no number of seconds since 1970"),
        ),
        (
            at(json!(NOW * 1000), json!(null)),
            Some(
                "the token's claim \"exp\" is beyond the year 9999; it counts seconds, not milliseconds",
            ),
        ),
        (
            at(json!(1e300), json!(null)),
            Some(
                "the token's claim \"exp\" is beyond the year 9999; it counts seconds, not milliseconds",
            ),
        ),
        (
            at(json!(NOW + 60), json!("x")),
            Some("the token's claim \"nbf\" is no number of seconds since 1970"),
        ),
    ] {
        let result = principal_of(&access, &hs(Algorithm::HS256, &claims)).await;
        assert_eq!(result.err().map(|why| why.to_string()).as_deref(), expected, "{claims}");
    }
}

#[tokio::test]
async fn a_token_may_hold_for_ever_only_where_that_is_configured() {
    let token = hs(Algorithm::HS256, &json!({ "sub": "ann" }));
    let access = start(&Config { jwt_require_exp: false, ..with_secret() });
    assert_eq!(principal_of(&access, &token).await.unwrap().expires_at, None);
    let expired = hs(Algorithm::HS256, &json!({ "sub": "ann", "exp": NOW - 100 }));
    assert!(matches!(principal_of(&access, &expired).await, Err(TokenError::Expired { .. })));
}

#[tokio::test]
async fn issuer_and_audience_must_be_ours() {
    let base = with_secret();
    let ours = Config {
        jwt_issuers: vec!["https://id.example.com/".into(), "other".into()],
        jwt_audiences: vec!["footbridge".into(), "chat".into()],
        ..base.clone()
    };
    let good = json!({ "iss": "https://id.example.com/", "aud": "footbridge" });
    let with = |name: &str, value: Value| {
        let mut claims = claims("ann", good.clone());
        claims[name] = value;
        claims
    };
    let strict = start(&ours);
    for (claims, expected) in [
        (claims("ann", good.clone()), None),
        (with("iss", json!("other")), None),
        (with("aud", json!(["x", "chat"])), None),
        (with("iss", json!("https://id.example.com")), Some(TokenError::Issuer)),
        (with("iss", json!(["other"])), Some(TokenError::Issuer)),
        (without(claims("ann", good.clone()), "iss"), Some(TokenError::Issuer)),
        (with("aud", json!("footbridges")), Some(TokenError::Audience)),
        (with("aud", json!([])), Some(TokenError::Audience)),
        (with("aud", json!({ "footbridge": true })), Some(TokenError::Audience)),
        (with("aud", json!(null)), Some(TokenError::Audience)),
        (without(claims("ann", good.clone()), "aud"), Some(TokenError::Audience)),
    ] {
        let result = principal_of(&strict, &hs(Algorithm::HS256, &claims)).await;
        assert_eq!(result.err(), expected, "{claims}");
    }
    // Without a configured audience, a token for somebody else is still not for us.
    let lax = start(&base);
    let token = hs(Algorithm::HS256, &claims("ann", json!({ "iss": "anybody" })));
    principal_of(&lax, &token).await.unwrap();
    let token = hs(Algorithm::HS256, &claims("ann", json!({ "aud": "billing" })));
    assert_eq!(principal_of(&lax, &token).await.unwrap_err(), TokenError::Audience);
}

#[tokio::test]
async fn the_user_and_the_roles_are_in_the_claims_that_are_configured() {
    let config = Config {
        jwt_user_claim: "preferred_username".into(),
        jwt_roles_claim: "realm_access.roles".into(),
        ..with_secret()
    };
    let access = start(&config);
    let claims_of = |name: Value| {
        claims("4711", json!({ "preferred_username": name, "realm_access": { "roles": ["a"] } }))
    };
    let ann = principal_of(&access, &hs(Algorithm::HS256, &claims_of(json!("ann")))).await.unwrap();
    assert_eq!((&*ann.name, &*ann.roles), ("ann", &["a".into()][..]));
    let number = hs(Algorithm::HS256, &claims_of(json!(42)));
    assert_eq!(principal_of(&access, &number).await.unwrap().name, "42");
    for (name, why) in [
        (json!(""), "is empty"),
        (json!(null), "is missing"),
        (json!(["ann"]), "is missing"),
        (json!(1.5), "is missing"),
        (json!("a\nb"), "control character"),
        (json!("x".repeat(256)), "longer than 255"),
        (json!("anonymous"), "those who have none"),
    ] {
        let said =
            principal_of(&access, &hs(Algorithm::HS256, &claims_of(name))).await.unwrap_err();
        assert!(
            matches!(said, TokenError::Claim { .. }) && said.to_string().contains(why),
            "{said}"
        );
    }
}

#[tokio::test]
async fn what_is_no_token_is_told_without_repeating_it() {
    let access = start(&with_secret());
    let body = part(&claims("ann", json!({})));
    let head = |value: Value| format!("{}.{body}.AAAA", part(&value));
    for (token, why) in [
        (String::new(), "three parts"),
        ("hello".into(), "three parts"),
        ("a.b".into(), "three parts"),
        ("a.b.c.d".into(), "three parts"),
        ("a.b.c.d.e".into(), "three parts"),
        ("...".into(), "three parts"),
        ("..".into(), "JSON object"),
        ("!!.b.c".into(), "header is no base64url"),
        ("eyJhbGciOiJIUzI1NiJ9=.b.c".into(), "header is no base64url"),
        (format!("{}.{body}.AAAA", URL_SAFE_NO_PAD.encode("[]")), "JSON object"),
        (format!("{}.{body}.AAAA", URL_SAFE_NO_PAD.encode([0xff, 0xfe])), "JSON object"),
        (head(json!({})), "names no algorithm"),
        (head(json!({ "alg": 1 })), "names no algorithm"),
        (head(json!({ "alg": "HS256", "crit": ["b64"], "b64": false })), "extension (crit)"),
        (head(json!({ "alg": "HS256", "kid": 7 })), "kid"),
        (format!("{}.{body}.!!", part(&json!({ "alg": "HS256" }))), "base64url"),
        (head(json!({ "alg": "\u{1b}[31mevil" })), "is not accepted"),
        (head(json!({ "alg": "x".repeat(4000) })), "is not accepted"),
    ] {
        let said = principal_of(&access, &token).await.unwrap_err().to_string();
        assert!(said.contains(why), "{token}: {said}");
        assert!(said.len() < 300 && !said.contains('\u{1b}'), "{said}");
    }
    // Signed, and no claims.
    for payload in ["[]", "7", "", "{", "\"x\""] {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let message =
            format!("{}.{}", part(&json!({ "alg": "HS256" })), URL_SAFE_NO_PAD.encode(payload));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        let said = principal_of(&access, &format!("{message}.{signature}")).await.unwrap_err();
        assert_eq!(said, TokenError::Malformed("its payload is no JSON object"), "{payload}");
    }
}

#[tokio::test]
async fn a_token_is_not_longer_than_its_limit() {
    let access = start(&with_secret());
    let of_length =
        |padding: usize| hs(Algorithm::HS256, &claims("ann", json!({ "x": "y".repeat(padding) })));
    let long = of_length(7000);
    assert!(long.len() > MAX_TOKEN);
    assert_eq!(
        principal_of(&access, &long).await.unwrap_err(),
        TokenError::TooLong { length: long.len() }
    );
    let short = of_length(5000);
    assert!(short.len() < MAX_TOKEN);
    principal_of(&access, &short).await.unwrap();
    let padded = format!("{short}{}", "A".repeat(MAX_TOKEN));
    assert!(matches!(principal_of(&access, &padded).await, Err(TokenError::TooLong { .. })));
}

#[tokio::test]
async fn a_set_of_keys_is_asked_by_id_and_kind() {
    let (rsa, ec, ed) = (Keys::rsa(), Keys::p256(), Keys::ed25519());
    let mut encrypting = Keys::rsa().jwk("enc");
    encrypting["use"] = "enc".into();
    let mut only_384 = rsa.jwk("only-384");
    only_384["alg"] = "RS384".into();
    let mut without_alg = ec.jwk("ec");
    without_alg.as_object_mut().unwrap().remove("alg");
    let secret = json!({ "kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let strange = json!({ "kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA" });
    let set = json!({ "keys": [rsa.jwk("rsa"), without_alg, ed.jwk("ed"), encrypting, only_384, secret, strange, 7] });
    let set = file(&set.to_string());
    let access = start(&Config { jwks_file: set.path().into(), ..Config::default() });
    let ann = claims("ann", json!({}));
    for (keys, id) in [(&rsa, "rsa"), (&ec, "ec"), (&ed, "ed")] {
        principal_of(&access, &keys.sign_with_id(id, &ann)).await.unwrap();
        // Without an id every key that fits is tried.
        principal_of(&access, &keys.sign(&ann)).await.unwrap();
    }
    let header = |id: &str, algorithm| Header { kid: Some(id.into()), ..Header::new(algorithm) };
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    principal_of(&access, &sign(&header("s", Algorithm::HS256), &ann, &secret)).await.unwrap();
    let by_384 = sign(&header("only-384", Algorithm::RS384), &ann, &rsa.signing);
    principal_of(&access, &by_384).await.unwrap();

    for (token, expected) in [
        (rsa.sign_with_id("ed", &ann), "Algorithm"),
        (rsa.sign_with_id("only-384", &ann), "Algorithm"),
        (sign(&header("rsa", Algorithm::HS256), &ann, &secret), "Algorithm"),
        (rsa.sign_with_id("enc", &ann), "UnknownKey"),
        (rsa.sign_with_id("nobody", &ann), "UnknownKey"),
        (rsa.sign_with_id("", &ann), "UnknownKey"),
        (Keys::rsa().sign_with_id("rsa", &ann), "Signature"),
    ] {
        let why = format!("{:?}", principal_of(&access, &token).await.unwrap_err());
        assert!(why.starts_with(expected), "{why}");
    }
}

#[tokio::test]
async fn a_key_file_that_changes_is_read_again() {
    let (old, new) = (Keys::p256(), Keys::ed25519());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    std::fs::write(&path, old.public_pem()).unwrap();
    let access = start(&Config { jwt_key_file: path.clone(), ..Config::default() });
    let [by_old, by_new] = [&old, &new].map(|keys| keys.sign(&claims("ann", json!({}))));
    principal_of(&access, &by_old).await.unwrap();
    replace(&path, &new.public_pem());
    while principal_of(&access, &by_new).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    principal_of(&access, &by_old).await.unwrap_err();
    // What cannot be used changes nothing.
    replace(&path, "no key");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    principal_of(&access, &by_new).await.unwrap();
}

proptest! {
    #[test]
    fn garbage_is_refused_and_nothing_breaks(text in "[ -~]{0,40}|[A-Za-z0-9_.-]{0,200}|\\PC{0,60}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            assert!(principal_of(&start(&with_secret()), &text).await.is_err());
        });
    }

    /// Whatever bit is turned, the token is not good any more, or it is the same token.
    #[test]
    fn a_token_with_a_letter_changed_is_no_good(place in 0_usize..400, letter in "[A-Za-z0-9_-]") {
        let token = hs(Algorithm::HS256, &claims("ann", json!({ "roles": ["a"] })));
        let place = place % token.len();
        // The last letter holds two bits that are not used; the library ignores or refuses them.
        prop_assume!(place + 1 < token.len());
        let changed = format!("{}{letter}{}", &token[..place], &token[place + 1..]);
        prop_assume!(changed != token);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime.block_on(async { principal_of(&start(&with_secret()), &changed).await });
        prop_assert!(result.is_err(), "{changed}");
    }
}
