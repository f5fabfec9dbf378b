//! Sending as a service does: one stream of messages, many on their way at once, each with its answer.

use std::cell::RefCell;
use std::pin::pin;

use anyhow::{Context, bail};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use proto::v1::message::Body;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::send_request::To;
use proto::v1::{
    Durable, Failure, Header, Message, PublishRequest, PublishStreamResponse, SendRequest,
    SendStreamResponse, SendToAllRequest, SendToGroupRequest, SendToSessionRequest,
    SendToUserRequest, publish_stream_response, send_stream_response,
};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::answers::{kept, published_later, show, show_later};
use super::{Bodies, Envelope, Recipients};
use crate::deliveries;
use crate::grpc::{Notifier, reason};

/// Requests that were read and wait to be written; beyond it the input is not read.
const WAITING: usize = 64;

/// Sends everything and says what failed. What failed does not keep the rest from being sent.
pub(super) async fn send(
    url: &str,
    token: Option<&str>,
    to: Option<Recipients>,
    envelope: Envelope,
    bodies: Bodies,
) -> anyhow::Result<()> {
    let message = Message::try_from(&envelope)?;
    let Envelope { destination, durable: options, .. } = envelope;
    let publish = match &to {
        None => options.of_publish()?,
        Some(Recipients::Sessions(_)) => options.none().map(|()| Default::default())?,
        Some(Recipients::Groups(_) | Recipients::All) if options.watch => {
            bail!("--watch is for messages whose users are named: give --user")
        }
        Some(_) => Default::default(),
    };
    if to.is_none() && options.watch && publish.0.is_none() {
        bail!("--watch is for what is stored: give --user, or --deliver-at");
    }
    let durable = options.of_users()?;
    let notifier = Notifier::connect(url, token).await?;
    let mut client = NotificationsClient::new(notifier.channel());
    // What is watched in the end, if that is wanted.
    let stored = RefCell::new(Vec::new());
    match to {
        None => {
            let (deliver_at, idempotency_key) = publish;
            let request = |body| PublishRequest {
                destination: destination.clone(),
                message: Some(with_body(&message, body)),
                deliver_at,
                idempotency_key: idempotency_key.clone(),
            };
            let call = async |requests| client.publish_stream(requests).await;
            let read = |answer: PublishStreamResponse| match answer.outcome {
                Some(publish_stream_response::Outcome::Failure(failure)) => Err(failure),
                Some(publish_stream_response::Outcome::Published(published)) => {
                    if deliver_at.is_some() {
                        show_later(&published);
                    }
                    stored.borrow_mut().push(published_later(&destination, published));
                    Ok(())
                }
                None => Ok(()),
            };
            send_all(&notifier, bodies, request, call, read).await?;
        }
        Some(to) => {
            let request =
                |body| to.request(&destination, with_body(&message, body), durable.clone());
            let call = async |requests| client.send_stream(requests).await;
            let read = |answer: SendStreamResponse| match answer.outcome {
                Some(send_stream_response::Outcome::Failure(failure)) => Err(failure),
                Some(send_stream_response::Outcome::Sent(sent)) => {
                    show(&sent);
                    stored.borrow_mut().extend(kept(&sent, &destination));
                    Ok(())
                }
                None => Ok(()),
            };
            send_all(&notifier, bodies, request, call, read).await?;
        }
    }
    let stored = stored.into_inner();
    match options.watch && !stored.is_empty() {
        true => deliveries::watch(&notifier, stored, true, std::io::stdout()).await,
        false => Ok(()),
    }
}

/// Makes each body a request of one stream, and reads every answer.
async fn send_all<R: Send + 'static, A>(
    notifier: &Notifier,
    mut bodies: Bodies,
    request: impl Fn(Vec<u8>) -> R,
    call: impl AsyncFnOnce(Request<BoxStream<'static, R>>) -> Result<Response<Streaming<A>>, Status>,
    read: impl Fn(A) -> Result<(), Failure>,
) -> anyhow::Result<()> {
    let url = notifier.url();
    let many = matches!(bodies, Bodies::Lines(_));
    let (requests, waiting) = mpsc::channel(WAITING);
    let (mut sent, mut answered, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut last_failure = None;
    let ended = {
        let feed = async {
            while let Some(body) = bodies.next().await? {
                if requests.send(request(body)).await.is_err() {
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
            let mut answers = call(notifier.call(waiting.boxed())).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                answered += 1;
                if let Err(failure) = read(answer) {
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
        let why = notifier.explain(&status);
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

impl Recipients {
    fn request(
        &self,
        destination: &str,
        message: Message,
        durable: Option<Durable>,
    ) -> SendRequest {
        let (destination, message, audience) = (destination.to_owned(), Some(message), None);
        let to = match self.clone() {
            Self::Users(users) => {
                To::Users(SendToUserRequest { users, destination, message, audience, durable })
            }
            Self::Sessions(sessions) => {
                To::Sessions(SendToSessionRequest { sessions, destination, message, audience })
            }
            Self::Groups(groups) => {
                To::Groups(SendToGroupRequest { groups, destination, message, audience, durable })
            }
            Self::All => To::All(SendToAllRequest { destination, message, audience, durable }),
        };
        SendRequest { to: Some(to) }
    }
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

fn with_body(message: &Message, body: Vec<u8>) -> Message {
    Message { body: Some(typed(body, &message.content_type)), ..message.clone() }
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

#[cfg(test)]
mod tests {
    use super::super::DurableOptions;
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
            durable: DurableOptions::default(),
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
}
