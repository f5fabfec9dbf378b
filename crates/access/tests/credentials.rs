//! Whose session it is, by all that was shown together; and who calls by gRPC.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use access::{Access, Authentication, Config, Credentials, Refusal, TokenError};
use jsonwebtoken::Algorithm;
use serde_json::json;

use self::support::*;

/// bcrypt, cost 4, of "apple".
fn users() -> tempfile::NamedTempFile {
    let hash = bcrypt::hash("apple", 4).unwrap();
    file(&format!(
        "[[users]]\nname = 'ann'\nhash = '{hash}'\n[[users]]\nname = 'bob'\nhash = '{hash}'"
    ))
}

fn token_of(user: &str) -> String {
    hs(Algorithm::HS256, &claims(user, json!({})))
}

fn expired() -> String {
    hs(Algorithm::HS256, &json!({ "sub": "ann", "exp": NOW - 1000 }))
}

fn connect(headers: &[(&str, &str)]) -> Credentials {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Credentials { connect: headers.collect(), ..Credentials::default() }
}

async fn name(access: &Access, credentials: &Credentials) -> Result<String, Refusal> {
    access.principal(credentials, now()).await.map(|principal| principal.name.to_string())
}

#[tokio::test]
async fn all_that_was_shown_on_purpose_must_be_right_and_name_one_user() {
    let users = users();
    let access = start(&Config { users_file: users.path().into(), ..with_secret() });
    let (ann, bob, expired) = (token_of("ann"), token_of("bob"), expired());
    let query = |token: &str| Some(format!("access_token={token}").into());
    for (credentials, expected) in [
        (connect(&[("Authorization", &format!("Bearer {ann}"))]), Ok("ann")),
        (connect(&[("token", &ann)]), Ok("ann")),
        (connect(&[("login", "ann"), ("passcode", "apple")]), Ok("ann")),
        (Credentials { query: query(&ann), ..Credentials::default() }, Ok("ann")),
        (
            Credentials {
                authorization: Some(format!("Bearer {ann}").into()),
                ..Credentials::default()
            },
            Ok("ann"),
        ),
        (
            Credentials {
                authorization: Some("Basic YW5uOmFwcGxl".into()),
                ..Credentials::default()
            },
            Ok("ann"),
        ),
        // One identity, shown in several ways.
        (
            Credentials {
                query: query(&ann),
                ..connect(&[("token", &ann), ("login", "ann"), ("passcode", "apple")])
            },
            Ok("ann"),
        ),
        (
            Credentials { query: query(&bob), ..connect(&[("token", &ann)]) },
            Err(Refusal::Conflicting),
        ),
        (
            connect(&[("token", &ann), ("login", "bob"), ("passcode", "apple")]),
            Err(Refusal::Conflicting),
        ),
        (
            Credentials {
                authorization: Some("Basic YW5uOmFwcGxl".into()),
                ..connect(&[("login", "bob"), ("passcode", "apple")])
            },
            Err(Refusal::Conflicting),
        ),
        (
            connect(&[("token", &ann), ("login", "ann"), ("passcode", "wrong")]),
            Err(Refusal::Passcode),
        ),
        (connect(&[("login", "nobody"), ("passcode", "apple")]), Err(Refusal::Passcode)),
        (
            Credentials { query: query("nonsense"), ..connect(&[("token", &ann)]) },
            Err(Refusal::Token(TokenError::Malformed("it does not have three parts between dots"))),
        ),
    ] {
        assert_eq!(
            name(&access, &credentials).await,
            expected.map(str::to_owned),
            "{credentials:?}"
        );
    }
    let why = name(&access, &connect(&[("token", &expired)])).await.unwrap_err();
    assert!(matches!(why, Refusal::Token(TokenError::Expired { .. })), "{why:?}");
    assert!(!why.may_pass_later());
}

#[tokio::test]
async fn a_cookie_counts_where_nothing_else_does() {
    let access = start(&Config { token_cookie: "id".into(), ..with_secret() });
    let with = |cookie: &str, origin_checked, headers: &[(&str, &str)]| Credentials {
        cookie: Some(format!("id={cookie}").into()),
        origin_checked,
        ..connect(headers)
    };
    let (ann, bob, expired) = (token_of("ann"), token_of("bob"), expired());
    assert_eq!(name(&access, &with(&ann, true, &[])).await.unwrap(), "ann");
    assert_eq!(name(&access, &with(&ann, true, &[("token", &ann)])).await.unwrap(), "ann");
    // A browser sends an old one by itself.
    assert_eq!(name(&access, &with(&expired, true, &[("token", &ann)])).await.unwrap(), "ann");
    assert_eq!(
        name(&access, &with(&bob, true, &[("token", &ann)])).await.unwrap_err(),
        Refusal::Conflicting
    );
    // Any page can have it sent.
    assert_eq!(name(&access, &with(&bob, false, &[("token", &ann)])).await.unwrap(), "ann");
    let why = name(&access, &with(&ann, false, &[])).await.unwrap_err();
    assert!(matches!(why, Refusal::Missing(_)), "{why:?}");
    let why = name(&access, &with(&expired, true, &[])).await.unwrap_err();
    assert!(matches!(why, Refusal::Token(TokenError::Expired { .. })), "{why:?}");
}

#[tokio::test]
async fn who_shows_nothing_is_anonymous_where_that_is_allowed() {
    let who = async |config: &Config, headers: &[(&str, &str)]| {
        start(config).principal(&connect(headers), now()).await
    };
    let said = [("login", "ann"), ("passcode", "x")];
    // As it was before there was anything to show.
    for headers in [&said[..], &[], &[("token", "x")], &[("Authorization", "Bearer x")]] {
        let principal = who(&Config::default(), headers).await.unwrap();
        assert_eq!(
            (&*principal.name, principal.authentication),
            ("anonymous", Authentication::Anonymous)
        );
    }
    let open = config("rules = 'open'");
    let believed = who(&open, &said).await.unwrap();
    assert_eq!((&*believed.name, believed.authentication), ("ann", Authentication::Unproven));
    assert!(!believed.is_authenticated());
    assert_eq!(who(&open, &[]).await.unwrap().name, "anonymous");
    let why = who(&open, &[("login", "a\nb")]).await.unwrap_err();
    assert!(matches!(why, Refusal::Unreadable(_)), "{why:?}");
    // Once something can be checked, nothing else is believed.
    let checked = Config { rules: open.rules.clone(), ..with_secret() };
    let why = who(&checked, &said).await.unwrap_err();
    assert!(why.to_string().starts_with("show who you are: give a token"), "{why}");
    let allowed = Config { anonymous: access::Anonymous::Allow, ..checked };
    let principal = who(&allowed, &said).await.unwrap();
    assert_eq!(
        (&*principal.name, principal.authentication),
        ("anonymous", Authentication::Anonymous)
    );
    assert!(matches!(who(&allowed, &[("token", "x")]).await, Err(Refusal::Token(_))));
    let refused = config("anonymous = 'refuse'");
    assert!(matches!(who(&refused, &said).await, Err(Refusal::Missing(_))));
}

#[tokio::test]
async fn a_caller_shows_a_token_and_may_call_what_it_names() {
    let mut config = with_secret();
    config.grpc_roles = toml::from_str("publisher = ['Notifications/Publish']").unwrap();
    let access = start(&config);
    let call = async |authorization: Option<&str>| access.caller(authorization, now()).await;
    let publisher = hs(Algorithm::HS256, &claims("orders", json!({ "roles": ["publisher"] })));
    for scheme in ["Bearer", "bearer"] {
        let caller = call(Some(&format!("{scheme} {publisher}"))).await.unwrap();
        assert_eq!(caller.principal.name, "orders");
        assert!(caller.permissions.allow("/footbridge.v1.Notifications/Publish"));
        assert!(!caller.permissions.allow("/footbridge.v1.Notifications/SendToUser"));
    }
    let browser = call(Some(&format!("Bearer {}", token_of("ann")))).await.unwrap();
    assert!(!browser.permissions.allow("/footbridge.v1.Notifications/Publish"));
    for missing in
        [None, Some(""), Some(publisher.as_str()), Some("Basic YW5uOmFwcGxl"), Some("Bearer")]
    {
        assert!(matches!(call(missing).await, Err(Refusal::Missing(_))), "{missing:?}");
    }
    let why = call(Some(&format!("Bearer {}", expired()))).await.unwrap_err();
    assert!(matches!(why, Refusal::Token(TokenError::Expired { .. })), "{why:?}");
    let without_key = start(&Config::default());
    assert!(!without_key.checks_tokens());
    let why = without_key.caller(Some(&format!("Bearer {publisher}")), now()).await.unwrap_err();
    assert!(matches!(why, Refusal::Missing(_)), "{why:?}");
}
