//! The standard services beside ours: health and reflection.

mod support;

use futures_util::stream;
use support::{Node, patiently};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

const OURS: &str = "footbridge.v1.Notifications";

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_is_serving_until_the_node_stops_and_watching_does_not_hold_it_up() {
    let mut node = Node::start().await;
    let mut client = HealthClient::new(node.channel.clone());
    for name in ["", OURS, "footbridge.v1.Presence", "footbridge.v1.Groups", "footbridge.v1.Inbox"]
    {
        let mut watch = client.watch(of(name)).await.unwrap().into_inner();
        // What a watch begins with is what was true then, and may be of before the first contact.
        loop {
            let health = patiently(watch.message()).await.unwrap().unwrap();
            if health.status() == ServingStatus::Serving {
                break;
            }
            assert_eq!(health.status(), ServingStatus::NotServing);
        }
        let health = client.check(of(name)).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
    }
    assert_eq!(client.check(of("another")).await.unwrap_err().code(), Code::NotFound);

    let mut watch = client.watch(of(OURS)).await.unwrap().into_inner();
    let health = patiently(watch.message()).await.unwrap().unwrap();
    assert_eq!(health.status(), ServingStatus::Serving);
    node.stop();
    let health = patiently(watch.message()).await.unwrap().unwrap();
    assert_eq!(health.status(), ServingStatus::NotServing);
    assert_eq!(patiently(watch.message()).await.unwrap(), None);
    node.stopped().await;
}

#[tokio::test]
async fn reflection_lists_the_services_and_gives_their_files() {
    use v1::server_reflection_client::ServerReflectionClient;
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;

    let node = Node::start().await;
    let mut client = ServerReflectionClient::new(node.channel.clone());
    let ask = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol(format!("{OURS}.PublishStream")),
    ];
    let ask = ask
        .map(|ask| v1::ServerReflectionRequest { host: String::new(), message_request: Some(ask) });
    let answers = client.server_reflection_info(stream::iter(ask)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut next = async || patiently(answers.message()).await.unwrap().unwrap().message_response;

    let Some(MessageResponse::ListServicesResponse(list)) = next().await else { panic!() };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    let expected = [
        "footbridge.v1.Groups",
        "footbridge.v1.Inbox",
        OURS,
        "footbridge.v1.Presence",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(names, expected);

    let Some(MessageResponse::FileDescriptorResponse(file)) = next().await else { panic!() };
    let file = String::from_utf8_lossy(&file.file_descriptor_proto[0]);
    assert!(file.contains("unconfirmed_message_id"), "{file}");
}

#[tokio::test]
async fn tools_of_the_older_reflection_find_the_service_as_well() {
    use v1alpha::server_reflection_client::ServerReflectionClient;
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;

    let node = Node::start().await;
    let mut client = ServerReflectionClient::new(node.channel.clone());
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(stream::iter([ask])).await.unwrap();
    let answer = patiently(answers.into_inner().message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    assert!(list.service.iter().any(|service| service.name == OURS));
}
