//! Values that hold passwords, and how they are shown.
//!
//! Invariant: no password leaves the configuration as text that somebody reads, be it right or wrong
//! where it stands. Only its length may show, in a line of a file.

use access::Secret;
use broker_rabbitmq::Uri;
use presence::Url;
use toml::Value;

/// The key of the secret that tokens are signed with.
const JWT_SECRET: &str = "jwt_secret";

/// The key of the secret by which nodes know each other.
const CLUSTER_SECRET: &str = "secret";

/// The key of the URLs of Redis.
const REDIS_URLS: &str = "urls";

/// Whether the value of a key may hold a password.
pub(super) fn is_secret(section: &str, key: &str) -> bool {
    matches!(
        (section, key),
        ("rabbitmq", "uris")
            | ("redis", "urls")
            | ("access", JWT_SECRET)
            | ("cluster", CLUSTER_SECRET)
    )
}

/// The value of a secret key without its passwords. `default` is no secret: everybody can read it.
pub(super) fn without(key: &str, value: &Value, default: &Value) -> Value {
    match value {
        value if value == default => value.clone(),
        Value::String(secret) if [JWT_SECRET, CLUSTER_SECRET].contains(&key) => {
            Secret::from(&**secret).to_string().into()
        }
        Value::String(url) if key == REDIS_URLS => Url::from(&**url).to_string().into(),
        Value::String(uri) => Uri::from(&**uri).to_string().into(),
        Value::Array(values) => {
            Value::Array(values.iter().map(|value| without(key, value, default)).collect())
        }
        value => value.clone(),
    }
}

/// A line of a file with asterisks for what may be a password, wherever it stands: what it belongs to
/// may be misspelt. As long as it was, so that carets beneath still point at what they should.
pub(super) fn masked(line: &str) -> String {
    if let Some(at) =
        line.match_indices('=').map(|(at, _)| at).find(|at| names_a_secret(&line[..*at]))
    {
        // Nothing behind it can be told from the secret.
        let cover = |c: char| if c.is_whitespace() { c } else { '*' };
        return line[..=at].chars().chain(line[at + 1..].chars().map(cover)).collect();
    }
    let mut out = String::with_capacity(line.len());
    for word in line.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')) {
        let (from, to) = password(word).unwrap_or((0, 0));
        out.push_str(&word[..from]);
        out.extend(word[from..to].chars().map(|_| '*'));
        out.push_str(&word[to..]);
    }
    out
}

/// Whether what stands in front of a `=` ends in the key of a secret, or in what may be meant as one.
fn names_a_secret(before: &str) -> bool {
    let name = before.trim_end().trim_end_matches(['"', '\'']);
    let start = name.rfind(|c: char| !c.is_alphanumeric() && !"_-".contains(c));
    let name = name[start.map_or(0, |at| at + 1)..].to_lowercase().replace('-', "_");
    name.contains("secret") || strsim::osa_distance(&name, JWT_SECRET) <= 3
}

/// Where in a word there may be a password: from the first colon behind the scheme to the last @, or
/// to the end if it is a URI of RabbitMQ or Redis that has none.
fn password(word: &str) -> Option<(usize, usize)> {
    let behind_scheme = word.find("://").map_or(0, |at| at + 3);
    let from = behind_scheme + word[behind_scheme..].find(':')? + 1;
    let scheme = &word[..behind_scheme];
    let has_one = scheme.contains("amqp") || scheme.contains("redis");
    let to = word.rfind('@').or(has_one.then(|| word.trim_end_matches(['"', '\'']).len()))?;
    (from < to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_password_is_covered_and_nothing_moves() {
        for (line, shown) in [
            ("uri = 'amqp://ann:se@cret@host'", "uri = 'amqp://ann:*******@host'"),
            ("uris = [\"a://b:ß@h\", \"c://d:e@f\"]", "uris = [\"a://b:*@h\", \"c://d:*@f\"]"),
            ("uris = [amqp://ann:pw@host]", "uris = [amqp://ann:**@host]"),
            ("uris = ann:pw@host:5672/%2f", "uris = ann:**@host:5672/%2f"),
            ("uris = 'amqp://ann:pw'", "uris = 'amqp://ann:**'"),
            ("urls = 'redis://:pw@host:6379'", "urls = 'redis://:**@host:6379'"),
            ("urls = 'redis://ann:pw'", "urls = 'redis://ann:**'"),
            ("origins = ['http://localhost:80']", "origins = ['http://localhost:80']"),
            ("listen = '127.0.0.1:80'", "listen = '127.0.0.1:80'"),
            ("uris = ['amqp://ann@host']", "uris = ['amqp://ann@host']"),
            ("jwt_secret = 'a b'  # ours", "jwt_secret = ** **  * ****"),
            ("\"jwt-secert\"=x=y", "\"jwt-secert\"=***"),
            ("access.jwt_secret = \"x", "access.jwt_secret = **"),
            (
                "access = { rules = 'open', jwt_secret = 'x' }",
                "access = { rules = 'open', jwt_secret = *** *",
            ),
            ("jwt_issuers = ['x']", "jwt_issuers = ['x']"),
            ("jwks_url = 'x'", "jwks_url = 'x'"),
        ] {
            assert_eq!(masked(line), shown);
        }
    }
}
