//! Keys that tokens are checked with, and which algorithms each may be used with.
//!
//! Invariant: the algorithms follow from the key, never from a token alone, so a public key is never taken
//! for a secret, and nothing is ever signed with `none`.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The shortest secret in bytes: RFC 7518, section 3.2, wants as many as HS256 hashes to.
pub(crate) const MIN_SECRET: usize = 32;

/// The most keys of one set.
const MAX_KEYS: usize = 100;

/// What a secret may be used with.
const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// What an RSA key may be used with.
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// A key that tokens are checked with.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// What a token's `kid` names it by.
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(crate) decoding: DecodingKey,
}

/// The keys of one source.
#[derive(Debug, Clone)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// What was left out, and why.
    pub(crate) skipped: Vec<String>,
}

/// What a set has for a token.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// These, of which one must fit.
    Keys(Vec<&'a Key>),
    /// Keys, but none that may be used with the token's algorithm.
    OtherAlgorithms(Vec<Algorithm>),
    /// No key of that id.
    Unknown,
}

/// Whether keys in a set are secret to whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// It may hold secrets.
    Kept,
    /// Anybody can read it, so a secret in it is none.
    Published,
}

impl KeySet {
    /// No keys.
    pub(crate) fn none() -> Self {
        Self { keys: Vec::new(), skipped: Vec::new() }
    }

    /// The one key that is a secret.
    pub(crate) fn of_secret(secret: &[u8]) -> Result<Self, String> {
        let key = Key::secret(secret, None, &HMAC)?;
        Ok(Self { keys: vec![key], skipped: Vec::new() })
    }

    /// The one public key in a file in PEM.
    pub(crate) fn of_pem(pem: &str) -> Result<Self, String> {
        Ok(Self { keys: vec![Key::of_pem(pem)?], skipped: Vec::new() })
    }

    /// The keys of a JSON Web Key Set (RFC 7517, section 5). Keys that cannot be used are skipped, as the
    /// RFC wants it, but not all of them.
    pub(crate) fn of_jwks(json: &[u8], secrets: Secrets) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json)
            .map_err(|why| format!("it is no JSON Web Key Set: {why}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("it holds {} keys, more than {MAX_KEYS}", set.keys.len()));
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, value) in set.keys.into_iter().enumerate() {
            match Key::of_jwk(value, secrets) {
                Ok(key) => keys.push(key),
                Err(why) => skipped.push(format!("key {}: {why}", index + 1)),
            }
        }
        if keys.is_empty() && skipped.is_empty() {
            return Err("it holds no key".to_owned());
        }
        if keys.is_empty() {
            return Err(format!("it holds no key that can be used ({})", skipped.join("; ")));
        }
        Ok(Self { keys, skipped })
    }

    /// What there is for a token that names that key and algorithm. Keys without an id are for any token.
    pub(crate) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let named = |key: &&Key| match (id, &key.id) {
            (Some(id), Some(of)) => id == of,
            _ => true,
        };
        let of_id: Vec<&Key> = self.keys.iter().filter(named).collect();
        if of_id.is_empty() {
            return Found::Unknown;
        }
        let (fit, others): (Vec<&Key>, Vec<&Key>) =
            of_id.into_iter().partition(|key| key.algorithms.contains(&algorithm));
        if fit.is_empty() {
            let mut algorithms: Vec<Algorithm> = Vec::new();
            for of in others.iter().flat_map(|key| &key.algorithms) {
                if !algorithms.contains(of) {
                    algorithms.push(*of);
                }
            }
            return Found::OtherAlgorithms(algorithms);
        }
        Found::Keys(fit)
    }
}

impl Key {
    fn secret(secret: &[u8], id: Option<String>, algorithms: &[Algorithm]) -> Result<Self, String> {
        if secret.len() < MIN_SECRET {
            return Err(format!(
                "a secret of {} bytes is too short: it must have at least {MIN_SECRET}",
                secret.len()
            ));
        }
        let decoding = DecodingKey::from_secret(secret);
        Ok(Self { id, algorithms: algorithms.to_vec(), decoding })
    }

    fn of_pem(pem: &str) -> Result<Self, String> {
        if pem.contains("PRIVATE KEY-----") {
            return Err("it holds a private key, which only the issuer of tokens needs; \
                        `openssl pkey -pubout` makes the public one"
                .to_owned());
        }
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            return Err("it holds a certificate; `openssl x509 -pubkey -noout` takes the key out"
                .to_owned());
        }
        let pem = pem.as_bytes();
        let key = |decoding, algorithms: &[Algorithm]| {
            Ok(Self { id: None, algorithms: algorithms.to_vec(), decoding })
        };
        if let Ok(decoding) = DecodingKey::from_rsa_pem(pem) {
            return key(decoding, &RSA);
        }
        if let Ok(decoding) = DecodingKey::from_ec_pem(pem) {
            // An uncompressed point: one byte, then two coordinates.
            return match decoding.try_get_as_bytes().map(<[u8]>::len) {
                Ok(65) => key(decoding, &[Algorithm::ES256]),
                Ok(97) => key(decoding, &[Algorithm::ES384]),
                _ => Err("its curve is neither P-256 nor P-384".to_owned()),
            };
        }
        if let Ok(decoding) = DecodingKey::from_ed_pem(pem) {
            return key(decoding, &[Algorithm::EdDSA]);
        }
        Err("it holds no public key in PEM (RSA, EC on P-256 or P-384, or Ed25519)".to_owned())
    }

    fn of_jwk(value: Value, secrets: Secrets) -> Result<Self, String> {
        let said = value.get("alg").cloned();
        let jwk: Jwk = serde_json::from_value(value).map_err(|why| why.to_string())?;
        if let Some(used) = &jwk.common.public_key_use
            && *used != PublicKeyUse::Signature
        {
            return Err("it is not for signatures (use)".to_owned());
        }
        if let Some(operations) = &jwk.common.key_operations
            && !operations.contains(&KeyOperations::Verify)
        {
            return Err("it is not for verifying (key_ops)".to_owned());
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA.to_vec(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return Err("its curve is neither P-256 nor P-384".to_owned()),
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            AlgorithmParameters::OctetKey(_) if secrets == Secrets::Published => {
                return Err("it is a secret, which anybody can read here".to_owned());
            }
            AlgorithmParameters::OctetKey(_) => HMAC.to_vec(),
            _ => return Err("its type is not known (kty, crv)".to_owned()),
        };
        if let Some(said) = said {
            algorithms.retain(|algorithm| said.as_str() == Some(name(*algorithm)));
            if algorithms.is_empty() {
                return Err(format!("it cannot be used with {said} (alg)"));
            }
        }
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|why| why.to_string())?;
        if let AlgorithmParameters::OctetKey(_) = &jwk.algorithm {
            let secret = decoding.try_get_as_bytes().map_err(|why| why.to_string())?;
            return Self::secret(secret, jwk.common.key_id, &algorithms);
        }
        Ok(Self { id: jwk.common.key_id, algorithms, decoding })
    }
}

/// As a token writes it.
pub(crate) fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::HS384 => "HS384",
        Algorithm::HS512 => "HS512",
        Algorithm::RS256 => "RS256",
        Algorithm::RS384 => "RS384",
        Algorithm::RS512 => "RS512",
        Algorithm::PS256 => "PS256",
        Algorithm::PS384 => "PS384",
        Algorithm::PS512 => "PS512",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::EdDSA => "EdDSA",
        // The library may come to know more; no key here is used with them.
        _ => "another",
    }
}
