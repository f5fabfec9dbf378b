//! Who may see the views: whoever logs in as somebody with the role `console_role`. Where there is none, whoever
//! calls the node by an address, from this machine or where everything else is open, too.
//!
//! A login is a random secret in a cookie that no script can read and that no other site's request carries.
//!
//! Invariants
//! - What is shown goes by the node's door, so a wrong passcode waits as it does at CONNECT, and counts the same.
//! - At most [`MOST`] logins; one more ends the oldest. None lasts longer than [`LASTS`], or than its token.
//! - They are this process's own: another node, and this one after a restart, asks again.
//!
//! Not here: passcodes and tokens (crate `access`).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use access::Credentials;
use bytestring::ByteString;
use parking_lot::Mutex;
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use warp::http::{HeaderValue, header};

use super::request::Request;
use super::{Console, Refusal};

/// How many are logged in at most.
const MOST: usize = 1_000;

/// How long a login lasts.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);

const COOKIE: &str = "footbridge-console";

/// A secret that nobody guesses.
const SECRET: usize = 32;

/// Who is logged in.
pub(super) struct Logins {
    /// By their secrets; at most [`MOST`]. Held for a lookup or a change.
    by_secret: Mutex<HashMap<String, Login>>,
}

struct Login {
    user: ByteString,
    ends: Instant,
}

/// Where somebody stands who asks.
pub(super) enum Entry {
    /// Nobody has to log in.
    Open,
    /// Logged in, as that user.
    Inside(ByteString),
    /// Not logged in.
    Outside,
}

/// What somebody shows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    #[serde(default)]
    login: String,
    #[serde(default)]
    passcode: String,
    /// In place of both.
    #[serde(default)]
    token: String,
}

impl Logins {
    pub(super) fn new() -> Self {
        Self { by_secret: Mutex::default() }
    }

    fn find(&self, secret: &str, now: Instant) -> Option<ByteString> {
        let logins = self.by_secret.lock();
        logins.get(secret).filter(|login| now < login.ends).map(|login| login.user.clone())
    }

    /// Keeps a login; its secret.
    fn keep(&self, user: ByteString, lasts: Duration, now: Instant) -> String {
        let bytes: [u8; SECRET] = rand::rng().random();
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut logins = self.by_secret.lock();
        logins.retain(|_, login| now < login.ends);
        if logins.len() >= MOST {
            let oldest = logins.iter().min_by_key(|(_, login)| login.ends);
            let oldest = oldest.map(|(secret, _)| secret.clone());
            oldest.map(|secret| logins.remove(&secret));
        }
        logins.insert(secret.clone(), Login { user, ends: now + lasts });
        secret
    }

    fn forget(&self, secret: &str) {
        self.by_secret.lock().remove(secret);
    }
}

impl Console {
    /// Where whoever asks stands.
    ///
    /// # Errors
    /// A page of another site asks.
    pub(super) fn entry(&self, request: &Request) -> Result<Entry, Refusal> {
        if self.node.config.console_role.is_empty() {
            request.check_called_by_address()?;
            let is_near = request.peer.to_canonical().is_loopback();
            if !is_near && !self.node.access.is_open() {
                let why = "only this machine may see that, or who logs in: gateway.console_role";
                return Err(Refusal::Forbidden(why.to_owned()));
            }
            return Ok(Entry::Open);
        }
        let user = secret(request).and_then(|secret| self.logins.find(secret, Instant::now()));
        Ok(user.map_or(Entry::Outside, Entry::Inside))
    }

    pub(super) async fn log_in(
        &self,
        request: &Request,
    ) -> Result<(Value, Option<HeaderValue>), Refusal> {
        request.check_same_page()?;
        let role = &self.node.config.console_role;
        if role.is_empty() {
            return Err(Refusal::NotFound);
        }
        let address = request.peer;
        let Shown { login, passcode, token } = request.json()?;
        let connect = match token.is_empty() {
            true => vec![("login".into(), login.into()), ("passcode".into(), passcode.into())],
            false => vec![("Authorization".into(), format!("Bearer {token}").into())],
        };
        let credentials = Credentials { connect, ..Credentials::default() };
        let now = Instant::now();
        let answer_by = now + self.node.config.request_timeout;
        let principal = self.node.door.enter(address, &credentials, answer_by).await;
        let principal = principal.map_err(|refused| Refusal::LoginFailed(refused.message))?;
        if !principal.is_authenticated() || !principal.has_role(role) {
            let why = format!("{} has not the role {role}", principal.name);
            return Err(Refusal::Forbidden(why));
        }
        let left = principal.expires_at.map(|at| at.duration_since(SystemTime::now()));
        let lasts = left.map_or(LASTS, |left| left.unwrap_or_default().min(LASTS));
        tracing::info!(user = %principal.name, %address, "logged in to the console");
        let secret = self.logins.keep(principal.name.clone(), lasts, now);
        let cookie = cookie(&secret, lasts, request.is_secure());
        Ok((json!({ "user": &*principal.name }), cookie))
    }

    pub(super) fn log_out(
        &self,
        request: &Request,
    ) -> Result<(Value, Option<HeaderValue>), Refusal> {
        request.check_same_page()?;
        if let Some(secret) = secret(request) {
            self.logins.forget(secret);
        }
        Ok((json!({}), cookie("", Duration::ZERO, request.is_secure())))
    }
}

fn cookie(secret: &str, lasts: Duration, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    let lasts = lasts.as_secs();
    let text = format!(
        "{COOKIE}={secret}; Path=/console; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}"
    );
    HeaderValue::try_from(text).ok()
}

/// The secret that a request shows.
fn secret(request: &Request) -> Option<&str> {
    let cookies = request.header(&header::COOKIE)?;
    cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_ends_with_its_time() {
        let (logins, now) = (Logins::new(), Instant::now());
        let secret = logins.keep("ann".into(), LASTS, now);
        assert_eq!(logins.find(&secret, now), Some("ann".into()));
        assert_eq!(logins.find(&secret, now + LASTS), None);
        assert_eq!(logins.find("", now), None);
    }

    #[test]
    fn one_more_than_there_may_be_ends_the_oldest() {
        let (logins, now) = (Logins::new(), Instant::now());
        let oldest = logins.keep("ann".into(), LASTS, now);
        let later = now + Duration::from_secs(1);
        let others: Vec<_> = (0..MOST).map(|_| logins.keep("bob".into(), LASTS, later)).collect();
        assert_eq!(logins.find(&oldest, later), None);
        assert!(others.iter().all(|secret| logins.find(secret, later).is_some()));
        assert_eq!(logins.by_secret.lock().len(), MOST);
    }
}
