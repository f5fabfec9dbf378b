//! Tests that what was not signed is refused.

use http::{HeaderMap, Method, Request, Uri};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret that is long enough: 32 bytes";

fn client() -> IpAddr {
    "2001:db8::7".parse().unwrap()
}

fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn a_request() -> Parts {
    let headers = [
        ("host", "a.example"),
        ("cookie", "a=b"),
        ("x-seen", "1"),
        ("x-seen", "2"),
        ("x-sent", ""),
    ];
    request(Method::POST, "/sockjs/000/abc/xhr_send?t=1", &headers)
}

fn signed(mut request: Parts, body: &[u8]) -> Parts {
    let signed = Signed { client: client(), body: BodyHash::of(body) };
    let value = Key::new(SECRET).sign(&request, signed, NOW).unwrap();
    request.headers.insert(FORWARDED, value);
    request
}

fn verify(request: &Parts, now: u64) -> Result<Signed, Refused> {
    Key::new(SECRET).verify(request, now)
}

#[test]
fn what_was_signed_is_known_and_who_asked_and_what() {
    let signed = verify(&signed(a_request(), b"[\"x\"]"), NOW).unwrap();
    assert_eq!(signed, Signed { client: client(), body: BodyHash::of(b"[\"x\"]") });
    assert_ne!(signed.body, BodyHash::of(b"[\"y\"]"));
}

#[test]
fn how_the_body_is_framed_and_in_which_order_headers_come_does_not_matter() {
    let mut request = signed(a_request(), b"");
    let mut headers = HeaderMap::new();
    headers.insert("content-length", HeaderValue::from_static("0"));
    for name in ["x-sent", "x-seen", "cookie", "host", "x-footbridge-forwarded"] {
        for value in request.headers.get_all(name) {
            headers.append(name.parse::<HeaderName>().unwrap(), value.clone());
        }
    }
    request.headers = headers;
    assert!(verify(&request, NOW).is_ok());
}

#[test]
fn what_is_too_old_or_from_the_future_is_refused() {
    let request = signed(a_request(), b"");
    for (now, is_known) in [
        (NOW - WINDOW - 1, false),
        (NOW - WINDOW, true),
        (NOW + WINDOW, true),
        (NOW + WINDOW + 1, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let refused = verify(&request, now).err();
        assert_eq!(refused, (!is_known).then_some(Refused::Stale), "{now}");
    }
}

#[test]
fn another_secret_is_not_ours() {
    let request = signed(a_request(), b"");
    for secret in [&b""[..], b"a secret that is long enough: 32 byteS", &SECRET[1..]] {
        assert_eq!(Key::new(secret).verify(&request, NOW), Err(Refused::Forged));
    }
    // What the secret signs elsewhere.
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(b"");
    assert_ne!(Key::new(SECRET).0.finalize().into_bytes(), mac.finalize().into_bytes());
}

#[test]
fn what_is_no_signature_is_refused() {
    assert_eq!(verify(&a_request(), NOW), Err(Refused::Unsigned));
    let right = signed(a_request(), b"");
    let mut twice = right.clone();
    twice.headers.append(FORWARDED, right.headers[FORWARDED].clone());
    assert_eq!(verify(&twice, NOW), Err(Refused::Unsigned));
    let text = right.headers[FORWARDED].to_str().unwrap();
    let cut = |n: usize| text.split(' ').take(n).collect::<Vec<_>>().join(" ");
    for value in [
        String::new(),
        "v1".into(),
        cut(4),
        format!("{text} x=1"),
        text.replace("v1", "v2"),
        text.replace(" ", "  "),
        text.replace("t=", "t=-"),
        text.replace("c=", "c=x"),
        text.replace("b=", "b=AA"),
        format!("{text}="),
    ] {
        let mut request = a_request();
        request.headers.insert(FORWARDED, value.parse().unwrap());
        assert_eq!(verify(&request, NOW), Err(Refused::Unreadable), "{value:?}");
    }
    let mut request = a_request();
    request.headers.insert(FORWARDED, HeaderValue::from_bytes(b"v1 \xff").unwrap());
    assert_eq!(verify(&request, NOW), Err(Refused::Unreadable));
    // Read, and yet no signature.
    for signature in [cut(4) + " s=", cut(4) + " s=AAAA"] {
        request.headers.insert(FORWARDED, signature.parse().unwrap());
        assert_eq!(verify(&request, NOW), Err(Refused::Forged), "{signature:?}");
    }
}

/// Something that makes another request of it.
#[derive(Debug, Clone)]
enum Change {
    Method(&'static str),
    Path(String),
    Add(String, String),
    Set(usize, String),
    Remove(usize),
    /// Moves so many characters of a value into the next one of the same header.
    Shift(usize),
    Word(usize, char, char),
}

fn a_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        prop::sample::select(vec!["GET", "PUT", "POSTS", "post"]).prop_map(Change::Method),
        "/[a-z0-9/?=&%]{0,20}".prop_map(Change::Path),
        ("x-[a-z]{1,5}", "[ -~]{0,5}").prop_map(|(name, value)| Change::Add(name, value)),
        (0..5_usize, "[!-~]{0,5}").prop_map(|(n, value)| Change::Set(n, value)),
        (0..5_usize).prop_map(Change::Remove),
        (1..2_usize).prop_map(Change::Shift),
        (0..5_usize, prop::char::range('!', '~'), prop::char::range('!', '~'))
            .prop_map(|(n, from, to)| Change::Word(n, from, to)),
    ]
}

fn changed(mut request: Parts, change: Change) -> Parts {
    let names: Vec<_> = request.headers.keys().filter(|it| is_signed(it)).cloned().collect();
    match change {
        Change::Method(method) => request.method = method.parse().unwrap(),
        Change::Path(path) => request.uri = path.parse::<Uri>().unwrap(),
        Change::Add(name, value) => {
            let name: HeaderName = name.parse().unwrap();
            request.headers.append(name, value.trim().parse().unwrap());
        }
        Change::Set(n, value) => {
            request.headers.insert(names[n % names.len()].clone(), value.parse().unwrap());
        }
        Change::Remove(n) => _ = request.headers.remove(&names[n % names.len()]),
        Change::Shift(count) => {
            let seen: Vec<_> = request.headers.get_all("x-seen").iter().cloned().collect();
            let [one, other] = &seen[..] else { panic!("{seen:?}") };
            let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
            let (kept, moved) = one.split_at(one.len() - count);
            request.headers.insert("x-seen", kept.parse().unwrap());
            request.headers.append("x-seen", format!("{moved}{other}").parse().unwrap());
        }
        Change::Word(n, from, to) => {
            let value = request.headers[FORWARDED].to_str().unwrap();
            let mut words: Vec<_> = value.split(' ').map(str::to_owned).collect();
            words[n] = words[n].replace(from, &to.to_string());
            request.headers.insert(FORWARDED, words.join(" ").parse().unwrap());
        }
    }
    request
}

proptest! {
    #[test]
    fn whatever_is_changed_is_refused(change in a_change()) {
        let right = signed(a_request(), b"x");
        let changed = changed(right.clone(), change);
        let is_same = changed.method == right.method
            && changed.uri == right.uri
            && changed.headers == right.headers;
        prop_assert_eq!(verify(&changed, NOW).is_ok(), is_same);
    }
}
