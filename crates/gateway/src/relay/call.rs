//! Calls of the application: what is asked, and what follows from its answer.
//!
//! Invariants
//! - Where an application sends is trusted, what it sends is not: of an answer that is not well-formed as a
//!   whole nothing is sent.
//! - Who asked is told of a failure, at `/user/queue/errors`, before the receipt; nobody else is.
//! - A call does not need its session: what it owns is all it takes.

use std::future::Future;
use std::sync::Arc;

use access::Authentication;
use broker::destination::{App, Kind, UserDestination, Verb};
use broker::{Confirm, Destination, Message, MessageId, PublisherId, header};
use bytes::Bytes;
use bytestring::ByteString;
use cluster::{Addressed, Target};
use presence::{GroupName, SessionId};
use tokio::time::Instant;

use super::error_note::{ERRORS, ErrorNote};
use super::user::Kept;
use super::{Refused, user};
use crate::application::{Answer, Call, CallError, Caller, Content, Pairs, To};
use crate::close::CloseReason;
use crate::node::Node;

/// The longest name of a header in bytes, as AMQP has it.
const NAME: usize = 255;

/// One call to be made.
pub(crate) struct Asking {
    node: Arc<Node>,
    publisher: PublisherId,
    call: Call,
    /// The receipt that the client asked for.
    receipt: Option<ByteString>,
    /// Whether the client waits for a receipt that covers it.
    receipted: bool,
}

/// Where a message of an answer goes.
enum Place {
    Broker(Destination),
    Asking(ByteString),
    User { name: ByteString, path: ByteString },
    Group(GroupName),
}

impl Asking {
    /// A call on that node by that publisher, which shares no bytes with the buffer that it came in.
    pub(crate) fn new(
        (node, publisher, caller): (&Arc<Node>, PublisherId, &Caller),
        destination: &ByteString,
        app: App,
        headers: Pairs,
        body: Bytes,
    ) -> Self {
        let copied = |text: &ByteString| ByteString::from(text.to_string());
        let call = Call {
            caller: caller.clone(),
            destination: copied(destination),
            prefix: app.prefix,
            path: copied(&app.path),
            headers,
            body,
        };
        let node = Arc::clone(node);
        Self { node, publisher, call, receipt: None, receipted: false }
    }

    pub(super) fn receipted(mut self, receipt: Option<ByteString>, receipted: bool) -> Self {
        (self.receipt, self.receipted) = (receipt, receipted);
        self
    }

    /// Makes the call of a SEND, and sends what is answered; done once all of that is confirmed.
    pub(crate) async fn message(self) -> Result<(), CallError> {
        let call = self.call.clone();
        self.told(async {
            let answers = self.node.application.message(call).await?;
            let placed = answers.into_iter().map(|answer| self.place(answer)).collect();
            let placed: Vec<(Place, Content)> = self.well_formed(placed)?;
            let mut confirms = Vec::with_capacity(placed.len());
            for (place, content) in placed {
                confirms.push(self.send(place, content).await.map_err(|refused| {
                    let why = refused.message;
                    tracing::warn!(destination = &*self.call.destination, why, "an answer is not sent");
                    CallError::NotSent
                })?);
            }
            Confirm::all(confirms).await.map_err(|error| {
                tracing::warn!(destination = &*self.call.destination, %error, "an answer is not sent");
                CallError::NotSent
            })
        })
        .await
    }

    /// Makes the call of a SUBSCRIBE: what the subscription gets.
    pub(crate) async fn subscribe(self) -> Result<Vec<Content>, CallError> {
        let call = self.call.clone();
        self.told(async {
            let contents = self.node.application.subscribe(call).await?;
            let check = |content: Content| check(&content).map(|()| content);
            self.well_formed(contents.into_iter().map(check).collect())
        })
        .await
    }

    /// What comes of `calling`; if it fails, who asked is told, and it is counted either way.
    async fn told<T>(
        &self,
        calling: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let since = Instant::now();
        let result = calling.await;
        let outcome = result.as_ref().map_or_else(CallError::label, |_| "answered");
        self.node.metrics.called(outcome, since.elapsed());
        if let Err(error) = &result {
            self.tell(error).await;
        }
        result
    }

    async fn tell(&self, error: &CallError) {
        tracing::debug!(
            session = &*self.call.caller.session,
            destination = &*self.call.destination,
            code = error.code(),
            %error,
            "a call failed"
        );
        let note = ErrorNote {
            error: error.code(),
            destination: &self.call.destination,
            receipt: self.receipt.as_deref(),
            text: &error.to_string(),
        };
        self.deliver(ERRORS.into(), note.content()).await;
    }

    fn well_formed<T>(&self, checked: Result<T, String>) -> Result<T, CallError> {
        checked.map_err(|why| {
            tracing::warn!(destination = &*self.call.destination, why, "an answer makes no sense");
            CallError::Nonsense
        })
    }

    /// Where an answer goes, or what is wrong with it.
    fn place(&self, Answer { to, content }: Answer) -> Result<(Place, Content), String> {
        check(&content)?;
        let own = |path: ByteString| self.own(&path).map(|()| path);
        let place = match to {
            To::Session(path) => Place::Asking(own(path)?),
            To::User(path) => match &self.call.caller.principal {
                // Its user has this one session; another may have the name that all such principals share.
                nobody if nobody.authentication == Authentication::Anonymous => {
                    Place::Asking(own(path)?)
                }
                somebody => Place::User { name: somebody.name.clone(), path: own(path)? },
            },
            To::Destination(text) => {
                let parsed = self.node.destinations.parse(&text, Verb::Send);
                match parsed.map_err(|error| error.to_string())? {
                    Destination::User(UserDestination { name: Some(name), path }) => {
                        Place::User { name, path }
                    }
                    Destination::Group(name) => {
                        Place::Group(GroupName::new(name).map_err(|why| why.to_string())?)
                    }
                    Destination::App(_) => {
                        return Err(format!(
                            "{text} is the application's own: it would call itself"
                        ));
                    }
                    destination => Place::Broker(destination),
                }
            }
        };
        Ok((place, content))
    }

    /// Whether `path` is something within a user.
    fn own(&self, path: &str) -> Result<(), String> {
        let mut prefixes = self.node.destinations.prefixes();
        let (prefix, _) = prefixes
            .find(|(_, kind)| *kind == Kind::User)
            .ok_or("no prefix is of kind user, so nobody can subscribe to replies")?;
        let parsed = self.node.destinations.parse(&format!("{prefix}{path}"), Verb::Subscribe);
        match parsed.map_err(|error| error.to_string())? {
            Destination::User(_) => Ok(()),
            _ => Err(format!("{path} is nothing within a user: use /queue/reply, say")),
        }
    }

    async fn send(&self, place: Place, content: Content) -> Result<Confirm, Refused> {
        let persistent = content.persistent.unwrap_or(self.receipted);
        match place {
            Place::Broker(destination) => {
                let mut message = Message::new(destination, content.body);
                message.headers = content.headers;
                message.persistent = persistent;
                Ok(self.node.broker.publish(self.publisher, message).await?)
            }
            Place::Asking(path) => {
                self.deliver(path, letter_of(content)).await;
                Ok(Confirm::known(Ok(())))
            }
            Place::User { name, path } => {
                let to = UserDestination { name: Some(name), path };
                let kept = Kept::of(content.persistent, self.receipted);
                user::send(&self.node, self.publisher, to, letter_of(content), kept).await
            }
            Place::Group(group) => {
                let router = &self.node.router;
                let sent = router.to_group(self.publisher, &group, letter_of(content), persistent);
                Ok(sent.await?)
            }
        }
    }

    /// Delivers to the session that asked.
    async fn deliver(&self, path: ByteString, content: cluster::Content) {
        // The node's own ids are ids.
        let Ok(session) = SessionId::new(self.call.caller.session.clone()) else { return };
        let addressed =
            Addressed { to: vec![Target::Session(session)], path, audience: Vec::new(), content };
        self.node.users.deliver(&addressed, false).await;
    }
}

/// What a letter holds of it.
fn letter_of(content: Content) -> cluster::Content {
    cluster::Content { id: MessageId::new(), headers: content.headers, body: content.body }
}

/// What is wrong with a message, if anything is.
fn check(content: &Content) -> Result<(), String> {
    for (name, value) in &content.headers {
        if name.is_empty() {
            return Err("a header has no name".into());
        }
        if name.len() > NAME {
            return Err(format!("a header's name is longer than {NAME} bytes"));
        }
        if header::is_reserved(name) {
            return Err(format!("the header {name:?} is for the server to set"));
        }
        if name.chars().chain(value.chars()).any(char::is_control) {
            return Err(format!("the header {name:?} holds a control character"));
        }
    }
    Ok(())
}

/// What a destination that there is no application for is told.
pub(super) fn no_application(destination: &str) -> Refused {
    Refused::titled(
        stomp::Title::InvalidDestination,
        CloseReason::Protocol,
        format!(
            "nothing handles {destination}: no application is configured (application.routes); use a topic or \
             a queue"
        ),
    )
}
