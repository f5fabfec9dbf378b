//! The way to a notifier by gRPC, for the terminal commands and the benchmark.
//!
//! Not here: what is asked of it.

use std::io;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use proto::v1::Failure;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Where `footbridge notifier` and `footbridge dev` listen.
const DEFAULT_URL: &str = "http://127.0.0.1:50051";

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A notifier that is connected to, and what says who calls.
pub(crate) struct Notifier {
    url: String,
    channel: Channel,
    authorization: Option<AsciiMetadataValue>,
}

/// The URL where none is given.
pub(crate) fn default_url() -> String {
    std::env::var("FOOTBRIDGE_GRPC").unwrap_or_else(|_| DEFAULT_URL.to_owned())
}

impl Notifier {
    /// Connects.
    ///
    /// # Errors
    /// The URL is none that is spoken here, the token cannot be sent, or nobody listens.
    pub(crate) async fn connect(url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let authorization = token.map(authorization).transpose()?;
        if !url.starts_with("http://") {
            bail!("{url} is no http:// URL such as {DEFAULT_URL}; TLS is not spoken");
        }
        let endpoint = Endpoint::from_shared(url.to_owned())
            .with_context(|| format!("{url} is no URL such as {DEFAULT_URL}"))?
            .connect_timeout(CONNECT_TIMEOUT);
        let channel = endpoint.connect().await.map_err(|error| {
            let error = anyhow::Error::new(error);
            let refused = |cause: &io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
            if error.chain().any(|cause| cause.downcast_ref().is_some_and(refused)) {
                anyhow!(
                    "nobody listens at {url}: start `footbridge dev` or `footbridge notifier`, or say \
                     where with --grpc=URL"
                )
            } else {
                error.context(format!("cannot connect to {url}"))
            }
        })?;
        Ok(Self { url: url.to_owned(), channel, authorization })
    }

    /// Where its services are called.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A call that says who calls.
    pub(crate) fn call<R>(&self, request: R) -> Request<R> {
        let mut call = Request::new(request);
        if let Some(authorization) = &self.authorization {
            call.metadata_mut().insert("authorization", authorization.clone());
        }
        call
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What a status means, and what to do.
    pub(crate) fn explain(&self, status: &Status) -> anyhow::Error {
        let url = &self.url;
        match status.code() {
            Code::Unimplemented => {
                anyhow!("{url} has no such call of footbridge.v1: is it `footbridge notifier`?")
            }
            // Made up by the client, which did not understand the server: ours says neither.
            Code::Unknown | Code::Internal => anyhow!(
                "{url} does not speak gRPC, or broke off: is it `footbridge notifier`? ({})",
                status.message()
            ),
            code => anyhow!("{url} says: {} ({code:?})", status.message()),
        }
    }
}

/// What says who calls. A token that cannot be sent is not shown in the error.
fn authorization(token: &str) -> anyhow::Result<AsciiMetadataValue> {
    let mut authorization: AsciiMetadataValue =
        format!("Bearer {token}").parse().map_err(|_| {
            anyhow!("--token (FOOTBRIDGE_TOKEN) holds what no token has, such as a line end")
        })?;
    authorization.set_sensitive(true);
    Ok(authorization)
}

/// Why a message of a stream was not confirmed.
pub(crate) fn reason(failure: &Failure) -> String {
    let Failure { code, message, unconfirmed_message_id: id, retry_delay, .. } = failure;
    let mut text = format!("{message} ({:?})", Code::from(*code));
    if !id.is_empty() {
        text.push_str(&format!("; if it was taken, its id is {id}"));
    }
    if let Some(delay) = retry_delay {
        text.push_str(&format!("; try again in {} s", delay.seconds.max(1)));
    }
    text
}

/// A name or an address as a terminal may show it: what others chose cannot move the cursor.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_debug()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_is_known() {
        let failure = Failure {
            code: Code::Unavailable.into(),
            message: "broker is away".into(),
            field: String::new(),
            retry_delay: Some(Duration::from_secs(2).try_into().unwrap()),
            unconfirmed_message_id: "01X".into(),
        };
        assert_eq!(
            reason(&failure),
            "broker is away (Unavailable); if it was taken, its id is 01X; try again in 2 s"
        );
    }
}
