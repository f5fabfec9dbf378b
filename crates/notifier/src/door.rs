//! The door: who calls, and whether the method is allowed.
//!
//! Invariants
//! - Every route is behind it, and only those of [`OPEN`] are open to whoever reaches the port.
//! - Whoever shows something wrong waits for the answer, longer each time, and an address with too many
//!   failures is turned away unseen, as clients are (`access::Failures`).
//! - No token is in any text.
//!
//! Not here: TLS and who a certificate is of (`tls`), what else a method may refuse.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use access::{Access, Failures, Permissions, Refusal};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower_layer::Layer;

use crate::config::Asked;
use crate::connection::Peer;

/// What is open: whether the node serves, and what its services look like, which the files of its release
/// show as well.
const OPEN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// The metadata that holds a token.
const AUTHORIZATION: &str = "authorization";

/// When to try again while the keys of tokens cannot be had.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Door {
    access: Arc<Access>,
    asked: Asked,
    /// The roles of whoever has a certificate of that name.
    certificate_roles: BTreeMap<String, Vec<String>>,
    /// Held to count, never across an await. At most [`access::MAX_ADDRESSES`] are in it.
    failures: Mutex<Failures>,
}

/// What was found at the door; an extension of a request that was let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// When that ends; none is never.
    pub(crate) until: Option<SystemTime>,
}

/// Puts routes behind a door.
#[derive(Clone)]
pub(crate) struct Guard(pub(crate) Arc<Door>);

/// Routes behind a door.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    routes: S,
    door: Arc<Door>,
}

impl Door {
    pub(crate) fn new(
        access: Arc<Access>,
        asked: Asked,
        certificate_roles: BTreeMap<String, Vec<String>>,
    ) -> Self {
        let failures = Mutex::new(Failures::new(access.failure_limits()));
        Self { access, asked, certificate_roles, failures }
    }

    /// Whether a caller may call the method of that path, such as
    /// `/footbridge.v1.Notifications/Publish`.
    pub(crate) async fn enter(
        &self,
        peer: Option<&Peer>,
        authorization: Option<&str>,
        path: &str,
    ) -> Result<Allowed, Status> {
        match self.asked {
            Asked::Nothing => Ok(Allowed { until: None }),
            Asked::Token => {
                let (principal, permissions) = self.token(peer, authorization).await?;
                if !permissions.allow(path) {
                    return Err(denied(&format!("the token of {:?}", &*principal.name), path));
                }
                Ok(Allowed { until: principal.expires_at })
            }
            Asked::Certificate => {
                let names = peer.map_or(&[][..], |peer| &peer.names);
                let roles = names.iter().filter_map(|name| self.certificate_roles.get(name));
                let permissions = self.access.permissions_of(roles.flatten().map(String::as_str));
                if !permissions.allow(path) {
                    return Err(denied(&format!("a certificate of {names:?}"), path));
                }
                Ok(Allowed { until: None })
            }
        }
    }

    async fn token(
        &self,
        peer: Option<&Peer>,
        authorization: Option<&str>,
    ) -> Result<(access::Principal, Permissions), Status> {
        let address = peer.map(|peer| peer.address);
        if let Some(address) = address
            && let Err(too_many) = self.failures.lock().admit(address, Instant::now().into_std())
        {
            let details = ErrorDetails::with_retry_info(Some(too_many.retry_after));
            let text = too_many.to_string();
            return Err(Status::with_error_details(Code::ResourceExhausted, text, details));
        }
        match self.access.caller(authorization, SystemTime::now()).await {
            Ok(caller) => Ok((caller.principal, caller.permissions)),
            Err(refusal) => {
                let wait = match address {
                    Some(address) if !refusal.may_pass_later() => {
                        self.failures.lock().failed(address, Instant::now().into_std())
                    }
                    _ => Duration::ZERO,
                };
                tracing::debug!(?address, %refusal, ?wait, "a caller is turned away");
                tokio::time::sleep(wait).await;
                Err(refused(&refusal))
            }
        }
    }
}

fn refused(refusal: &Refusal) -> Status {
    match refusal.may_pass_later() {
        true => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
            Status::with_error_details(Code::Unavailable, refusal.to_string(), details)
        }
        false => Status::unauthenticated(refusal.to_string()),
    }
}

fn denied(who: &str, path: &str) -> Status {
    let method = path.trim_start_matches('/');
    Status::permission_denied(format!(
        "{who} does not allow {method}: the method must be in the claim {}, or in access.grpc_roles for a \
         role of it",
        access::methods::METHODS_CLAIM
    ))
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, routes: S) -> Guarded<S> {
        Guarded { routes, door: Arc::clone(&self.0) }
    }
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.routes.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The one that is ready answers this call, its copy the next.
        let copy = self.routes.clone();
        let mut routes = std::mem::replace(&mut self.routes, copy);
        let path = request.uri().path();
        if self.door.asked == Asked::Nothing || OPEN.iter().any(|open| path.starts_with(open)) {
            return routes.call(request).boxed();
        }
        let door = Arc::clone(&self.door);
        async move {
            // Two are as good as none: who knows which of them others have looked at.
            let mut shown = request.headers().get_all(AUTHORIZATION).iter();
            let authorization = match (shown.next(), shown.next()) {
                (Some(one), None) => one.to_str().ok().map(str::to_owned),
                _ => None,
            };
            let peer = request.extensions().get::<Peer>().cloned();
            let path = request.uri().path().to_owned();
            match door.enter(peer.as_ref(), authorization.as_deref(), &path).await {
                Ok(allowed) => {
                    request.extensions_mut().insert(allowed);
                    routes.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        }
        .boxed()
    }
}
