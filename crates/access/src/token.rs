//! Making a token, and explaining one.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use humantime_serde::re::humantime;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::jwt::{MAX_TOKEN, MIN_SECRET, TokenError};
use crate::principal::Principal;
use crate::secret::Secret;

/// Signs tokens.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    id: Option<String>,
}

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// The key cannot sign.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// The token would be longer than one may be.
    #[error("the token would have {0} bytes, more than {MAX_TOKEN}; give it fewer claims")]
    TooLong(usize),
    /// It would expire after the end of time.
    #[error("the time until it expires is too long")]
    TooLate,
}

impl Signer {
    /// Signs by HS256 with that secret.
    pub fn of_secret(secret: &Secret) -> Result<Self, MakeError> {
        let bytes = secret.bytes().map_err(|why| MakeError::Key(why.to_owned()))?;
        if bytes.len() < MIN_SECRET {
            let why =
                format!("a secret must have at least {MIN_SECRET} bytes, not {}", bytes.len());
            return Err(MakeError::Key(why));
        }
        Ok(Self { key: EncodingKey::from_secret(&bytes), algorithm: Algorithm::HS256, id: None })
    }

    /// Signs with the private key in that PEM: by RS256, ES256, ES384 or EdDSA, as the key is.
    pub fn of_pem(pem: &str) -> Result<Self, MakeError> {
        let bytes = pem.as_bytes();
        let candidates = [
            (EncodingKey::from_rsa_pem(bytes), &[Algorithm::RS256][..]),
            (EncodingKey::from_ec_pem(bytes), &[Algorithm::ES256, Algorithm::ES384]),
            (EncodingKey::from_ed_pem(bytes), &[Algorithm::EdDSA]),
        ];
        for (key, algorithms) in candidates {
            let Ok(key) = key else { continue };
            for &algorithm in algorithms {
                // Nothing else tells an EC key's curve, or a public key.
                if jsonwebtoken::encode(&Header::new(algorithm), &Map::new(), &key).is_ok() {
                    return Ok(Self { key, algorithm, id: None });
                }
            }
        }
        let why = if pem.contains("-----BEGIN EC PRIVATE KEY-----") {
            "it is in an old form; `openssl pkcs8 -topk8 -nocrypt` makes it PKCS#8"
        } else if pem.contains("-----BEGIN PUBLIC KEY-----") {
            "it is public; tokens are signed with the private one"
        } else {
            "it holds no private key in PEM (RSA of at least 2048 bits, EC on P-256 or P-384, or \
             Ed25519; PKCS#8)"
        };
        Err(MakeError::Key(why.to_owned()))
    }

    /// Names the key in the tokens (`kid`), so that a set of keys is not searched.
    #[must_use]
    pub fn with_id(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }

    /// A token with these claims, issued (`iat`) at `now`. It expires (`exp`) after `lifetime`, if there is
    /// one, and else when the claims say.
    pub fn sign(
        &self,
        mut claims: Map<String, Value>,
        lifetime: Option<Duration>,
        now: SystemTime,
    ) -> Result<String, MakeError> {
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        claims.entry("iat").or_insert_with(|| issued.into());
        if let Some(lifetime) = lifetime {
            let expiry = issued.checked_add(lifetime.as_secs()).ok_or(MakeError::TooLate)?;
            claims.insert("exp".to_owned(), expiry.into());
        }
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.id);
        let token = jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|why| MakeError::Key(why.to_string()))?;
        if token.len() > MAX_TOKEN {
            return Err(MakeError::TooLong(token.len()));
        }
        Ok(token)
    }
}

/// The claims that this configuration wants of a token of `user`: the name, and an issuer and an audience
/// if some are configured.
pub fn wanted_claims(config: &Config, user: &str) -> Map<String, Value> {
    let mut claims = Map::new();
    if let Some(issuer) = config.jwt_issuers.first() {
        claims.insert("iss".to_owned(), issuer.as_str().into());
    }
    if let Some(audience) = config.jwt_audiences.first() {
        claims.insert("aud".to_owned(), audience.as_str().into());
    }
    claims.insert(config.jwt_user_claim.clone(), user.into());
    claims
}

/// What a token says, whether or not it is true, and what became of it. Displays as a text for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The header, if it can be read.
    pub header: Option<Value>,
    /// The claims, if they can be read.
    pub claims: Option<Value>,
    /// Whose token it is, or why it is refused.
    pub verdict: Result<Principal, TokenError>,
}

impl Explanation {
    pub(crate) fn new(token: &str, verdict: Result<Principal, TokenError>) -> Self {
        // A longer one is refused for that, and not worth reading.
        let token = if token.len() > MAX_TOKEN { "" } else { token };
        let mut parts = token.split('.').map(|part| {
            let json = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice(&json).ok()
        });
        let (header, claims) = (parts.next().flatten(), parts.next().flatten());
        Self { header, claims, verdict }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            Some(value) => without_controls(&format!("{value:#}")),
            None => "cannot be read".to_owned(),
        };
        writeln!(f, "header: {}", shown(&self.header))?;
        writeln!(f, "claims: {}", shown(&self.claims))?;
        for claim in ["iat", "nbf", "exp"] {
            let seconds = self.claims.as_ref().and_then(|claims| claims.get(claim)?.as_f64());
            let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            if let Some(time) = time.and_then(|time| UNIX_EPOCH.checked_add(time)).and_then(date) {
                writeln!(f, "{claim}:    {time}")?;
            }
        }
        match &self.verdict {
            Ok(principal) => {
                write!(f, "accepted: user {:?}", &*principal.name)?;
                let roles: Vec<&str> = principal.roles.iter().map(|role| &**role).collect();
                if !roles.is_empty() {
                    write!(f, " with roles {roles:?}")?;
                }
                match principal.expires_at.and_then(date) {
                    Some(time) => write!(f, ", until {time}"),
                    None => write!(f, ", for ever"),
                }
            }
            Err(why) => write!(f, "refused: {why}"),
        }
    }
}

/// None for a time that cannot be written with a year of four digits.
fn date(time: SystemTime) -> Option<String> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    (seconds <= 253_402_300_799).then(|| humantime::format_rfc3339_seconds(time).to_string())
}

/// JSON leaves some control characters as they are, which a terminal would obey.
fn without_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    out
}
