//! How a node knows that another forwarded a request, and nobody else.
//!
//! A forwarded request has the header `x-footbridge-forwarded: v1 t=<s> c=<ip> b=<sha256> s=<hmac>`: when it was
//! signed, in seconds since 1970; the client's address; what its body hashes to; and the signature, by a
//! secret that all nodes know. The hashes are in base64.
//!
//! Invariants
//! - Method, path and query, every header but those that frame the body, the client's address, the time and
//!   the body's hash are signed: whoever changes any of them, or adds one, is refused.
//! - What is signed is written with lengths, so that no two requests are signed alike.
//! - The signature is checked before anything of the body is read.
//!
//! Within [`WINDOW`] a request that somebody overheard can be sent again. Nothing is encrypted: the network
//! between nodes has to keep strangers out.
//!
//! Not here: what becomes of a request that is refused.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::Output;
use hmac::digest::generic_array::GenericArray;
use hmac::{Hmac, Mac};
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

/// The header of a forwarded request.
pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("x-footbridge-forwarded");

/// How far the clocks of two nodes may be apart, and how late a request may come, in seconds.
const WINDOW: u64 = 30;

const VERSION: &str = "v1";

/// The hash of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyHash(Output<Sha256>);

/// What signs, and knows what others signed with the same secret.
#[derive(Clone)]
pub(crate) struct Key(Hmac<Sha256>);

/// What a signature that is right says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Where the client is.
    pub(crate) client: IpAddr,
    /// What the body has to hash to.
    pub(crate) body: BodyHash,
}

/// Why a request counts as nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It has no signature, or several.
    #[error("it is not signed")]
    Unsigned,
    /// The signature is of another version, or none at all.
    #[error("its signature cannot be read")]
    Unreadable,
    /// It was signed too long ago, or will be.
    #[error("it was not signed within {WINDOW} s of this node's clock")]
    Stale,
    /// It was changed, or signed with another secret.
    #[error("its signature is wrong: is cluster.secret the same on all nodes?")]
    Forged,
    /// Its body is not the one that was signed.
    #[error("its body is not the one that was signed")]
    OtherBody,
}

impl BodyHash {
    pub(crate) fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body))
    }
}

impl Key {
    pub(crate) fn new(secret: &[u8]) -> Self {
        // A hash of its own, so that what the secret signs elsewhere is nothing here.
        let hash = Sha256::new_with_prefix(FORWARDED.as_str()).chain_update(secret).finalize();
        let mut block = GenericArray::default();
        block[..hash.len()].copy_from_slice(&hash);
        Self(<Hmac<Sha256> as hmac::digest::KeyInit>::new(&block))
    }

    /// What the header says for that request of `client`, signed at `now`.
    pub(crate) fn sign(
        &self,
        request: &Parts,
        signed: Signed,
        now: u64,
    ) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let signature = self.mac(request, signed, now).finalize().into_bytes();
        HeaderValue::try_from(written(now, signed, &signature))
    }

    /// What the signature of that request says at `now`, if it is right.
    pub(crate) fn verify(&self, request: &Parts, now: u64) -> Result<Signed, Refused> {
        let mut values = request.headers.get_all(FORWARDED).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Refused::Unsigned);
        };
        let (time, signed, signature) = read(value).ok_or(Refused::Unreadable)?;
        // In constant time.
        let is_right = self.mac(request, signed, time).verify_slice(&signature);
        is_right.map_err(|_| Refused::Forged)?;
        if time.abs_diff(now) > WINDOW {
            return Err(Refused::Stale);
        }
        Ok(signed)
    }

    fn mac(&self, request: &Parts, signed: Signed, time: u64) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        let mut put = |field: &[u8]| {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        };
        put(VERSION.as_bytes());
        put(&time.to_be_bytes());
        put(signed.client.to_string().as_bytes());
        put(&signed.body.0);
        put(request.method.as_str().as_bytes());
        put(request.uri.path_and_query().map_or("", |it| it.as_str()).as_bytes());
        let mut names: Vec<_> = request.headers.keys().filter(|name| is_signed(name)).collect();
        names.sort_unstable_by_key(|name| name.as_str());
        for name in names {
            for value in request.headers.get_all(name) {
                put(name.as_str().as_bytes());
                put(value.as_bytes());
            }
        }
        mac
    }
}

/// Whether it is signed: the signature itself is not, nor is what HTTP adds to frame the body, which is
/// known by its hash.
fn is_signed(name: &HeaderName) -> bool {
    *name != FORWARDED && *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING
}

fn written(time: u64, Signed { client, body }: Signed, signature: &[u8]) -> String {
    let (body, signature) = (URL_SAFE_NO_PAD.encode(body.0), URL_SAFE_NO_PAD.encode(signature));
    format!("{VERSION} t={time} c={client} b={body} s={signature}")
}

fn read(value: &HeaderValue) -> Option<(u64, Signed, Vec<u8>)> {
    let text = value.to_str().ok()?;
    let mut words = text.split(' ');
    if words.next()? != VERSION {
        return None;
    }
    let mut word = |name: &str| words.next()?.strip_prefix(name);
    let time = word("t=")?.parse().ok()?;
    let client = word("c=")?.parse().ok()?;
    let body = URL_SAFE_NO_PAD.decode(word("b=")?).ok()?;
    let signature = URL_SAFE_NO_PAD.decode(word("s=")?).ok()?;
    let body = BodyHash(GenericArray::from_exact_iter(body)?);
    let signed = Signed { client, body };
    // There is one way to write it.
    (written(time, signed, &signature) == text).then_some((time, signed, signature))
}

#[cfg(test)]
mod tests;
