//! Which service a call goes to, and for how long.
//!
//! Invariant: the longest prefix wins, word by word: `/app/chat` is no prefix of `/app/chatter`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, Destinations, PublisherId};
use bytestring::ByteString;
use gateway::CloseReason;
use gateway::application::{
    Answer, Application, Call, CallError, Caller, ConnectError, Connecting, Content, Hook,
};
use presence::Attributes;
use proto::v1::{
    ApplicationConnectResponse, ApplicationDisconnectRequest, ApplicationMessageResponse,
    ApplicationSubscribeResponse,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::{Asked, Config, Invalid};
use crate::grpc::Grpc;
use crate::queue::{Kind, Queue};
use crate::replies::Replies;
use crate::wire;

/// By which these calls are known to the broker. Sessions and callers are numbered from below; above are
/// those of what nodes say of themselves, of who comes and goes, and of the notifier's answers.
const PUBLISHER: PublisherId = PublisherId(u64::MAX - 3);

/// The services behind the prefixes.
pub struct Routes {
    /// The longest prefixes first.
    routes: Vec<Route>,
    /// What hooks are shown, if there is any.
    hook: Option<Hook>,
    destinations: Destinations,
}

struct Route {
    prefix: String,
    service: Service,
    timeout: Duration,
    /// A permit for each call that may be in flight.
    places: Semaphore,
    hook: Asked,
}

enum Service {
    Grpc(Grpc),
    Queue(Queue),
}

impl Routes {
    /// The routes of `config`, which has passed its check. Must be called within the runtime.
    ///
    /// # Errors
    /// When a file cannot be read, or holds no certificates.
    pub fn start(
        config: &Config,
        destinations: &Destinations,
        broker: &Arc<dyn Broker>,
    ) -> Result<Self, Invalid> {
        let mut replies = None;
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in &config.routes {
            let service = match route.queue.is_empty() {
                true => Service::Grpc(Grpc::new(route, config)?),
                false => {
                    let replies = replies.get_or_insert_with(|| {
                        Arc::new(Replies::start(Arc::clone(broker), PUBLISHER))
                    });
                    Service::Queue(Queue::new(route, Arc::clone(broker), PUBLISHER, replies))
                }
            };
            routes.push(Route {
                prefix: route.prefix.clone(),
                service,
                timeout: route.timeout,
                places: Semaphore::new(route.max_concurrent),
                hook: route.hook,
            });
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        let hook = routes.iter().any(|route| route.hook != Asked::Off).then(|| Hook {
            headers: config.hook_headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            query: config.hook_query.clone(),
            cookies: config.hook_cookies.clone(),
        });
        Ok(Self { routes, hook, destinations: destinations.clone() })
    }

    /// The route of a destination, by the longest prefix.
    fn route(&self, call: &Call) -> Result<&Route, CallError> {
        let destination = format!("{}/{}", call.prefix, call.path);
        let within = |route: &&Route| {
            let rest = destination.strip_prefix(&route.prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.routes.iter().find(within).ok_or_else(|| no_handler(&call.destination))
    }
}

impl Route {
    /// Does `calling` when there is a place for it, and says until when.
    async fn within<T>(
        &self,
        calling: impl AsyncFnOnce(Instant) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let deadline = Instant::now() + self.timeout;
        // No longer: a service that hangs would be sent calls whose time is over before they are there.
        match tokio::time::timeout(self.timeout / 2, self.places.acquire()).await {
            Ok(Ok(_place)) => calling(deadline).await,
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(CallError::Busy),
        }
    }

    fn nonsense(&self, why: String) -> CallError {
        tracing::warn!(prefix = self.prefix, why, "an application's answer makes no sense");
        CallError::Nonsense
    }

    async fn message(
        &self,
        call: Call,
        destinations: &Destinations,
        deadline: Instant,
    ) -> Result<Vec<Answer>, CallError> {
        match &self.service {
            Service::Grpc(grpc) => {
                let request = wire::message(call);
                let answer = grpc.ask(&request, deadline, |mut client, request| async move {
                    client.message(request).await
                });
                let ApplicationMessageResponse { sends, error } = answer.await?;
                match error {
                    Some(error) => Err(wire::error(error)),
                    None => {
                        let answers = sends.into_iter().map(wire::answer);
                        answers.collect::<Result<_, _>>().map_err(|why| self.nonsense(why))
                    }
                }
            }
            Service::Queue(queue) => match queue.ask(Kind::Message, call, deadline).await? {
                None => Ok(Vec::new()),
                Some(reply) => wire::reply(&reply, destinations),
            },
        }
    }

    async fn subscribe(&self, call: Call, deadline: Instant) -> Result<Vec<Content>, CallError> {
        match &self.service {
            Service::Grpc(grpc) => {
                let request = wire::subscribe(call);
                let answer = grpc.ask(&request, deadline, |mut client, request| async move {
                    client.subscribe(request).await
                });
                let ApplicationSubscribeResponse { messages, error } = answer.await?;
                match error {
                    Some(error) => Err(wire::error(error)),
                    None => {
                        let contents = messages.into_iter().map(wire::content);
                        contents.collect::<Result<_, _>>().map_err(|why| self.nonsense(why))
                    }
                }
            }
            Service::Queue(queue) => match queue.ask(Kind::Subscribe, call, deadline).await? {
                None => Ok(Vec::new()),
                Some(reply) => wire::reply_to_subscribe(&reply),
            },
        }
    }

    /// Asks the hook. Without one, anybody may come in.
    async fn connect(&self, connecting: Connecting) -> Result<Attributes, ConnectError> {
        let Service::Grpc(grpc) = &self.service else { return Ok(Attributes::new()) };
        let request = wire::connect(connecting);
        let answer = self.within(async |deadline| {
            let call = grpc.ask(&request, deadline, |mut client, request| async move {
                client.connect(request).await
            });
            call.await
        });
        match (answer.await, self.hook) {
            (Ok(ApplicationConnectResponse { refusal: Some(refusal), .. }), _) => {
                let (reason, unauthenticated) = (refusal.reason, refusal.unauthenticated);
                Err(ConnectError::Refused { reason: told(reason), unauthenticated })
            }
            (Ok(ApplicationConnectResponse { refusal: None, attributes }), _) => {
                Ok(wire::attributes(attributes))
            }
            (Err(CallError::NoHandler { .. }), _) => Ok(Attributes::new()),
            (Err(CallError::Refused { code, message }), _) => Err(ConnectError::Refused {
                reason: told(message),
                unauthenticated: *code == *"unauthenticated",
            }),
            (Err(error), Asked::Optional) => {
                tracing::debug!(prefix = self.prefix, %error, "a client comes in that no hook has seen");
                Ok(Attributes::new())
            }
            (Err(error), Asked::Required | Asked::Off) => {
                tracing::debug!(prefix = self.prefix, %error, "a client is turned away that no hook has seen");
                Err(ConnectError::Unanswered)
            }
        }
    }

    async fn disconnect(&self, caller: &Caller, reason: CloseReason) {
        let Service::Grpc(grpc) = &self.service else { return };
        let request = ApplicationDisconnectRequest {
            caller: Some(wire::caller(caller)),
            reason: reason.label().to_owned(),
        };
        let told = self.within(async |deadline| {
            let call = grpc.ask(&request, deadline, |mut client, request| async move {
                client.disconnect(request).await
            });
            call.await
        });
        if let Err(error) = told.await {
            tracing::debug!(prefix = self.prefix, %error, "an application is not told that a session has ended");
        }
    }
}

#[async_trait]
impl Application for Routes {
    fn is_there(&self) -> bool {
        !self.routes.is_empty()
    }

    fn hook(&self) -> Option<&Hook> {
        self.hook.as_ref()
    }

    /// Every hook is asked, the longest prefix first; of what they annotate alike the first counts.
    async fn connect(&self, connecting: Connecting) -> Result<Attributes, ConnectError> {
        let mut attributes = Attributes::new();
        for route in self.routes.iter().filter(|route| route.hook != Asked::Off) {
            for (name, value) in route.connect(connecting.clone()).await? {
                attributes.entry(name).or_insert(value);
            }
        }
        Ok(attributes)
    }

    async fn message(&self, call: Call) -> Result<Vec<Answer>, CallError> {
        let (route, destination) = (self.route(&call)?, call.destination.clone());
        let answers =
            route.within(async |deadline| route.message(call, &self.destinations, deadline).await);
        named(answers.await, &destination)
    }

    async fn subscribe(&self, call: Call) -> Result<Vec<Content>, CallError> {
        let (route, destination) = (self.route(&call)?, call.destination.clone());
        let contents = route.within(async |deadline| route.subscribe(call, deadline).await);
        named(contents.await, &destination)
    }

    async fn disconnect(&self, caller: Caller, reason: CloseReason) {
        for route in self.routes.iter().filter(|route| route.hook != Asked::Off) {
            route.disconnect(&caller, reason).await;
        }
    }
}

fn no_handler(destination: &ByteString) -> CallError {
    CallError::NoHandler { destination: destination.clone(), hint: "" }
}

/// With the destination where nothing handles it.
fn named<T>(result: Result<T, CallError>, destination: &ByteString) -> Result<T, CallError> {
    result.map_err(|error| match error {
        CallError::NoHandler { .. } => no_handler(destination),
        error => error,
    })
}

fn told(reason: String) -> String {
    if reason.is_empty() {
        "the application does not let this client in".to_owned()
    } else {
        reason
    }
}
