//! Sending as a service does: one stream of messages, many on their way at once, each with its answer.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use anyhow::{Context, bail};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use proto::v1::message::Body;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::send_request::To;
use proto::v1::stored_for_user::Outcome;
use proto::v1::{
    DeliveryRef, Durable, Failure, Header, Message, PublishRequest, PublishResponse,
    PublishStreamResponse, SendRequest, SendResponse, SendStreamResponse, SendToAllRequest,
    SendToGroupRequest, SendToSessionRequest, SendToUserRequest, Stored, publish_stream_response,
    send_stream_response,
};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::{Bodies, Envelope, Recipients};
use crate::deliveries;
use crate::grpc::{Notifier, reason, shown};

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

/// Says whom a message reached.
#[expect(clippy::print_stdout, reason = "it is the answer")]
fn show(sent: &SendResponse) {
    match &sent.stored {
        Some(stored) => println!("{}: message {}", inboxes(stored), sent.message_id),
        None => println!("{}", reach(sent)),
    }
}

/// Says that a message waits.
#[expect(clippy::print_stdout, reason = "it is the answer")]
fn show_later(published: &PublishResponse) {
    let what = if published.known { "known" } else { "stored until then" };
    println!("{what}: message {}", published.message_id);
}

/// In how many inboxes a message is.
fn inboxes(stored: &Stored) -> String {
    let Stored { stored, scheduled, known, full, users } = stored;
    let mut said = Vec::new();
    for (count, what) in
        [(stored, "stored"), (scheduled, "scheduled"), (known, "known before"), (full, "full")]
    {
        match count {
            0 => {}
            1 => said.push(format!("{what} in 1 inbox")),
            count => said.push(format!("{what} in {count} inboxes")),
        }
    }
    let mut text = if said.is_empty() { "for nobody".to_owned() } else { said.join(", ") };
    let full = users.iter().filter(|one| one.outcome() == Outcome::Full);
    let full: Vec<_> = full.map(|one| shown(&one.user)).collect();
    if !full.is_empty() {
        text.push_str(&format!(" (of {})", full.join(", ")));
    }
    text
}

/// What may be watched of a message.
fn kept(sent: &SendResponse, destination: &str) -> Vec<DeliveryRef> {
    let mut by_id = BTreeMap::<&str, BTreeSet<&String>>::new();
    let users = sent.stored.iter().flat_map(|stored| &stored.users);
    for one in users.filter(|one| !one.message_id.is_empty()) {
        by_id.entry(&one.message_id).or_default().insert(&one.user);
    }
    let of = |(message_id, users): (&str, BTreeSet<&String>)| DeliveryRef {
        users: users.into_iter().cloned().collect(),
        destination: destination.to_owned(),
        message_id: message_id.to_owned(),
    };
    by_id.into_iter().map(of).collect()
}

/// What may be watched of a message that was published to be delivered later: it is in a user's inbox, or in
/// nobody's.
fn published_later(destination: &str, published: PublishResponse) -> DeliveryRef {
    let message_id = published.message_id;
    let within = destination.strip_prefix("/user/").and_then(|rest| {
        let at = rest.find('/')?;
        Some((rest.get(..at)?.to_owned(), rest.get(at..)?.to_owned()))
    });
    let (users, destination) = match within {
        Some((user, path)) => (vec![user], path),
        None => (Vec::new(), destination.to_owned()),
    };
    DeliveryRef { users, destination, message_id }
}

/// How many sessions on how many nodes, and of which target where there are several.
fn reach(sent: &SendResponse) -> String {
    let SendResponse { sessions, nodes, reached, uncertain_nodes, uncounted, .. } = sent;
    let plural = |count: u64, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    let mut text = match (uncounted, sessions) {
        (true, _) => "sent, and nobody could count the sessions".to_owned(),
        (false, 0) => "no session".to_owned(),
        (false, sessions) => {
            format!("{} on {}", plural(*sessions, "session"), plural((*nodes).into(), "node"))
        }
    };
    if !uncounted && reached.len() > 1 {
        let each: Vec<_> = reached
            .iter()
            .map(|reached| format!("{} {}", shown(&reached.target), reached.sessions))
            .collect();
        text.push_str(&format!(" ({})", each.join(", ")));
    }
    if *uncertain_nodes > 0 {
        let nodes = plural((*uncertain_nodes).into(), "node");
        text.push_str(&format!(", and to {nodes} whose sessions could not be counted"));
    }
    text
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
    use proto::v1::{Reached, StoredForUser};

    use super::super::DurableOptions;
    use super::*;

    #[test]
    fn what_is_stored_is_told_in_words_and_can_be_watched() {
        let one = |user: &str, outcome: Outcome, id: &str| StoredForUser {
            user: user.to_owned(),
            outcome: outcome.into(),
            message_id: id.to_owned(),
        };
        let users = vec![
            one("ann", Outcome::Stored, "2"),
            one("bob", Outcome::Known, "1"),
            one("cid", Outcome::Full, ""),
            one("ann", Outcome::Stored, "2"),
        ];
        let stored = Stored { stored: 2, known: 1, full: 1, users, ..Stored::default() };
        assert_eq!(
            inboxes(&stored),
            "stored in 2 inboxes, known before in 1 inbox, full in 1 inbox (of cid)"
        );
        assert_eq!(inboxes(&Stored::default()), "for nobody");
        let sent = SendResponse { stored: Some(stored), ..SendResponse::default() };
        let watched: Vec<_> = kept(&sent, "/queue/a")
            .into_iter()
            .map(|of| (of.users.join(","), of.message_id))
            .collect();
        let expected = [("bob", "1"), ("ann", "2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(watched, expected);
    }

    #[test]
    fn what_is_published_to_a_user_later_is_in_an_inbox() {
        for (destination, users, path) in
            [("/topic/a", vec![], "/topic/a"), ("/user/ann/queue/b/c", vec!["ann"], "/queue/b/c")]
        {
            let of = published_later(destination, PublishResponse::default());
            assert_eq!(
                (of.users, &*of.destination),
                (users.into_iter().map(str::to_owned).collect(), path)
            );
        }
    }

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

    #[test]
    fn the_reach_of_a_message_is_told_in_words() {
        let reached = |targets: &[(&str, u64)]| {
            let reached = targets.iter();
            reached.map(|(name, n)| Reached { target: (*name).into(), sessions: *n }).collect()
        };
        let one = SendResponse {
            sessions: 1,
            nodes: 1,
            reached: reached(&[("ann", 1)]),
            ..SendResponse::default()
        };
        assert_eq!(reach(&one), "1 session on 1 node");
        let two = SendResponse {
            sessions: 3,
            nodes: 2,
            reached: reached(&[("ann", 3), ("b\x1bb", 0)]),
            uncertain_nodes: 1,
            ..SendResponse::default()
        };
        assert_eq!(
            reach(&two),
            "3 sessions on 2 nodes (ann 3, b\\u{1b}b 0), and to 1 node whose sessions could not be counted"
        );
        assert_eq!(reach(&SendResponse::default()), "no session");
        let uncounted = SendResponse { uncounted: true, ..two };
        assert!(reach(&uncounted).starts_with("sent, and nobody could count"), "{uncounted:?}");
    }
}
