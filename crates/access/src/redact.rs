//! URLs for logs.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::credentials::PARAMETER;
use crate::secret::HIDDEN;

/// The URL, or a part of it that holds the query, with `***` for the value of each `access_token`, however
/// that name is encoded.
pub fn without_tokens(url: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut written = 0;
    let starts = url.match_indices(['?', '&', ';', '#']).map(|(at, _)| at + 1);
    for start in std::iter::once(0).chain(starts) {
        // What is behind a separator within a value is hidden with it.
        let name_end = url[start..].find(['=', '?', '&', ';', '#']).map(|length| start + length);
        let Some(end) = name_end.filter(|end| start >= written && url[*end..].starts_with('='))
        else {
            continue;
        };
        let value = &url[end + 1..];
        let length = value.find(['&', '#']).unwrap_or(value.len());
        if length > 0 && is_token(&url[start..end]) {
            out.push_str(&url[written..=end]);
            out.push_str(HIDDEN);
            written = end + 1 + length;
        }
    }
    if written == 0 {
        return Cow::Borrowed(url);
    }
    out.push_str(&url[written..]);
    Cow::Owned(out)
}

fn is_token(name: &str) -> bool {
    let decoded = percent_decode_str(name).collect::<Vec<u8>>();
    decoded.eq_ignore_ascii_case(PARAMETER.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_hidden_and_the_rest_stays() {
        for (url, shown) in [
            ("/ws?access_token=abc.def", "/ws?access_token=***"),
            ("/ws?a=1&access_token=abc&b=2", "/ws?a=1&access_token=***&b=2"),
            ("/ws?access%5Ftoken=abc#x", "/ws?access%5Ftoken=***#x"),
            ("access_token=abc&access_token=def", "access_token=***&access_token=***"),
            ("/ws?ACCESS_TOKEN=abc;x?y", "/ws?ACCESS_TOKEN=***"),
            ("/ws?a=1;access_token=abc", "/ws?a=1;access_token=***"),
            ("/ws?access_token=a=b", "/ws?access_token=***"),
            ("/ws?access_token=", "/ws?access_token="),
            ("/ws?token=abc", "/ws?token=abc"),
            ("/ws", "/ws"),
            ("", ""),
        ] {
            assert_eq!(without_tokens(url), shown);
        }
    }

    proptest! {
        #[test]
        fn a_token_never_shows(before in "[a-z/?&=%]{0,12}", within in "[a-z?=;%]{0,6}", after in "[a-z&=#;%]{0,12}") {
            let url = format!("{before}?access_token={within}SECRET{after}");
            let shown = without_tokens(&url);
            prop_assert!(!shown.contains("SECRET"), "{shown}");
        }
    }
}
