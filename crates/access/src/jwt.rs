//! Tokens: JSON Web Tokens (RFC 7519), signed as JWS in compact form (RFC 7515).
//!
//! Invariants
//! - A token's claims are looked at only after its signature was found good, with a key of ours and an
//!   algorithm that the key is for.
//! - What a token says is quoted in a refusal at most shortened and with its control characters escaped.
//!
//! The signatures are `jsonwebtoken`'s work; times, issuer and audience are checked here, so that a clock
//! can be given and a refusal says what is wrong.

mod fetch;
mod key;
mod published;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytestring::ByteString;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};

pub(crate) use self::fetch::{Fetch, authorities};
use self::key::{Found, KeySet, Secrets};
pub(crate) use self::key::{MIN_SECRET, name as algorithm_name};
use self::published::{Pace, Published};
use crate::claims::Claims;
use crate::config::{Config, Source};
use crate::principal::{ANONYMOUS, Authentication, Principal, wrong_with_name};
use crate::reread::Reread;

/// The longest token in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// How often a file of keys is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// The last second of the year 9999: what is later was meant in milliseconds.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Why a token is not accepted. The text is for its bearer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than [`MAX_TOKEN`].
    #[error("the token has {length} bytes, more than {MAX_TOKEN}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is no signed token.
    #[error("this is no token: {0}")]
    Malformed(&'static str),
    /// It demands something that is not known here, or is signed in a way that its key is not for.
    #[error("the token's algorithm {algorithm} is not accepted: the key is for {accepted}")]
    Algorithm {
        /// What its header says, shortened.
        algorithm: String,
        /// What would be accepted.
        accepted: String,
    },
    /// No key has the id that it names.
    #[error("the token's key {id} is not known")]
    UnknownKey {
        /// The `kid`, shortened and in quotes.
        id: String,
    },
    /// No key made its signature.
    #[error("the token's signature is wrong")]
    Signature,
    /// It has ended.
    #[error("the token expired {} s ago", ago.as_secs())]
    Expired {
        /// How long ago.
        ago: Duration,
    },
    /// It does not hold yet.
    #[error("the token is not valid for another {} s", wait.as_secs())]
    NotYet {
        /// How long until it does.
        wait: Duration,
    },
    /// Somebody else issued it.
    #[error("the token's issuer (iss) is not accepted here")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another audience (aud)")]
    Audience,
    /// A claim is missing or cannot be used.
    #[error("the token's claim \"{claim}\" {why}")]
    Claim {
        /// The claim's name.
        claim: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The keys are not to be had now; trying later may work. No fault of the token.
    #[error("the token cannot be checked now; try again later")]
    KeysUnavailable,
}

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Keys,
    expected: Expected,
}

/// Where the keys are.
#[derive(Debug)]
enum Keys {
    Fixed(Arc<KeySet>),
    File(Arc<Reread<KeySet>>),
    Url(Published),
}

impl Keys {
    /// Reads those that are at hand; a set of none stands for those at a URL.
    fn read(source: Source<'_>) -> Result<Self, (&'static str, String)> {
        let key = source.key();
        let named = |why| (key, why);
        let of_file =
            |path: &Path, why: &str| named(format!("cannot be used: {}: {why}", path.display()));
        Ok(match source {
            Source::Secret(secret) => {
                let bytes = secret.bytes().map_err(|why| named(why.to_owned()))?;
                Self::Fixed(Arc::new(KeySet::of_secret(&bytes).map_err(named)?))
            }
            Source::KeyFile(path) => {
                let file = Reread::open(path, LOOK, KeySet::of_pem);
                Self::File(Arc::new(file.map_err(|why| of_file(path, &why))?))
            }
            Source::JwksFile(path) => {
                let parse = |text: &str| KeySet::of_jwks(text.as_bytes(), Secrets::Kept);
                let file = Reread::open(path, LOOK, parse);
                Self::File(Arc::new(file.map_err(|why| of_file(path, &why))?))
            }
            Source::JwksUrl(_) => Self::Fixed(Arc::new(KeySet::none())),
        })
    }
}

/// What a token must say.
#[derive(Debug)]
struct Expected {
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway: Duration,
    require_exp: bool,
    user_claim: String,
    roles_claim: String,
}

/// What a token says of its own signature.
#[derive(Debug)]
struct Header {
    algorithm: Algorithm,
    key: Option<String>,
}

impl Verifier {
    /// Reads the keys or, if they are at a URL, begins to fetch them, which needs a runtime. None if the
    /// configuration names none.
    ///
    /// # Errors
    /// The key and why it cannot be used. A URL that does not answer is no error.
    pub(crate) fn start(config: &Config) -> Result<Option<Self>, (&'static str, String)> {
        let Some(source) = config.source() else { return Ok(None) };
        let keys = match source {
            Source::JwksUrl(uri) => {
                let fetch = Fetch::new(uri, &config.jwks_ca_file, config.jwks_timeout)
                    .map_err(|why| ("jwks_ca_file", why))?;
                let pace =
                    Pace { max_age: config.jwks_max_age, min_interval: config.jwks_min_interval };
                Keys::Url(Published::start(fetch, pace))
            }
            source => Keys::read(source)?,
        };
        Ok(Some(Self { keys, expected: Expected::new(config) }))
    }

    /// As [`start`](Self::start), without fetching anything.
    pub(crate) fn check(config: &Config) -> Result<(), (&'static str, String)> {
        config.source().map_or(Ok(()), |source| Keys::read(source).map(drop))
    }

    /// Why the last fetch of keys failed, if there was one and it did.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        match &self.keys {
            Keys::Fixed(_) | Keys::File(_) => None,
            Keys::Url(published) => published.failure(),
        }
    }

    /// Whose token this is, at the time `now`.
    pub(crate) async fn verify(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<Principal, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong { length: token.len() });
        }
        let header = Header::of(token)?;
        let claims = match &self.keys {
            Keys::Fixed(keys) => signed(token, &header, keys),
            Keys::File(file) => signed(token, &header, &*file.get().await),
            Keys::Url(published) => signed_by_published(token, &header, published).await,
        }?;
        self.expected.principal(claims.into(), now)
    }
}

/// The claims, after whatever newer keys there are if those at hand do not fit.
async fn signed_by_published(
    token: &str,
    header: &Header,
    published: &Published,
) -> Result<Map<String, Value>, TokenError> {
    let known = published.known().await;
    let first = match &known.keys {
        Some(keys) => signed(token, header, keys),
        None => Err(TokenError::KeysUnavailable),
    };
    match &first {
        // A wrong signature, too: a key may have been exchanged under its old id, or have none.
        Err(
            TokenError::UnknownKey { .. } | TokenError::KeysUnavailable | TokenError::Signature,
        ) => {}
        _ => return first,
    }
    let newer = published.newer(&known).await;
    let second = match &newer.keys {
        Some(keys) => signed(token, header, keys),
        None => Err(TokenError::KeysUnavailable),
    };
    match second {
        // The key may be one that could not be fetched.
        Err(TokenError::UnknownKey { .. }) if newer.failure.is_some() => {
            Err(TokenError::KeysUnavailable)
        }
        second => second,
    }
}

/// The claims, if a key of these signed them.
fn signed(token: &str, header: &Header, keys: &KeySet) -> Result<Map<String, Value>, TokenError> {
    let fit = match keys.find(header.key.as_deref(), header.algorithm) {
        Found::Keys(fit) => fit,
        Found::OtherAlgorithms(accepted) => {
            let accepted: Vec<_> = accepted.into_iter().map(algorithm_name).collect();
            return Err(TokenError::Algorithm {
                algorithm: algorithm_name(header.algorithm).to_owned(),
                accepted: accepted.join(", "),
            });
        }
        Found::Unknown => {
            let id = header.key.as_deref().map_or_else(|| "(none)".to_owned(), quoted);
            return Err(TokenError::UnknownKey { id });
        }
    };
    let mut validation = Validation::new(header.algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    for key in fit {
        match jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &validation) {
            Ok(token) => return Ok(token.claims),
            Err(why) => match why.kind() {
                jsonwebtoken::errors::ErrorKind::Json(_)
                | jsonwebtoken::errors::ErrorKind::Utf8(_) => {
                    return Err(TokenError::Malformed("its payload is no JSON object"));
                }
                jsonwebtoken::errors::ErrorKind::Base64(_)
                | jsonwebtoken::errors::ErrorKind::InvalidToken => {
                    return Err(TokenError::Malformed("a part of it is no base64url"));
                }
                // Another key may fit.
                _ => {}
            },
        }
    }
    Err(TokenError::Signature)
}

impl Header {
    fn of(token: &str) -> Result<Self, TokenError> {
        let malformed = |why| Err(TokenError::Malformed(why));
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return malformed("it does not have three parts between dots");
        };
        let Ok(header) = URL_SAFE_NO_PAD.decode(header) else {
            return malformed("its header is no base64url");
        };
        let Ok(Value::Object(header)) = serde_json::from_slice(&header) else {
            return malformed("its header is no JSON object");
        };
        // RFC 7515, section 4.1.11: what must be understood and is not makes it invalid.
        if header.contains_key("crit") {
            return malformed("it demands an extension (crit) that is not known here");
        }
        let Some(algorithm) = header.get("alg").and_then(Value::as_str) else {
            return malformed("its header names no algorithm (alg)");
        };
        let Ok(algorithm) = algorithm.parse() else {
            return Err(TokenError::Algorithm {
                algorithm: quoted(algorithm),
                accepted: "signatures by HS, RS, PS, ES or EdDSA".to_owned(),
            });
        };
        let key = match header.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(key)) => Some(key.clone()),
            Some(_) => return malformed("the key's id in its header (kid) is no text"),
        };
        Ok(Self { algorithm, key })
    }
}

impl Expected {
    fn new(config: &Config) -> Self {
        Self {
            issuers: config.jwt_issuers.clone(),
            audiences: config.jwt_audiences.clone(),
            leeway: config.jwt_leeway,
            require_exp: config.jwt_require_exp,
            user_claim: config.jwt_user_claim.clone(),
            roles_claim: config.jwt_roles_claim.clone(),
        }
    }

    fn principal(&self, claims: Claims, now: SystemTime) -> Result<Principal, TokenError> {
        let wrong = |claim: &str, why| TokenError::Claim { claim: claim.to_owned(), why };
        let expiry = time(&claims, "exp")?;
        if expiry.is_none() && self.require_exp {
            return Err(wrong("exp", "is missing: it must say when it expires"));
        }
        // So long is the token good, and the session with it.
        let expires_at = expiry.map(|expiry| expiry + self.leeway);
        if let (Some(expiry), Some(end)) = (expiry, expires_at)
            && end <= now
        {
            let ago = now.duration_since(expiry).unwrap_or_default();
            return Err(TokenError::Expired { ago });
        }
        if let Some(begin) = time(&claims, "nbf")?
            && begin > now + self.leeway
        {
            let wait = begin.duration_since(now).unwrap_or_default();
            return Err(TokenError::NotYet { wait });
        }
        if !self.issuers.is_empty() {
            let issuer = claims.get("iss").and_then(Value::as_str);
            if !issuer.is_some_and(|issuer| self.issuers.iter().any(|is| is == issuer)) {
                return Err(TokenError::Issuer);
            }
        }
        self.check_audience(&claims)?;
        let name = claims.text(&self.user_claim);
        let name = name.ok_or_else(|| wrong(&self.user_claim, "is missing: it names the user"))?;
        if let Some(why) = wrong_with_name(&name) {
            return Err(wrong(&self.user_claim, why));
        }
        if *name == *ANONYMOUS {
            return Err(wrong(&self.user_claim, "is the name of those who have none"));
        }
        Ok(Principal {
            name: ByteString::from(&*name),
            roles: claims.roles(&self.roles_claim).into(),
            expires_at,
            authentication: Authentication::Token,
            claims: Arc::new(claims),
        })
    }

    /// RFC 7519, section 4.1.3: a token that names audiences is for them alone, also where none is
    /// configured.
    fn check_audience(&self, claims: &Claims) -> Result<(), TokenError> {
        let ours = |audience: &str| self.audiences.iter().any(|own| own == audience);
        let accepted = match claims.get("aud") {
            None => self.audiences.is_empty(),
            Some(Value::String(audience)) => ours(audience),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(ours),
            Some(_) => false,
        };
        if accepted { Ok(()) } else { Err(TokenError::Audience) }
    }
}

/// A claim that is a time: RFC 7519's NumericDate, seconds since 1970, which may have a fraction.
fn time(claims: &Claims, claim: &'static str) -> Result<Option<SystemTime>, TokenError> {
    let wrong = |why| TokenError::Claim { claim: claim.to_owned(), why };
    let Some(value) = claims.as_map().get(claim) else { return Ok(None) };
    let seconds = value.as_f64().ok_or_else(|| wrong("is no number of seconds since 1970"))?;
    if seconds > LAST_SECOND {
        return Err(wrong("is beyond the year 9999; it counts seconds, not milliseconds"));
    }
    let since = Duration::try_from_secs_f64(seconds.max(0.0))
        .map_err(|_| wrong("is no number of seconds since 1970"))?;
    Ok(Some(UNIX_EPOCH + since))
}

/// What a token says, short enough and fit to be shown.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    format!("\"{short}\"")
}
