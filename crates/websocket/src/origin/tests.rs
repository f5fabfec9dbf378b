use super::*;

fn origins(patterns: &[&str]) -> Origins {
    patterns.iter().map(|pattern| pattern.parse::<OriginPattern>().unwrap()).collect()
}

#[track_caller]
fn same(host: &str, secure: bool, origin: &str, expected: bool) {
    let allowed = Origins::default().allow(Some(origin), Some(host), secure);
    assert_eq!(allowed, expected, "{origin} at {host}, secure: {secure}");
}

#[track_caller]
fn listed(pattern: &str, origin: &str, expected: bool) {
    let allowed = origins(&[pattern]).allow(Some(origin), Some("gateway.internal"), false);
    assert_eq!(allowed, expected, "{origin} against {pattern}");
}

#[test]
fn by_default_only_the_same_origin_is_let_in() {
    same("app.example.com", false, "http://app.example.com", true);
    same("App.Example.com", false, "http://app.example.COM", true);
    same("localhost:8080", false, "http://localhost:8080", true);
    same("[::1]:8080", false, "http://[::1]:8080", true);
    same("[::1]", false, "http://[::1]", true);
    same("app.example.com", false, "http://evil.example", false);
    same("app.example.com", false, "http://app.example.com.evil.example", false);
    same("app.example.com", false, "http://evilapp.example.com", false);
    same("localhost:8080", false, "http://localhost:3000", false);
    same("localhost:8080", false, "http://localhost", false);
    same("app.example.com", false, "ftp://app.example.com", false);
    same("app.example.com", false, "null", false);
    same("app.example.com", false, "app.example.com", false);
    same("", false, "http://", false);
    assert!(!Origins::default().allow(Some("http://app.example.com"), None, false));
}

#[test]
fn a_default_port_may_be_written_or_not() {
    same("app.example.com:80", false, "http://app.example.com", true);
    same("app.example.com", false, "http://app.example.com:80", true);
    same("app.example.com:443", true, "https://app.example.com", true);
    same("app.example.com", true, "https://app.example.com:443", true);
    same("app.example.com:80", false, "https://app.example.com", false);
    same("app.example.com:443", false, "http://app.example.com", false);
}

#[test]
fn a_page_in_the_clear_is_not_of_a_secure_servers_origin() {
    same("app.example.com", true, "https://app.example.com", true);
    same("app.example.com", true, "http://app.example.com", false);
    same("app.example.com:443", true, "http://app.example.com:443", false);
}

#[test]
fn behind_a_proxy_that_ends_tls_the_page_is_still_of_the_same_origin() {
    same("app.example.com", false, "https://app.example.com", true);
    same("app.example.com:8443", false, "https://app.example.com:8443", true);
}

#[test]
fn a_client_without_an_origin_is_not_a_browser_and_let_in() {
    assert!(Origins::default().allow(None, Some("app.example.com"), false));
    assert!(origins(&["https://app.example.com"]).allow(None, None, true));
}

#[test]
fn an_exact_origin_is_compared_in_all_three_parts() {
    listed("https://app.example.com", "https://app.example.com", true);
    listed("https://app.example.com", "https://app.example.com:443", true);
    listed("https://app.example.com:443", "https://app.example.com", true);
    listed("HTTPS://App.example.com", "https://app.example.com", true);
    listed("https://app.example.com", "http://app.example.com", false);
    listed("https://app.example.com", "https://app.example.com:8443", false);
    listed("https://app.example.com", "https://example.com", false);
    listed("capacitor://localhost", "capacitor://localhost", true);
    listed("capacitor://localhost", "capacitor://localhost:1", false);
    listed("http://[::1]:3000", "http://[::1]:3000", true);
}

#[test]
fn a_star_in_the_host_is_one_label() {
    listed("https://*.example.com", "https://a.example.com", true);
    listed("https://*.example.com", "https://example.com", false);
    listed("https://*.example.com", "https://a.b.example.com", false);
    listed("https://*.example.com", "https://a.example.com.evil.example", false);
    listed("https://*.example.com", "https://.example.com", false);
    listed("https://*.*.example.com", "https://a.b.example.com", true);
    listed("https://app.*.example.com", "https://app.eu.example.com", true);
}

#[test]
fn a_star_as_the_port_is_any_port() {
    listed("http://localhost:*", "http://localhost:3000", true);
    listed("http://localhost:*", "http://localhost", true);
    listed("http://localhost:*", "https://localhost:3000", false);
    listed("http://localhost:*", "http://localhost.evil.example:80", false);
}

#[test]
fn what_a_client_calls_its_origin_is_no_pattern() {
    listed("https://app.example.com", "https://*.example.com", false);
    listed("https://app.example.com:8443", "https://app.example.com:*", false);
    listed("https://app.example.com", "https://app.example.com/", false);
    listed("https://app.example.com", "https://user@app.example.com", false);
}

#[test]
fn a_star_alone_is_any_origin_even_an_opaque_one() {
    for origin in ["http://evil.example", "null", "file://", "nonsense"] {
        listed("*", origin, true);
        listed("https://*.example.com", origin, false);
    }
}

#[test]
fn a_list_adds_to_the_same_origin() {
    let origins = origins(&["https://app.example.com", "https://admin.example.com"]);
    for origin in ["https://app.example.com", "https://admin.example.com", "https://gw.example.com"]
    {
        assert!(origins.allow(Some(origin), Some("gw.example.com"), true), "{origin}");
    }
    assert!(!origins.allow(Some("https://www.example.com"), Some("gw.example.com"), true));
}

#[test]
fn what_is_no_origin_is_refused_with_what_one_looks_like() {
    for (text, why) in [
        ("", "no scheme"),
        ("app.example.com", "no scheme"),
        ("null", "no scheme"),
        ("://a", "scheme is not a name"),
        ("https://", "host is empty"),
        ("https://a..b", "empty label"),
        ("https://app.example.com/", "goes on after"),
        ("https://app.example.com/path", "goes on after"),
        ("https://user@app.example.com", "neither a name nor an address"),
        ("https://bücher.example", "neither a name nor an address"),
        ("https://[::1", "neither a name nor an address"),
        ("https://app-*.example.com", "part of a label"),
        ("https://**.example.com", "part of a label"),
        ("https://a:99999", "port is not a number"),
        ("https://a:", "port is not a number"),
    ] {
        let error = text.parse::<OriginPattern>().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.contains("https://app.example.com"), "{error}");
    }
}

#[test]
fn each_entry_is_checked_as_the_list_is_read() {
    let list = r#"["https://*.example.com", "http://localhost:*", "http://a:81", "*"]"#;
    let origins: Origins = serde_json::from_str(list).unwrap();
    assert_eq!(serde_json::to_string(&origins).unwrap(), list.replace(", ", ","));

    let error = serde_json::from_str::<Origins>(r#"["*", "example.com"]"#).unwrap_err().to_string();
    assert!(error.contains("\"example.com\" is not an origin"), "{error}");
}

#[test]
fn only_an_origin_that_is_there_and_not_by_the_star_alone_is_let_in_by_name() {
    let named = |patterns: &[&str], origin| {
        origins(patterns).allow_by_name(origin, Some("app.example.com"), false)
    };
    let (own, other) = (Some("https://app.example.com"), Some("https://other.example.com"));
    assert!(named(&[], own) && named(&["*"], own));
    assert!(!named(&[], other) && !named(&["*"], other));
    assert!(named(&["*", "https://*.example.com"], other));
    for none in [None, Some("null"), Some("nonsense")] {
        assert!(!named(&["*"], none), "{none:?}");
    }
}
