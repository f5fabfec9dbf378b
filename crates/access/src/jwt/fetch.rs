//! One HTTP GET of a small document.
//!
//! Redirects are not followed and proxies of the environment not used: whoever sets the URL says where the
//! keys are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

/// The longest document in bytes.
pub(crate) const MAX_DOCUMENT: usize = 256 * 1024;

/// Gets one document, again and again.
#[derive(Debug)]
pub(crate) struct Fetch {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    uri: Uri,
    timeout: Duration,
}

/// Why a document was not had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Connection(String),
    #[error("the answer has status {0}")]
    Status(http::StatusCode),
    #[error("the answer broke off or is longer than {MAX_DOCUMENT} bytes: {0}")]
    Body(String),
}

impl Fetch {
    /// Gets from `uri` by TLS, or in the clear if it says so; certificates are trusted as the system does,
    /// and those in `ca_file` as well.
    ///
    /// # Errors
    /// The file holds no certificate, or this machine has no TLS.
    pub(crate) fn new(uri: Uri, ca_file: &Path, timeout: Duration) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(authorities(ca_file)?, Arc::clone(&provider))
            .map_err(|why| why.to_string())?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| why.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let mut builder = Client::builder(TokioExecutor::new());
        // A connection is worth nothing until the next time.
        builder.pool_max_idle_per_host(0);
        Ok(Self { client: builder.build(connector), uri, timeout })
    }

    /// The document as it is now.
    pub(crate) async fn get(&self) -> Result<Bytes, FetchError> {
        tokio::time::timeout(self.timeout, self.get_at_leisure())
            .await
            .unwrap_or(Err(FetchError::Timeout(self.timeout)))
    }

    async fn get_at_leisure(&self) -> Result<Bytes, FetchError> {
        let request = Request::get(self.uri.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("footbridge/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|why| FetchError::Connection(why.to_string()))?;
        let connection = |why: &dyn std::error::Error| FetchError::Connection(chain(why));
        let answer = self.client.request(request).await.map_err(|why| connection(&why))?;
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|why| FetchError::Body(why.to_string()))
    }
}

/// The certificates in that file; none for no file.
pub(crate) fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    if file.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let shown = file.display();
    let pem = std::fs::read(file).map_err(|why| format!("cannot be read: {shown}: {why}"))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|why| format!("must hold certificates in PEM: {shown}: {why}"))?;
    if certificates.is_empty() {
        return Err(format!("must hold certificates in PEM, and {shown} holds none"));
    }
    Ok(certificates)
}

/// An error with what is behind it: the library says only "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut behind = error.source();
    while let Some(source) = behind {
        said = format!("{said}: {source}");
        behind = source.source();
    }
    said
}
