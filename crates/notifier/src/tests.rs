//! A whole notifier, its client, and a broker that is away.

use ::presence::MemoryPresence;
use broker::{Link, PublishError, PublisherId};
use proto::v1::message::Body;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::{Message, PublishRequest};
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt;

use super::*;
use crate::fake_broker::{FakeBroker, OnPublish};

/// Longer than anything here takes on a busy machine; reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// A notifier whose broker is away, with a connection to it. Dropping the sender stops it.
async fn start() -> (Arc<FakeBroker>, Channel, oneshot::Sender<()>) {
    let unavailable = PublishError::Unavailable("connection refused".to_owned());
    let down = Link::Down("connection refused".to_owned());
    let broker = Arc::new(FakeBroker::new(down, OnPublish::Fail(unavailable)));
    let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    let store = Arc::new(MemoryPresence::new(&Default::default(), ::presence::Boot::generate()));
    let destinations = Destinations::default();
    let parts = Parts {
        config,
        broker: broker.clone(),
        presence: store.clone(),
        groups: store.clone(),
        nodes: Arc::new(Nodes::of_sender(broker.clone(), store, PublisherId(u64::MAX))),
        access: Arc::new(Access::start(&access::Config::default(), &destinations).unwrap()),
        destinations,
        dispatcher: None,
        dispatches: false,
        inbox: Default::default(),
    };
    let notifier = Notifier::bind(parts).await.unwrap();
    let url = format!("http://{}", notifier.address().unwrap());
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(notifier.run(async {
        let _ = stopped.await;
    }));
    (broker, Channel::from_shared(url).unwrap().connect().await.unwrap(), stop)
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let health = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap().unwrap();
    health.map(|health| health.status())
}

#[tokio::test]
async fn a_caller_learns_why_before_its_own_deadline_is_over() {
    let (_broker, channel, _stop) = start().await;
    let message = Message { body: Some(Body::Text("x".to_owned())), ..Message::default() };
    let mut request = Request::new(PublishRequest {
        destination: "/topic/a".to_owned(),
        message: Some(message),
        ..Default::default()
    });
    // A tenth of it is the answer's, and the client would say CANCELLED when it is over.
    request.set_timeout(Duration::from_secs(4));
    let status = NotificationsClient::new(channel).publish(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("connection refused"), "{status:?}");
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
}

#[tokio::test]
async fn health_is_serving_from_the_first_contact_until_the_node_stops() {
    let (broker, channel, stop) = start().await;
    let mut client = HealthClient::new(channel);
    let request = HealthCheckRequest { service: "footbridge.v1.Notifications".to_owned() };
    let mut watch = client.watch(request.clone()).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    broker.set_link(Link::Up);
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    // An outage is nothing new to those who watch: what comes next is the stop.
    broker.set_link(Link::Down("connection reset".to_owned()));
    let health = client.check(request).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    drop(stop);
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    assert_eq!(next(&mut watch).await, None);
}
