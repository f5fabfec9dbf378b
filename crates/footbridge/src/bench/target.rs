//! Where the sessions go: the URL taken apart, who they say they are, and from which address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::ops::RangeInclusive;

use anyhow::{Context as _, bail, ensure};

/// One source address has 28,232 ephemeral ports by default; this leaves some to others.
const SESSIONS_PER_SOURCE: usize = 20_000;

/// Files the generator needs besides one per session.
const OTHER_FILES: u64 = 64;

/// The server under measurement and the words of CONNECT.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What the user gave, for messages.
    pub(super) url: String,
    /// Where TCP connects to: the first address the host has.
    pub(super) address: SocketAddr,
    /// The `Host` header of the upgrade.
    pub(super) authority: String,
    /// Path and query of the upgrade.
    pub(super) path: String,
    /// The CONNECT frame, without its NUL.
    pub(super) connect: String,
    /// What the client offers to send, and wants to receive, in milliseconds.
    pub(super) heart_beat: HeartBeat,
}

/// Who connects, as CONNECT says it.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
pub(super) struct Login {
    /// The `login` header of CONNECT
    #[arg(long)]
    pub(super) login: Option<String>,
    /// The `passcode` header of CONNECT
    #[arg(long, env = "FOOTBRIDGE_BENCH_PASSCODE", hide_env_values = true)]
    #[serde(skip)]
    pub(super) passcode: Option<String>,
    /// The `host` header of CONNECT (RabbitMQ: the virtual host)
    #[arg(long, default_value = "/")]
    pub(super) host: String,
    /// The `heart-beat` header of CONNECT: what we send and what we want, in milliseconds
    #[arg(long, default_value = "0,0", value_name = "OUT,IN")]
    pub(super) heart_beat: HeartBeat,
}

/// A `heart-beat` header: milliseconds between those sent and those wanted; 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct HeartBeat(pub(super) u32, pub(super) u32);

impl std::str::FromStr for HeartBeat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text.split_once(',').and_then(|(out, wanted)| {
            Some(Self(out.trim().parse().ok()?, wanted.trim().parse().ok()?))
        });
        pair.ok_or_else(|| format!("`{text}` is not OUT,IN in milliseconds"))
    }
}

impl HeartBeat {
    /// Milliseconds between the beats this side owes: what it offers, but no oftener than the
    /// server wants (STOMP 1.2, "Heart-beating"). `None` if either side does not care.
    pub(super) fn owed(self, server: HeartBeat) -> Option<u32> {
        (self.0 > 0 && server.1 > 0).then(|| self.0.max(server.1))
    }
}

impl Target {
    /// Takes a `ws://` URL apart and looks its host up.
    pub(super) fn new(url: &str, login: &Login) -> anyhow::Result<Self> {
        let uri: http::Uri = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => bail!("wss is not measured here: give the ws:// port behind TLS"),
            _ => bail!("`{url}` does not begin with ws://"),
        }
        let authority = uri.authority().with_context(|| format!("`{url}` names no host"))?;
        let name = authority.host().trim_matches(['[', ']']);
        let address = (name, uri.port_u16().unwrap_or(80))
            .to_socket_addrs()
            .with_context(|| format!("cannot look up {name}"))?
            .next()
            .with_context(|| format!("{name} has no address"))?;
        let HeartBeat(out, wanted) = login.heart_beat;
        let mut connect = format!(
            "CONNECT\naccept-version:1.0,1.1,1.2\nhost:{}\nheart-beat:{out},{wanted}\n",
            login.host
        );
        for (name, value) in [("login", &login.login), ("passcode", &login.passcode)] {
            if let Some(value) = value {
                // CONNECT alone has no escapes (STOMP 1.2, "Value Encoding").
                ensure!(!value.contains('\n'), "a line feed in --{name}");
                connect.push_str(&format!("{name}:{value}\n"));
            }
        }
        connect.push('\n');
        Ok(Self {
            url: url.to_owned(),
            address,
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            connect,
            heart_beat: login.heart_beat,
        })
    }

    /// The source address of session `index` of `sessions`: the system's choice, except that many
    /// sessions over loopback are spread over 127.0.0.2 and up, each with its own ports.
    pub(super) fn source(&self, index: usize, sessions: usize) -> Option<SocketAddr> {
        let spread = sessions > SESSIONS_PER_SOURCE && self.spreads();
        let host = u8::try_from(2 + index / SESSIONS_PER_SOURCE).ok().filter(|_| spread)?;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0))
    }

    fn spreads(&self) -> bool {
        self.address.is_ipv4() && self.address.ip().is_loopback()
    }

    /// Refuses more sessions than there are ports for, and says what the user must do.
    pub(super) fn check_ports(&self, sessions: usize) -> anyhow::Result<()> {
        if !self.spreads() {
            let path = "/proc/sys/net/ipv4/ip_local_port_range";
            let range = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
            let ports = ports(&range).with_context(|| format!("{path} says `{range}`"))?;
            let count = ports.clone().count();
            ensure!(
                sessions <= count,
                "{sessions} sessions to one address need as many ports and {path} gives {count}: \
                 `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`, run several machines, or \
                 use a 127.0.0.1 URL on the server's own"
            );
        }
        Ok(())
    }
}

/// Makes room for `sessions` sockets, here and in children started later, or says what the user
/// must do.
pub(super) fn raise_open_files(sessions: usize) -> anyhow::Result<()> {
    let needed = sessions as u64 + OTHER_FILES;
    let allowed = rlimit::increase_nofile_limit(u64::MAX).context("reading the file limit")?;
    ensure!(
        allowed >= needed,
        "{sessions} sessions need {needed} open files and the hard limit is {allowed}: \
         run `ulimit -Hn {needed}` as root first (systemd: LimitNOFILE={needed}; \
         docker: --ulimit nofile={needed}), and the same for the server"
    );
    Ok(())
}

fn ports(range: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = range.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> anyhow::Result<Target> {
        let heart_beat = HeartBeat(0, 0);
        let (login, passcode) = (Some("guest".to_owned()), Some("a:b".to_owned()));
        Target::new(url, &Login { login, passcode, host: "/".to_owned(), heart_beat })
    }

    #[test]
    fn a_url_is_taken_apart() {
        let rabbitmq = target("ws://127.0.0.1:15674/ws?x=1").unwrap();
        assert_eq!(rabbitmq.address, "127.0.0.1:15674".parse().unwrap());
        assert_eq!(rabbitmq.authority, "127.0.0.1:15674");
        assert_eq!(rabbitmq.path, "/ws?x=1");
        assert!(rabbitmq.connect.ends_with("\nlogin:guest\npasscode:a:b\n\n"));
        assert_eq!(target("ws://[::1]").unwrap().address, "[::1]:80".parse().unwrap());
        for wrong in ["wss://127.0.0.1/ws", "http://127.0.0.1/ws", "127.0.0.1:80", "/ws", ""] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn many_sessions_over_loopback_come_from_several_addresses() {
        let loopback = target("ws://127.0.0.1:8080/ws").unwrap();
        let source = |index| loopback.source(index, 45_000).unwrap().ip().to_string();
        assert_eq!(source(0), "127.0.0.2");
        assert_eq!(source(19_999), "127.0.0.2");
        assert_eq!(source(44_999), "127.0.0.4");
        assert_eq!(loopback.source(5, 20_000), None);
        assert_eq!(target("ws://192.0.2.1/ws").unwrap().source(44_999, 45_000), None);
    }

    #[test]
    fn more_sessions_than_open_files_are_refused_with_the_remedy() {
        let error = raise_open_files(usize::MAX >> 8).unwrap_err();
        assert!(error.to_string().contains("ulimit -Hn"), "{error}");
    }

    #[test]
    fn more_sessions_than_ports_are_refused_unless_they_spread() {
        assert_eq!(ports("32768\t60999\n").unwrap().count(), 28_232);
        assert_eq!(ports("none"), None);
        let error = target("ws://192.0.2.1/ws").unwrap().check_ports(70_000).unwrap_err();
        assert!(error.to_string().contains("ip_local_port_range"), "{error}");
        target("ws://127.0.0.1/ws").unwrap().check_ports(70_000).unwrap();
    }

    #[test]
    fn heart_beats_are_owed_when_both_sides_want_them() {
        assert_eq!(HeartBeat(0, 0).owed(HeartBeat(10, 10)), None);
        assert_eq!(HeartBeat(10, 0).owed(HeartBeat(10, 0)), None);
        assert_eq!(HeartBeat(10, 0).owed(HeartBeat(0, 30)), Some(30));
        assert_eq!(HeartBeat(50, 0).owed(HeartBeat(0, 30)), Some(50));
        assert_eq!("10, 20".parse(), Ok(HeartBeat(10, 20)));
        assert!("10".parse::<HeartBeat>().is_err());
    }
}
