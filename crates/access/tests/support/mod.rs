//! Keys, tokens and times that the tests share.

#![allow(dead_code, reason = "each test uses some of it")]

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use access::{Access, Config, Principal, Refusal, TokenError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker::Destinations;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Map, Value, json};

/// 2027-01-15 08:00:00 UTC.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) const SECRET: &str = "a secret that is long enough: 32 bytes and more, even for HS512.";

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A pair of keys of one kind.
pub(crate) struct Keys {
    pub(crate) pair: KeyPair,
    pub(crate) signing: EncodingKey,
    pub(crate) algorithm: Algorithm,
}

impl Keys {
    pub(crate) fn rsa() -> Self {
        Self::new(&rcgen::PKCS_RSA_SHA256, Algorithm::RS256, EncodingKey::from_rsa_pem)
    }

    pub(crate) fn p256() -> Self {
        Self::new(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256, EncodingKey::from_ec_pem)
    }

    pub(crate) fn p384() -> Self {
        Self::new(&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::ES384, EncodingKey::from_ec_pem)
    }

    pub(crate) fn ed25519() -> Self {
        Self::new(&rcgen::PKCS_ED25519, Algorithm::EdDSA, EncodingKey::from_ed_pem)
    }

    fn new(
        kind: &'static rcgen::SignatureAlgorithm,
        algorithm: Algorithm,
        signing: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
    ) -> Self {
        let pair = KeyPair::generate_for(kind).unwrap();
        let signing = signing(pair.serialize_pem().as_bytes()).unwrap();
        Self { pair, signing, algorithm }
    }

    pub(crate) fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// The public key as a JSON Web Key of that id.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let mut jwk = if self.algorithm == Algorithm::EdDSA {
            // The last of what the file holds is the key itself.
            let public = self.pair.subject_public_key_info();
            let key = URL_SAFE_NO_PAD.encode(&public[public.len() - 32..]);
            json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": key })
        } else {
            let jwk = Jwk::from_encoding_key(&self.signing, self.algorithm).unwrap();
            serde_json::to_value(jwk).unwrap()
        };
        jwk["kid"] = id.into();
        jwk
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        sign(&Header::new(self.algorithm), claims, &self.signing)
    }

    pub(crate) fn sign_with_id(&self, id: &str, claims: &Value) -> String {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(self.algorithm) };
        sign(&header, claims, &self.signing)
    }
}

pub(crate) fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

pub(crate) fn hs(algorithm: Algorithm, claims: &Value) -> String {
    sign(&Header::new(algorithm), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

/// Claims of a user that hold for an hour, with these besides.
pub(crate) fn claims(user: &str, more: Value) -> Value {
    let mut claims = json!({ "sub": user, "exp": NOW + 3600 });
    let Value::Object(more) = more else { panic!("{more}") };
    for (name, value) in more {
        claims[name] = value;
    }
    claims
}

pub(crate) fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// A part of a token.
pub(crate) fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

pub(crate) fn config(toml: &str) -> Config {
    toml::from_str(toml).unwrap()
}

pub(crate) fn with_secret() -> Config {
    config(&format!("jwt_secret = '{SECRET}'"))
}

pub(crate) fn with_key_file(pem: &str) -> (tempfile::NamedTempFile, Config) {
    let file = file(pem);
    let config = Config { jwt_key_file: file.path().into(), ..Config::default() };
    (file, config)
}

pub(crate) fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Puts other content in the place of a file at once, as configuration is rolled out.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[track_caller]
pub(crate) fn start(config: &Config) -> Access {
    Access::start(config, &Destinations::default()).unwrap_or_else(|why| panic!("{why}"))
}

pub(crate) async fn principal_of(access: &Access, token: &str) -> Result<Principal, TokenError> {
    match access.token(token, now()).await {
        Ok(principal) => Ok(principal),
        Err(Refusal::Token(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}
