//! Hashes of passcodes: Argon2 in PHC's string form, and bcrypt.

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordVerifier};

/// The most memory of one computation in KiB.
const MAX_MEMORY: u32 = 1024 * 1024;

/// The most passes of Argon2 over it.
const MAX_PASSES: u32 = 100;

/// The highest cost of bcrypt, some ten seconds.
const MAX_COST: u32 = 17;

/// A hash that was found fit to be computed.
#[derive(Clone)]
pub(super) enum Hash {
    Argon2(String),
    Bcrypt(String),
}

impl Hash {
    /// Reads it, and sees to it that no computation takes for ever.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("$argon2") {
            let hash = PasswordHash::new(text)
                .map_err(|why| format!("has no Argon2 hash in PHC's form: {why}"))?;
            let params = Params::try_from(&hash)
                .map_err(|why| format!("has a hash with parameters that Argon2 has not: {why}"))?;
            if Algorithm::try_from(hash.algorithm).is_err() || hash.hash.is_none() {
                return Err("has no whole Argon2 hash".to_owned());
            }
            if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES {
                return Err(format!(
                    "has a hash that costs too much: at most m={MAX_MEMORY} and t={MAX_PASSES}"
                ));
            }
            return Ok(Self::Argon2(text.to_owned()));
        }
        let bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|kind| text.starts_with(kind));
        if !bcrypt {
            return Err(
                "has a hash that is neither Argon2 ($argon2id$...) nor bcrypt ($2b$...)".to_owned()
            );
        }
        let parts: bcrypt::HashParts =
            text.parse().map_err(|why| format!("has no bcrypt hash: {why}"))?;
        if parts.get_cost() > MAX_COST {
            return Err(format!("has a hash that costs too much: at most {MAX_COST}"));
        }
        Ok(Self::Bcrypt(text.to_owned()))
    }

    /// Whether it is the hash of that passcode. Takes long.
    pub(super) fn is_of(&self, passcode: &str) -> bool {
        match self {
            Self::Argon2(text) => PasswordHash::new(text).is_ok_and(|hash| {
                Argon2::default().verify_password(passcode.as_bytes(), &hash).is_ok()
            }),
            Self::Bcrypt(text) => bcrypt::verify(passcode, text).unwrap_or(false),
        }
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Argon2(_) => "Argon2(***)",
            Self::Bcrypt(_) => "Bcrypt(***)",
        })
    }
}
