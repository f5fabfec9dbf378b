//! Until when a call may be answered.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// The header of a call's deadline.
const TIMEOUT: &str = "grpc-timeout";

/// The most that is kept of a caller's time for the answer's way back.
const MARGIN: Duration = Duration::from_millis(500);

/// The longest that a caller is waited with, whatever it says.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// When a call must be answered at the latest, if its caller says: a little before the
/// caller's own deadline, at which it stops listening and would never learn why, and after five
/// minutes in any case.
///
/// A header that is not as gRPC has it says nothing.
pub(crate) fn of_call(metadata: &MetadataMap, now: Instant) -> Option<Instant> {
    let timeout = parse(metadata.get(TIMEOUT)?.to_str().ok()?)?;
    Some(now + (timeout - (timeout / 10).min(MARGIN)).min(LONGEST))
}

/// A `Timeout` of "gRPC over HTTP2": one to eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_grpc_is_understood() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("7n", Duration::from_nanos(7)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_timeout_sets_no_deadline() {
        for text in ["", "S", "1", "123456789S", "-1S", "+1S", "1.5S", "1s", "1é", "1 S"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_answer_has_time_to_travel_before_the_caller_gives_up() {
        let now = Instant::now();
        for (timeout, within) in
            [("1S", 900), ("100m", 90), ("1M", 59_500), ("5M", 299_500), ("99999999H", 300_000)]
        {
            let mut metadata = MetadataMap::new();
            metadata.insert(TIMEOUT, timeout.parse().unwrap());
            assert_eq!(of_call(&metadata, now), Some(now + Duration::from_millis(within)));
        }
        assert_eq!(of_call(&MetadataMap::new(), now), None);
    }
}
