//! A service that speaks gRPC, at one address or several.
//!
//! Invariants
//! - Addresses take turns. A call goes on to the next only if it certainly did not reach the one before:
//!   no connection was made.
//! - The service is told how long it has left, and that nobody waits any longer when nobody does.

use std::error::Error;
use std::future::Future;
use std::iter;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use gateway::application::CallError;
use proto::v1::application_client::ApplicationClient;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Request, Response, Status, TimeoutExpired};

use crate::address::Address;
use crate::config::{Config, Invalid, RouteConfig};

/// A client for one address.
pub(crate) type Client = ApplicationClient<Channel>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Grpc {
    /// At least one.
    addresses: Vec<Address>,
    turn: AtomicUsize,
    max_answer: usize,
}

impl Grpc {
    pub(crate) fn new(route: &RouteConfig, config: &Config) -> Result<Self, Invalid> {
        let invalid =
            |why| Invalid { key: "routes", why: format!("the route of {:?}: {why}", route.prefix) };
        let ca = match route.ca_file.as_os_str().is_empty() {
            true => None,
            false => Some(read(&route.ca_file).map_err(invalid)?),
        };
        let address = |url: &String| {
            Address::new(url, ca.as_deref())
                .map_err(|error| invalid(format!("{url:?}: {}", told(&error))))
        };
        Ok(Self {
            addresses: route.grpc.iter().map(address).collect::<Result<_, _>>()?,
            turn: AtomicUsize::new(0),
            max_answer: config.max_answer_bytes(),
        })
    }

    /// Makes a call, at the first address that can be reached, until `deadline`.
    pub(crate) async fn ask<Req: Clone, Res, Calling>(
        &self,
        request: &Req,
        deadline: Instant,
        call: impl Fn(Client, Request<Req>) -> Calling,
    ) -> Result<Res, CallError>
    where
        Calling: Future<Output = Result<Response<Res>, Status>>,
    {
        for address in self.in_turn(Instant::now()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(CallError::TimedOut);
            }
            let mut request = Request::new(request.clone());
            request.set_timeout(left);
            let client =
                Client::new(address.channel.clone()).max_decoding_message_size(self.max_answer);
            match tokio::time::timeout_at(deadline, call(client, request)).await {
                Err(_) => return Err(CallError::TimedOut),
                Ok(Ok(answer)) => {
                    address.reached();
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) if is_unreached(&status) => {
                    let error = told(&status);
                    if address.failed(Instant::now()) {
                        tracing::warn!(
                            address = address.url,
                            error,
                            "an application cannot be reached"
                        );
                    } else {
                        tracing::debug!(
                            address = address.url,
                            error,
                            "an application cannot be reached"
                        );
                    }
                }
                Ok(Err(status)) => {
                    return Err(of_status(status, &address.url));
                }
            }
        }
        Err(CallError::Unavailable)
    }

    /// The addresses in the order to try them: from the one whose turn it is, those that were not reached
    /// of late at the end.
    fn in_turn(&self, now: Instant) -> impl Iterator<Item = &Address> {
        let count = self.addresses.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        let turns = (first..count).chain(0..first).map(|n| &self.addresses[n]);
        let (down, up): (Vec<_>, Vec<_>) = turns.partition(|address| address.is_down(now));
        up.into_iter().chain(down)
    }
}

/// Whether the call certainly did not reach the service.
fn is_unreached(status: &Status) -> bool {
    chain(status).any(|error| error.is::<ConnectError>())
}

/// Whether the service has not said so: the connection broke, it was reset, or somebody between answered
/// without gRPC. tonic gives that codes of its own, such as PERMISSION_DENIED for an HTTP status of 403, and
/// in the latter case nothing but its words tells.
fn is_made_up(status: &Status) -> bool {
    const WORDS: [&str; 2] =
        ["grpc-status header missing", "protocol error: missing grpc-status trailer"];
    status.source().is_some() || WORDS.iter().any(|words| status.message().starts_with(words))
}

/// What a status means to the client that asked. What is the service's own fault is logged, not told.
fn of_status(status: Status, address: &str) -> CallError {
    if is_made_up(&status) {
        let (code, error) = (status.code(), told(&status));
        tracing::warn!(address, %code, error, "an application did not answer a call");
        let is_late = chain(&status).any(|error| error.is::<TimeoutExpired>());
        return if is_late { CallError::TimedOut } else { CallError::Unavailable };
    }
    let code = match status.code() {
        Code::Unimplemented => {
            return CallError::NoHandler { destination: ByteString::new(), hint: "" };
        }
        Code::InvalidArgument => "invalid_argument",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::Unauthenticated => "unauthenticated",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        // What tonic says of an answer that is longer than it may be.
        Code::OutOfRange if status.message().contains("decoded message length too large") => {
            tracing::warn!(
                address,
                error = told(&status),
                "an answer is longer than application.max_answer"
            );
            return CallError::Nonsense;
        }
        Code::OutOfRange => "out_of_range",
        Code::ResourceExhausted => "resource_exhausted",
        Code::DeadlineExceeded | Code::Cancelled => return CallError::TimedOut,
        code => {
            tracing::warn!(address, %code, error = told(&status), "an application failed");
            return match code {
                Code::Unavailable => CallError::Unavailable,
                _ => CallError::Failed,
            };
        }
    };
    CallError::Refused { code: code.into(), message: status.message().to_owned() }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// An error with its causes.
fn told(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("ca_file {}: {error}", file.display()))
}
