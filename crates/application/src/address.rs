//! One address of a service, and whether it is worth trying.
//!
//! Invariant: an address that could not be reached is passed over for a while, longer each time, as long as
//! another is there; if none is, all are tried.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// How long an address is passed over the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest that it is.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long connecting may take: of a machine that does not answer the next address learns in time.
const CONNECT: Duration = Duration::from_secs(2);

/// How often a connection in use is asked whether it is alive, and how long it may take to say so.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Address {
    /// As it was configured, for the log.
    pub(crate) url: String,
    pub(crate) channel: Channel,
    down: Mutex<Option<Down>>,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    until: Instant,
    pause: Duration,
}

impl Address {
    /// An address that is connected to when it is first needed. Must be called within the runtime.
    pub(crate) fn new(url: &str, ca: Option<&[u8]>) -> Result<Self, tonic::transport::Error> {
        let mut endpoint = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true);
        if endpoint.uri().scheme_str() == Some("https") {
            let tls = ClientTlsConfig::new();
            endpoint = endpoint.tls_config(match ca {
                Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
                None => tls.with_native_roots(),
            })?;
        }
        let channel = endpoint.connect_lazy();
        Ok(Self { url: url.to_owned(), channel, down: Mutex::default() })
    }

    /// Whether it should be passed over at `now`.
    pub(crate) fn is_down(&self, now: Instant) -> bool {
        self.down.lock().is_some_and(|down| now < down.until)
    }

    /// Notes that it could not be reached; whether that is news.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut down = self.down.lock();
        let pause = down.map_or(FIRST_PAUSE, |down| (down.pause * 2).min(LONGEST_PAUSE));
        down.replace(Down { until: now + pause, pause }).is_none()
    }

    /// Notes that it was reached.
    pub(crate) fn reached(&self) {
        *self.down.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_passed_over_for_longer_each_time_until_it_is_reached() {
        let address = Address::new("http://127.0.0.1:1", None).unwrap();
        assert!(!address.is_down(Instant::now()));
        for (n, millis) in [100, 200, 400, 800, 1600, 3200, 5000, 5000].into_iter().enumerate() {
            assert_eq!(address.failed(Instant::now()), n == 0);
            assert!(address.is_down(Instant::now()), "{millis}");
            tokio::time::advance(Duration::from_millis(millis - 1)).await;
            assert!(address.is_down(Instant::now()), "{millis}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!address.is_down(Instant::now()), "{millis}");
        }
        address.reached();
        assert!(address.failed(Instant::now()));
    }
}
