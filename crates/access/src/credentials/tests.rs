//! What a client shows, by where it shows it.

use super::*;

fn places() -> Places {
    Places {
        tokens: true,
        passcodes: true,
        token_header: "token".into(),
        query: true,
        cookie: "session".into(),
    }
}

fn connect(headers: &[(&str, &str)]) -> Credentials {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Credentials { connect: headers.collect(), ..Credentials::default() }
}

fn token(token: &str) -> Proof {
    Proof::Token(token.into())
}

fn login(name: &str, passcode: &str) -> Proof {
    Proof::Passcode { name: name.into(), passcode: passcode.into() }
}

#[track_caller]
fn explicit(credentials: &Credentials, places: &Places) -> Vec<(Place, Proof)> {
    credentials.shown(places).unwrap_or_else(|why| panic!("{why}")).explicit
}

#[test]
fn everything_on_purpose_is_found_in_its_order() {
    let credentials = Credentials {
        authorization: Some("Basic YW5uOmE6Yg==".into()),
        query: Some("x=1&access_token=Q%2B1&y".into()),
        ..connect(&[
            ("login", "ann"),
            ("passcode", "apple"),
            ("token", "T"),
            ("authorization", "bearer  A "),
        ])
    };
    let all = [
        (Place::ConnectAuthorization, token("A")),
        (Place::ConnectToken, token("T")),
        (Place::ConnectLogin, login("ann", "apple")),
        (Place::Query, token("Q+1")),
        (Place::Authorization, login("ann", "a:b")),
    ];
    assert_eq!(explicit(&credentials, &places()), all);
    let tokens = Places { passcodes: false, ..places() };
    assert_eq!(explicit(&credentials, &tokens), [0, 1, 3].map(|n| all[n].clone()));
    let passcodes = Places { tokens: false, ..places() };
    assert_eq!(explicit(&credentials, &passcodes), [2, 4].map(|n| all[n].clone()));
    let fewer = Places { query: false, token_header: String::new(), ..places() };
    assert_eq!(explicit(&credentials, &fewer), [0, 2, 4].map(|n| all[n].clone()));
}

#[test]
fn a_header_of_connect_may_be_a_token_alone() {
    for value in ["abc.def.ghi", " abc.def.ghi ", "Bearer abc.def.ghi", "BEARER abc.def.ghi"] {
        let found = explicit(&connect(&[("Authorization", value)]), &places());
        assert_eq!(found, [(Place::ConnectAuthorization, token("abc.def.ghi"))], "{value}");
    }
    let found = explicit(&connect(&[("token", "Bearer abc")]), &places());
    assert_eq!(found, [(Place::ConnectToken, token("abc"))]);
    // Of several, the first; STOMP's header names are exact.
    let found = explicit(&connect(&[("token", "a"), ("token", "b"), ("TOKEN", "c")]), &places());
    assert_eq!(found, [(Place::ConnectToken, token("a"))]);
}

#[test]
fn what_is_empty_or_for_others_is_passed_over() {
    for credentials in [
        connect(&[("Authorization", ""), ("token", " "), ("login", ""), ("passcode", "x")]),
        connect(&[("Authorization", "Digest username=x")]),
        Credentials { authorization: Some("Negotiate abc".into()), ..Credentials::default() },
        Credentials { authorization: Some("abc.def.ghi".into()), ..Credentials::default() },
        Credentials { query: Some("access_token=".into()), ..Credentials::default() },
        Credentials { query: Some("access_tokens=a&token=b".into()), ..Credentials::default() },
        Credentials { query: Some(ByteString::new()), ..Credentials::default() },
    ] {
        assert_eq!(explicit(&credentials, &places()), [], "{credentials:?}");
    }
    let without_passcode = connect(&[("login", "ann")]);
    assert_eq!(explicit(&without_passcode, &places()), [(Place::ConnectLogin, login("ann", ""))]);
}

#[test]
fn what_cannot_be_read_is_told_by_its_place() {
    let basic = |text: &str| Credentials {
        authorization: Some(format!("Basic {text}").into()),
        ..Credentials::default()
    };
    let query = |text: &str| Credentials { query: Some(text.into()), ..Credentials::default() };
    for (credentials, why) in [
        (basic("!!!"), "the HTTP header Authorization holds Basic that is no base64"),
        (basic("/w=="), "the HTTP header Authorization holds Basic that is no UTF-8"),
        (basic("YW5u"), "the HTTP header Authorization holds Basic without a colon"),
        (
            connect(&[("authorization", "Basic YW5u")]),
            "the header Authorization of CONNECT holds Basic without a colon",
        ),
        (query("access_token=a&access_token=b"), "access_token in the URL is there twice"),
        (query("access_token=a&access%5Ftoken=b"), "access_token in the URL is there twice"),
        (query("access_token=%FF"), "access_token in the URL is no UTF-8"),
    ] {
        let said = credentials.shown(&places()).err().unwrap();
        assert_eq!(said.to_string(), why);
    }
}

#[test]
fn a_cookie_counts_only_where_an_origin_was_checked() {
    let cookie = |text: &str, origin_checked| Credentials {
        cookie: Some(text.into()),
        origin_checked,
        ..Credentials::default()
    };
    let found = |credentials: &Credentials, places: &Places| {
        credentials.shown(places).map(|shown| shown.cookie).map_err(|why| why.to_string())
    };
    for (text, expected) in [
        ("session=abc", Some("abc")),
        ("a=b; session=abc; c=d", Some("abc")),
        ("session=\"abc\"", Some("abc")),
        ("session=a=b", Some("a=b")),
        ("session=abc; session=abc", Some("abc")),
        ("session=", None),
        ("xsession=abc", None),
        ("Session=abc", None),
        ("session", None),
        ("", None),
    ] {
        assert_eq!(found(&cookie(text, true), &places()), Ok(expected.map(token)), "{text}");
        assert_eq!(found(&cookie(text, false), &places()), Ok(None), "{text}");
    }
    assert_eq!(
        found(&cookie("session=a; session=b", true), &places()),
        Err("the cookie is there twice".to_owned())
    );
    let without = Places { cookie: String::new(), ..places() };
    assert_eq!(found(&cookie("session=abc; =x", true), &without), Ok(None));
}

#[test]
fn credentials_are_not_shown() {
    let credentials = Credentials {
        authorization: Some("Bearer HUSH".into()),
        cookie: Some("session=HUSH".into()),
        query: Some("access_token=HUSH".into()),
        origin_checked: true,
        ..connect(&[("passcode", "HUSH")])
    };
    let shown = format!("{credentials:?}");
    assert!(shown.contains("passcode") && !shown.contains("HUSH"), "{shown}");
}
