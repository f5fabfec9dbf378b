//! Sending as a service does: one stream of publishes, many on their way at once, each with its answer.

use std::io;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_util::stream;
use proto::v1::message::Body;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::publish_stream_response::Outcome;
use proto::v1::{Failure, Header, Message, PublishRequest};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::{Bodies, Envelope};

/// Where `footbridge notifier` and `footbridge dev` listen.
const DEFAULT_URL: &str = "http://127.0.0.1:50051";

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that were read and wait to be written; beyond it the input is not read.
const WAITING: usize = 64;

/// The URL where none is given.
pub(super) fn default_url() -> String {
    std::env::var("FOOTBRIDGE_GRPC").unwrap_or_else(|_| DEFAULT_URL.to_owned())
}

/// Publishes everything and says what failed. What failed does not keep the rest from being sent.
pub(super) async fn send(
    url: &str,
    token: Option<&str>,
    envelope: Envelope,
    mut bodies: Bodies,
) -> anyhow::Result<()> {
    let authorization = token.map(authorization).transpose()?;
    let envelope = Message::try_from(&envelope).map(|message| (envelope.destination, message))?;
    let mut client = connect(url).await?;
    let many = matches!(bodies, Bodies::Lines(_));
    let (requests, waiting) = mpsc::channel(WAITING);
    let (mut sent, mut answered, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut last_failure = None;
    let ended = {
        let feed = async {
            while let Some(body) = bodies.next().await? {
                if requests.send(request(&envelope, body)).await.is_err() {
                    break;
                }
                sent += 1;
            }
            // The end of the input is the end of the stream.
            drop(requests);
            anyhow::Ok(())
        };
        let waiting = stream::unfold(waiting, |mut waiting| async {
            waiting.recv().await.map(|request| (request, waiting))
        });
        let listen = async {
            let mut call = Request::new(waiting);
            if let Some(authorization) = authorization {
                call.metadata_mut().insert("authorization", authorization);
            }
            let mut answers = client.publish_stream(call).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                answered += 1;
                if let Some(Outcome::Failure(failure)) = answer.outcome {
                    failed += 1;
                    if many {
                        tell(answered, &failure);
                    }
                    last_failure = Some(failure);
                }
            }
            Ok::<(), Status>(())
        };
        let mut listen = pin!(listen);
        tokio::select! {
            ended = &mut listen => ended,
            fed = feed => {
                // What was read is published, even if the rest cannot be read.
                let ended = listen.await;
                fed?;
                ended
            }
        }
    };
    if let Err(status) = ended {
        let why = explain(url, &status);
        return Err(if answered == 0 && !many {
            why
        } else {
            why.context(format!("the stream ended after {answered} answers"))
        });
    }
    if answered < sent {
        bail!("{url} ended the stream and left {} messages unanswered", sent - answered);
    }
    match last_failure {
        None => Ok(()),
        Some(failure) if !many => bail!(reason(&failure)),
        Some(_) => bail!("{failed} of {sent} messages were not confirmed"),
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

async fn connect(url: &str) -> anyhow::Result<NotificationsClient<Channel>> {
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
    Ok(NotificationsClient::new(channel))
}

/// Everything but the body. Two headers are fields of the message.
impl TryFrom<&Envelope> for Message {
    type Error = anyhow::Error;

    fn try_from(envelope: &Envelope) -> anyhow::Result<Self> {
        let mut message = Self {
            content_type: envelope.content_type.clone().unwrap_or_default(),
            ..Self::default()
        };
        for (name, value) in &envelope.headers {
            match &**name {
                "content-type" if message.content_type.is_empty() => {
                    message.content_type.clone_from(value);
                }
                "content-type" => bail!("the content type is given twice"),
                "persistent" => {
                    let persistent = value.parse();
                    message.persistent =
                        Some(persistent.context("the header persistent is true or false")?);
                }
                _ => message.headers.push(Header { name: name.clone(), value: value.clone() }),
            }
        }
        Ok(message)
    }
}

fn request((destination, message): &(String, Message), body: Vec<u8>) -> PublishRequest {
    let body = Some(typed(body, &message.content_type));
    let message = Message { body, ..message.clone() };
    PublishRequest { destination: destination.clone(), message: Some(message) }
}

/// The body as what it is: JSON where it is called so and is so, else text, else bytes.
fn typed(body: Vec<u8>, content_type: &str) -> Body {
    match String::from_utf8(body) {
        Ok(text) if is_json(content_type) && serde_json::from_str::<IgnoredAny>(&text).is_ok() => {
            Body::Json(text)
        }
        Ok(text) => Body::Text(text),
        Err(error) => Body::Bytes(error.into_bytes().into()),
    }
}

/// `application/json`, and types such as `application/geo+json`; parameters do not matter.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Says at once why a line was not confirmed.
#[expect(clippy::print_stderr, reason = "more messages follow, and more failures")]
fn tell(number: u64, failure: &Failure) {
    eprintln!("error: line {number}: {}", reason(failure));
}

fn reason(failure: &Failure) -> String {
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

/// What the end of a stream means, and what to do.
fn explain(url: &str, status: &Status) -> anyhow::Error {
    match status.code() {
        Code::Unimplemented => {
            anyhow!("{url} has no footbridge.v1.Notifications: is it `footbridge notifier`?")
        }
        // Made up by the client, which did not understand the server: ours says neither.
        Code::Unknown | Code::Internal => anyhow!(
            "{url} does not speak gRPC, or broke off: is it `footbridge notifier`? ({})",
            status.message()
        ),
        code => anyhow!("{url} says: {} ({code:?})", status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_sent_as_what_it_is() {
        for (body, content_type, expected) in [
            ("{\"a\":1}", "application/json", Body::Json("{\"a\":1}".into())),
            ("[1]", "Application/JSON; charset=utf-8", Body::Json("[1]".into())),
            ("1", "application/geo+json", Body::Json("1".into())),
            ("{a", "application/json", Body::Text("{a".into())),
            ("{\"a\":1}", "", Body::Text("{\"a\":1}".into())),
            ("", "text/plain", Body::Text(String::new())),
        ] {
            assert_eq!(typed(body.into(), content_type), expected, "{body} {content_type}");
        }
        assert_eq!(typed(vec![0xff], "application/json"), Body::Bytes(vec![0xff].into()));
    }

    #[test]
    fn headers_that_are_fields_become_fields() {
        let envelope = |headers: &[(&str, &str)]| Envelope {
            destination: "/topic/a".into(),
            content_type: None,
            headers: headers.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
        };
        let headers = [("a", "1"), ("content-type", "text/html"), ("persistent", "false")];
        let message = Message::try_from(&envelope(&headers)).unwrap();
        assert_eq!((&*message.content_type, message.persistent), ("text/html", Some(false)));
        let names: Vec<_> = message.headers.iter().map(|header| &*header.name).collect();
        assert_eq!(names, ["a"]);
        for wrong in [("persistent", "yes"), ("content-type", "b")] {
            Message::try_from(&envelope(&[("content-type", "a"), wrong])).unwrap_err();
        }
    }

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
