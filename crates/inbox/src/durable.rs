//! Which destinations within users are durable although nobody says so.

use bytestring::ByteString;

/// Destinations by configuration: `/queue/alerts`, or `/queue/alerts/*` for all below.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Durable {
    exact: Vec<ByteString>,
    /// What stands before the `*`, slash included.
    below: Vec<ByteString>,
}

impl Durable {
    /// Those that `patterns` name.
    ///
    /// # Errors
    /// The first that names none, and why.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut durable = Self::default();
        for pattern in patterns {
            let prefix = pattern.strip_suffix('*');
            let path = prefix.unwrap_or(pattern);
            if !path.starts_with('/') || path.contains('*') {
                return Err(format!(
                    "{pattern:?} is no destination within a user: write one such as /queue/alerts, or \
                     /queue/alerts/* for all below"
                ));
            }
            match prefix {
                Some(prefix) if prefix.ends_with('/') => durable.below.push(prefix.into()),
                Some(_) => {
                    return Err(format!(
                        "{pattern:?} has a * that is no word: write /queue/alerts/*"
                    ));
                }
                None => durable.exact.push(path.into()),
            }
        }
        Ok(durable)
    }

    /// Whether `path` is one of them.
    #[must_use]
    pub fn is(&self, path: &str) -> bool {
        self.exact.iter().any(|exact| **exact == *path)
            || self.below.iter().any(|below| path.starts_with(&**below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_named_or_below_one() {
        let patterns = ["/queue/alerts", "/queue/orders/*"].map(str::to_owned);
        let durable = Durable::new(&patterns).unwrap();
        for (path, is) in [
            ("/queue/alerts", true),
            ("/queue/alerts/x", false),
            ("/queue/orders", false),
            ("/queue/orders/1", true),
            ("/queue/other", false),
        ] {
            assert_eq!(durable.is(path), is, "{path}");
        }
        assert!(Durable::new(&["/*".to_owned()]).unwrap().is("/queue/x"));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for pattern in ["", "queue/x", "/queue/x*", "/a/*/b", "/a/**"] {
            assert!(Durable::new(&[pattern.to_owned()]).is_err(), "{pattern}");
        }
    }
}
