//! TLS on the port, and who a caller's certificate is of.
//!
//! Invariant: where certificates of callers are asked for, no connection without a good one gets as far as
//! its first call.
//!
//! Not here: what whoever has a certificate may call (`door`).

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::{Config, Invalid};

/// What HTTP/2 is called in a handshake.
const HTTP2: &[u8] = b"h2";

/// How the port speaks TLS; none if it does not.
pub(crate) fn server(config: &Config) -> Result<Option<Arc<ServerConfig>>, Invalid> {
    let invalid = |key, why: String| Err(Invalid { key, why });
    let [certificate, key, client_ca] =
        [&config.tls_certificate, &config.tls_key, &config.client_ca].map(|path| path.as_path());
    let is_given = |path: &Path| !path.as_os_str().is_empty();
    match (is_given(certificate), is_given(key)) {
        (true, true) => {}
        (true, false) => {
            return invalid("tls_key", "is missing: tls_certificate needs its key".to_owned());
        }
        (false, true) => {
            return invalid("tls_certificate", "is missing: tls_key is the key of one".to_owned());
        }
        (false, false) if is_given(client_ca) => {
            let why = "needs TLS: set tls_certificate and tls_key";
            return invalid("client_ca", why.to_owned());
        }
        (false, false) => return Ok(None),
    }
    let chain = certificates("tls_certificate", certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|why| Invalid {
        key: "tls_key",
        why: format!("no private key can be read from {}: {why}", key.display()),
    })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|why| Invalid { key: "tls_certificate", why: why.to_string() })?;
    let verified = if is_given(client_ca) {
        let mut roots = RootCertStore::empty();
        for root in certificates("client_ca", client_ca)? {
            roots.add(root).map_err(|why| Invalid {
                key: "client_ca",
                why: format!("{} holds no authority: {why}", client_ca.display()),
            })?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|why| Invalid { key: "client_ca", why: why.to_string() })?;
        versions.with_client_cert_verifier(verifier)
    } else {
        versions.with_no_client_auth()
    };
    let mut tls = verified.with_single_cert(chain, private).map_err(|why| Invalid {
        key: "tls_key",
        why: format!("does not go with tls_certificate: {why}"),
    })?;
    tls.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Some(Arc::new(tls)))
}

/// The names that a certificate is of: its subject's common name, and the DNS names, URIs and e-mail addresses
/// it has besides. None if it cannot be read.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.map(str::to_owned).collect();
    if let Ok(Some(besides)) = certificate.subject_alternative_name() {
        let besides = besides.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                Some((*name).to_owned())
            }
            _ => None,
        });
        names.extend(besides);
    }
    names
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let why = match read() {
        Ok(certificates) if !certificates.is_empty() => return Ok(certificates),
        Ok(_) => "it holds none in PEM".to_owned(),
        Err(why) => why.to_string(),
    };
    let why = format!("no certificate can be read from {}: {why}", path.display());
    Err(Invalid { key, why })
}
