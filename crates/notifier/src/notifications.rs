//! The service `footbridge.v1.Notifications`.
//!
//! Of all callers together only so many bytes may wait for the broker: beyond `max_waiting` a single call is
//! refused, and a stream waits.
//!
//! Not here: what a stream is (`pipeline`), what requests mean (`publishes`, `sends`), watching what becomes of
//! messages (`watch`).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use proto::v1::publish_stream_response::Outcome as Published;
use proto::v1::send_stream_response::Outcome as Sent;
use proto::v1::{
    DeliveryEvent, PublishRequest, PublishResponse, PublishStreamResponse, SendRequest,
    SendResponse, SendStreamResponse, SendToAllRequest, SendToGroupRequest, SendToSessionRequest,
    SendToUserRequest, WatchDeliveryRequest, notifications_server,
};
use tonic::{Request, Response, Status, Streaming};

use crate::ending::Ending;
use crate::metrics::Call;
use crate::node::Node;
use crate::publisher::Taken;
use crate::refusal::Refusal;
use crate::sending::Sending;
use crate::wanted::Wanted;
use crate::watch::Watch;
use crate::{pipeline, publishes, sends};

/// See the module.
#[derive(Clone)]
pub(crate) struct Notifications(Arc<Node>);

impl Notifications {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self(node)
    }

    /// The answers to `requests`, in their order.
    fn published<S>(
        &self,
        requests: S,
        ending: Ending,
    ) -> BoxStream<'static, Result<PublishStreamResponse, Status>>
    where
        S: Stream<Item = Result<PublishRequest, Status>> + Send + 'static,
    {
        let node = Arc::clone(&self.0);
        let read = publishes::publish;
        let answers = pipeline::answers(node, Call::Publish, requests, read, ending);
        let answer = |taken: Result<Taken, Refusal>| PublishStreamResponse {
            outcome: Some(match taken {
                Ok(taken) => Published::Published(publishes::response(taken)),
                Err(refusal) => Published::Failure(refusal.into()),
            }),
        };
        answers.map(move |taken| taken.map(answer)).boxed()
    }

    /// The answers to `requests`, in their order.
    fn sent<S>(
        &self,
        requests: S,
        ending: Ending,
    ) -> BoxStream<'static, Result<SendStreamResponse, Status>>
    where
        S: Stream<Item = Result<SendRequest, Status>> + Send + 'static,
    {
        let node = Arc::clone(&self.0);
        let answers = pipeline::answers(node, Call::Send, requests, sends::of_stream, ending);
        let answer = |taken: Result<Taken, Refusal>| SendStreamResponse {
            outcome: Some(match taken {
                Ok(taken) => Sent::Sent(sends::response(taken)),
                Err(refusal) => Sent::Failure(refusal.into()),
            }),
        };
        answers.map(move |taken| taken.map(answer)).boxed()
    }

    async fn send<R>(
        &self,
        request: Request<R>,
        read: fn(R, &Node) -> Result<Wanted, Refusal>,
    ) -> Result<Response<SendResponse>, Status> {
        let deadline = self.0.deadline(request.metadata());
        let wanted = read(request.into_inner(), &self.0);
        let taken = Sending::single(&self.0, Call::Send, wanted, deadline).await?;
        Ok(Response::new(sends::response(taken)))
    }
}

#[async_trait]
impl notifications_server::Notifications for Notifications {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let deadline = self.0.deadline(request.metadata());
        let wanted = publishes::publish(request.into_inner(), &self.0);
        let taken = Sending::single(&self.0, Call::Publish, wanted, deadline).await?;
        Ok(Response::new(publishes::response(taken)))
    }

    type PublishStreamStream = BoxStream<'static, Result<PublishStreamResponse, Status>>;

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let ending = Ending::of(&request, &self.0);
        Ok(Response::new(self.published(request.into_inner(), ending)))
    }

    async fn send_to_user(
        &self,
        request: Request<SendToUserRequest>,
    ) -> Result<Response<SendResponse>, Status> {
        self.send(request, sends::to_users).await
    }

    async fn send_to_session(
        &self,
        request: Request<SendToSessionRequest>,
    ) -> Result<Response<SendResponse>, Status> {
        self.send(request, sends::to_sessions).await
    }

    async fn send_to_group(
        &self,
        request: Request<SendToGroupRequest>,
    ) -> Result<Response<SendResponse>, Status> {
        self.send(request, sends::to_groups).await
    }

    async fn send_to_all(
        &self,
        request: Request<SendToAllRequest>,
    ) -> Result<Response<SendResponse>, Status> {
        self.send(request, sends::to_all).await
    }

    type SendStreamStream = BoxStream<'static, Result<SendStreamResponse, Status>>;

    async fn send_stream(
        &self,
        request: Request<Streaming<SendRequest>>,
    ) -> Result<Response<Self::SendStreamStream>, Status> {
        let ending = Ending::of(&request, &self.0);
        Ok(Response::new(self.sent(request.into_inner(), ending)))
    }

    type WatchDeliveryStream = BoxStream<'static, Result<DeliveryEvent, Status>>;

    async fn watch_delivery(
        &self,
        request: Request<WatchDeliveryRequest>,
    ) -> Result<Response<Self::WatchDeliveryStream>, Status> {
        let ending = Ending::of(&request, &self.0);
        let watch = Watch::open(&self.0, request.into_inner()).await?;
        Ok(Response::new(watch.events(ending)))
    }
}
