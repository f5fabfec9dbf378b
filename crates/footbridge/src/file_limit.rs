//! The limit on open files, which is the limit on sessions: every session is a socket.
//!
//! The soft limit is raised to the hard one, as any process may. Whether that is enough for
//! `gateway.max_sessions` is known before the first client comes, not when `accept` fails.

use std::io;

/// Open files besides sessions and handshakes: listeners, the admin port's connections, the
/// runtime's own, logs, brokers and stores.
const MARGIN: u64 = 200;

/// Why sessions cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileLimitError {
    /// The system does not say.
    #[error("cannot read or raise the limit on open files")]
    Unknown(#[from] io::Error),
    /// Fewer than are asked for.
    #[error(
        "gateway.max_sessions is {wanted}, which needs {needed} open files (one for each session, \
         {spare} for handshakes and the rest), but this process may open {limit}\n  \
         = raise the limit: `ulimit -Hn {needed}` in the shell that starts it, \
         LimitNOFILE={needed} in its systemd unit, or `docker run --ulimit nofile={needed}`\n  \
         = {advice}", needed = needed(*wanted, *spare), advice = advice(*limit, *spare)
    )]
    TooLow {
        /// `gateway.max_sessions`.
        wanted: usize,
        /// Open files for everything but sessions.
        spare: u64,
        /// How many files the process may open.
        limit: u64,
    },
}

/// Raises the limit, and lowers `max_sessions` to what fits if it is still too low: for a node whose
/// user did not ask for any number. Says so in the log.
pub(crate) fn fit(gateway: &mut gateway::Config) -> Result<(), FileLimitError> {
    let limit = raise()?;
    let wanted = gateway.max_sessions;
    // Handshakes may take a quarter of what there is.
    let quarter = usize::try_from(limit / 4).unwrap_or(usize::MAX).max(1);
    gateway.max_handshakes = gateway.max_handshakes.min(quarter);
    let spare = spare(gateway);
    match fitting(limit, wanted, spare) {
        0 => return Err(FileLimitError::TooLow { wanted, spare, limit }),
        fewer if fewer < wanted => {
            tracing::warn!(
                limit,
                "gateway.max_sessions is lowered from {wanted} to {fewer}: each session is an open file"
            );
            gateway.max_sessions = fewer;
        }
        _ => {}
    }
    Ok(())
}

/// Raises the limit, and refuses if it is still too low for `max_sessions`.
pub(crate) fn check(gateway: &gateway::Config) -> Result<(), FileLimitError> {
    let (limit, wanted, spare) = (raise()?, gateway.max_sessions, spare(gateway));
    if fitting(limit, wanted, spare) < wanted {
        return Err(FileLimitError::TooLow { wanted, spare, limit });
    }
    Ok(())
}

/// Raises the soft limit to the hard one, and returns it.
fn raise() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// Open files for everything but sessions.
fn spare(gateway: &gateway::Config) -> u64 {
    MARGIN.saturating_add(gateway.max_handshakes as u64)
}

/// How many of the `wanted` sessions fit.
fn fitting(limit: u64, wanted: usize, spare: u64) -> usize {
    let room = limit.saturating_sub(spare);
    usize::try_from(room).map_or(wanted, |room| room.min(wanted))
}

fn needed(sessions: usize, spare: u64) -> u64 {
    (sessions as u64).saturating_add(spare)
}

fn advice(limit: u64, spare: u64) -> String {
    match limit.saturating_sub(spare) {
        0 => "or lower gateway.max_handshakes, each of which is one, and gateway.max_sessions"
            .to_owned(),
        room => format!("or lower gateway.max_sessions to {room}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_left_for_everything_but_sessions() {
        for (limit, wanted, fit) in [
            (1_048_576, 10_000, 10_000),
            (10_200, 10_000, 10_000),
            (10_199, 10_000, 9_999),
            (1_024, 10_000, 824),
            (200, 10_000, 0),
            (0, 10_000, 0),
            (u64::MAX, usize::MAX, usize::MAX - 200),
        ] {
            assert_eq!(fitting(limit, wanted, MARGIN), fit, "{limit} files, {wanted} sessions");
        }
    }

    #[test]
    fn what_this_process_may_open_decides() {
        let limit = raise().unwrap();
        let few = gateway::Config { max_handshakes: 10, ..gateway::Config::default() };
        let room = usize::try_from(limit - spare(&few)).unwrap();
        let mut gateway = gateway::Config { max_sessions: room, ..few };
        check(&gateway).unwrap();
        fit(&mut gateway).unwrap();
        assert_eq!(gateway.max_sessions, room);

        gateway.max_sessions = room + 1;
        check(&gateway).unwrap_err();
        fit(&mut gateway).unwrap();
        assert_eq!(gateway.max_sessions, room);
    }

    #[test]
    fn a_refusal_says_the_numbers_and_what_to_do() {
        let error =
            FileLimitError::TooLow { wanted: 10_000, spare: MARGIN, limit: 1_024 }.to_string();
        for part in [
            "max_sessions is 10000",
            "needs 10200 open files",
            "may open 1024",
            "ulimit -Hn 10200",
            "LimitNOFILE=10200",
            "--ulimit nofile=10200",
            "lower gateway.max_sessions to 824",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = FileLimitError::TooLow { wanted: 1, spare: MARGIN, limit: 100 }.to_string();
        assert!(error.contains("or lower gateway.max_handshakes"), "{error}");
    }
}
