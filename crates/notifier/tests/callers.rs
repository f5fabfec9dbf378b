//! Who may call what, over the wire: tokens, certificates, and what is open.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use access::Secret;
use access::token::{Signer, wanted_claims};
use futures_util::{FutureExt, StreamExt, stream};
use notifier::{BindError, Callers, Config};
use proto::v1::groups_client::GroupsClient;
use proto::v1::inbox_client::InboxClient;
use proto::v1::notifications_client::NotificationsClient;
use proto::v1::presence_client::PresenceClient;
use proto::v1::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::json;
use support::{Node, config, patiently, text};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const SECRET: &str = "a secret that is long enough: 32 bytes";

fn access() -> access::Config {
    let roles = toml::from_str(
        "publisher = ['Notifications/*']\nwatcher = ['Presence/GetUsers', 'Presence/Watch']\n\
         support = ['Inbox/List', 'Inbox/Count']\nadmin = ['*']",
    );
    access::Config {
        jwt_secret: Secret::from(SECRET),
        grpc_roles: roles.unwrap(),
        // Those who are refused here all come from one address.
        failure_delay: Duration::ZERO,
        max_failures: 0,
        ..access::Config::default()
    }
}

fn token(role: &str) -> String {
    let mut claims = wanted_claims(&access(), "orders");
    claims.insert("roles".to_owned(), json!([role]));
    let signer = Signer::of_secret(&Secret::from(SECRET)).unwrap();
    signer.sign(claims, Some(Duration::from_secs(600)), SystemTime::now()).unwrap()
}

fn with<T>(message: T, shown: &[String]) -> Request<T> {
    let mut request = Request::new(message);
    for one in shown {
        request.metadata_mut().append("authorization", one.parse().unwrap());
    }
    request
}

/// Every method there is, called with something that is wrong: whoever is let in is told so.
async fn every_method(channel: &Channel, shown: &[String]) -> Vec<(&'static str, Code)> {
    let mut codes = Vec::new();
    macro_rules! call {
        ($client:ident: $($method:ident($message:expr)),* $(,)?) => {$(
            let mut client = $client::new(channel.clone());
            let answer = patiently(client.$method(with($message, shown))).await;
            let code = answer.map_or_else(|status: Status| status.code(), |_| Code::Ok);
            codes.push((concat!(stringify!($client), ".", stringify!($method)), code));
        )*};
    }
    call!(NotificationsClient:
        publish(PublishRequest::default()),
        publish_stream(stream::empty::<PublishRequest>()),
        send_to_user(SendToUserRequest::default()),
        send_to_session(SendToSessionRequest::default()),
        send_to_group(SendToGroupRequest::default()),
        send_to_all(SendToAllRequest::default()),
        send_stream(stream::empty::<SendRequest>()),
        watch_delivery(WatchDeliveryRequest::default()),
    );
    call!(PresenceClient:
        get_users(GetUsersRequest::default()),
        get_session(GetSessionRequest::default()),
        list_users(ListUsersRequest::default()),
        count(CountOnlineRequest::default()),
        watch(WatchOnlineRequest::default()),
        disconnect(DisconnectSessionsRequest::default()),
        unsubscribe(UnsubscribeSessionsRequest::default()),
        lift_ban(LiftBanRequest::default()),
    );
    call!(GroupsClient:
        add(AddToGroupRequest::default()),
        remove(RemoveFromGroupRequest::default()),
        delete(DeleteGroupRequest::default()),
        list(ListGroupRequest::default()),
        count(CountGroupRequest::default()),
        of(GroupsOfRequest::default()),
        set_lifetime(SetGroupLifetimeRequest::default()),
    );
    call!(InboxClient:
        list(ListInboxRequest::default()),
        count(CountInboxRequest::default()),
        paths(InboxPathsRequest::default()),
        status(InboxStatusRequest::default()),
        settle(SettleInboxRequest::default()),
        purge(PurgeInboxRequest::default()),
        forget(ForgetUserRequest::default()),
    );
    codes
}

/// Which methods of those a caller was let in to.
fn let_in(codes: &[(&'static str, Code)], refused: Code) -> Vec<&'static str> {
    let in_them = codes.iter().filter(|(_, code)| *code != refused);
    in_them
        .map(|(method, code)| {
            assert!(matches!(code, Code::Ok | Code::InvalidArgument), "{method}: {code:?}");
            *method
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_asks_for_a_token_that_may_call_it() {
    let node = Node::start_guarded(config(), access()).await.unwrap();
    let bearer = |role: &str| vec![format!("Bearer {}", token(role))];
    for shown in [
        vec![],
        vec!["Bearer forged".to_owned()],
        vec![format!("Bearer {}", token("admin")), format!("Bearer {}", token("admin"))],
    ] {
        let codes = every_method(&node.channel, &shown).await;
        assert_eq!(codes.len(), 30);
        assert_eq!(let_in(&codes, Code::Unauthenticated), Vec::<&str>::new(), "{shown:?}");
    }
    let codes = every_method(&node.channel, &bearer("none")).await;
    assert_eq!(let_in(&codes, Code::PermissionDenied), Vec::<&str>::new());
    let codes = every_method(&node.channel, &bearer("watcher")).await;
    let expected = ["PresenceClient.get_users", "PresenceClient.watch"];
    assert_eq!(let_in(&codes, Code::PermissionDenied), expected);
    // Who may look into inboxes may not purge them.
    let codes = every_method(&node.channel, &bearer("support")).await;
    let expected = ["InboxClient.list", "InboxClient.count"];
    assert_eq!(let_in(&codes, Code::PermissionDenied), expected);
    let codes = every_method(&node.channel, &bearer("publisher")).await;
    assert_eq!(let_in(&codes, Code::PermissionDenied).len(), 8);
    let codes = every_method(&node.channel, &bearer("admin")).await;
    assert_eq!(let_in(&codes, Code::PermissionDenied).len(), 30);

    let mut health = HealthClient::new(node.channel.clone());
    health.check(HealthCheckRequest::default()).await.unwrap();
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(
            node.channel.clone(),
        );
    reflection.server_reflection_info(stream::empty()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_none_of_ours_is_closed_as_well() {
    let node = Node::start_guarded(config(), access()).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(node.channel.clone());
    for (path, shown, expected) in [
        ("/footbridge.v1.Notifications/Nothing", None, Code::Unauthenticated),
        ("/grpc.health.v1.HealthX/Check", None, Code::Unauthenticated),
        ("/", None, Code::Unauthenticated),
        ("/footbridge.v1.Notifications/Nothing", Some("publisher"), Code::Unimplemented),
        ("/footbridge.v1.Groups/Nothing", Some("publisher"), Code::PermissionDenied),
    ] {
        grpc.ready().await.unwrap();
        let shown: Vec<_> = shown.iter().map(|role| format!("Bearer {}", token(role))).collect();
        let codec = tonic_prost::ProstCodec::<PublishRequest, PublishResponse>::default();
        let request = with(PublishRequest::default(), &shown);
        let status = grpc.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(status.code(), expected, "{path} {status:?}");
    }
}

#[tokio::test]
async fn what_would_let_strangers_in_by_omission_does_not_start() {
    let key = |started: Result<Node, BindError>| match started {
        Err(BindError::Invalid(invalid)) => invalid.key,
        Err(other) => panic!("{other:?}"),
        Ok(_) => "started",
    };
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let (open, none) = (Callers::Open, access::Config::default());
    for (config, access, expected) in [
        (Config { listen: everywhere, ..config() }, none.clone(), "listen"),
        (Config { listen: everywhere, callers: open, ..config() }, none.clone(), "started"),
        (Config { listen: everywhere, ..config() }, access(), "started"),
        (Config { callers: Callers::Token, ..config() }, none.clone(), "callers"),
        (Config { callers: open, ..config() }, access(), "callers"),
        (Config { client_ca: "ca.pem".into(), ..config() }, none.clone(), "certificate_roles"),
        (Config { tls_key: "key.pem".into(), ..config() }, none.clone(), "tls_certificate"),
        (Config { tls_certificate: "a.pem".into(), ..config() }, none, "tls_key"),
    ] {
        assert_eq!(key(Node::start_guarded(config, access).await), expected);
    }
}

/// Files of an authority, and of who it certifies.
struct Files {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = Self { folder: tempfile::tempdir().unwrap(), authority };
        std::fs::write(files.path("ca.pem"), files.authority.pem()).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and its key in PEM, of somebody with that common name and those names besides.
    fn certify(&self, common: &str, names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn config(&self) -> Config {
        let (certificate, key) = self.certify("the server", &["localhost"]);
        std::fs::write(self.path("server.pem"), certificate).unwrap();
        std::fs::write(self.path("server.key"), key).unwrap();
        let roles = "'orders.internal' = ['publisher']\nboss = ['admin']";
        Config {
            tls_certificate: self.path("server.pem"),
            tls_key: self.path("server.key"),
            client_ca: self.path("ca.pem"),
            certificate_roles: toml::from_str(roles).unwrap(),
            ..config()
        }
    }

    fn channel(&self, node: &Node, shown: Option<(String, String)>) -> Channel {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .domain_name("localhost");
        if let Some((certificate, key)) = shown {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let url = format!("https://{}", node.address);
        Channel::from_shared(url).unwrap().tls_config(tls).unwrap().connect_lazy()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_opens_what_the_roles_of_its_names_may_call() {
    let files = Files::new();
    let node = Node::start_guarded(files.config(), access()).await.unwrap();
    for (common, names, expected) in [
        ("boss", &[][..], 30),
        ("orders", &["orders.internal"], 8),
        ("orders.internal", &["else.internal"], 8),
        ("nobody", &["nobody.internal"], 0),
    ] {
        let channel = files.channel(&node, Some(files.certify(common, names)));
        let codes = every_method(&channel, &[]).await;
        assert_eq!(let_in(&codes, Code::PermissionDenied).len(), expected, "{common} {names:?}");
    }
    // Of nobody that is trusted, none at all, and no TLS: the connection ends before its first call.
    let stranger = Files::new().certify("boss", &[]);
    for channel in
        [files.channel(&node, Some(stranger)), files.channel(&node, None), node.another_channel()]
    {
        let mut client = NotificationsClient::new(channel);
        let status = patiently(client.publish(text("/topic/a", "x"))).await.unwrap_err();
        // How far a client gets before it hears of it is its library's affair; it is no answer of ours.
        assert!(std::error::Error::source(&status).is_some(), "{status:?}");
    }
    // Others are served as before.
    let channel = files.channel(&node, Some(files.certify("boss", &[])));
    NotificationsClient::new(channel).publish(text("/topic/a", "x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_may_be_asked_for_behind_tls_and_certificates() {
    let files = Files::new();
    let config =
        Config { callers: Callers::Token, certificate_roles: Default::default(), ..files.config() };
    let node = Node::start_guarded(config, access()).await.unwrap();
    let channel = files.channel(&node, Some(files.certify("anybody", &[])));
    let codes = every_method(&channel, &[]).await;
    assert_eq!(let_in(&codes, Code::Unauthenticated), Vec::<&str>::new());
    let codes = every_method(&channel, &[format!("Bearer {}", token("admin"))]).await;
    assert_eq!(let_in(&codes, Code::PermissionDenied).len(), 30);
}

#[tokio::test]
async fn files_that_cannot_be_read_are_told_by_their_key() {
    let files = Files::new();
    std::fs::write(files.path("nonsense"), "nonsense").unwrap();
    let (other_certificate, _) = files.certify("another", &[]);
    std::fs::write(files.path("another.pem"), other_certificate).unwrap();
    type Change = fn(&mut Config, PathBuf);
    let broken: [(Change, &str, &str); 6] = [
        (|config, path| config.tls_certificate = path, "missing", "tls_certificate"),
        (|config, path| config.tls_certificate = path, "nonsense", "tls_certificate"),
        (|config, path| config.tls_certificate = path, "another.pem", "tls_key"),
        (|config, path| config.tls_key = path, "nonsense", "tls_key"),
        (|config, path| config.client_ca = path, "missing", "client_ca"),
        (|config, path| config.client_ca = path, "nonsense", "client_ca"),
    ];
    for (change, file, expected) in broken {
        let mut config = files.config();
        change(&mut config, files.path(file));
        let Err(BindError::Invalid(invalid)) = Node::start_guarded(config, access()).await else {
            panic!("{file} as {expected}")
        };
        assert_eq!(invalid.key, expected, "{invalid}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_when_its_token_expires() {
    let access = access::Config { jwt_leeway: Duration::ZERO, ..access() };
    let node = Node::start_guarded(config(), access.clone()).await.unwrap();
    let mut claims = wanted_claims(&access, "orders");
    claims.insert("roles".to_owned(), json!(["admin"]));
    let signer = Signer::of_secret(&Secret::from(SECRET)).unwrap();
    let short = signer.sign(claims, Some(Duration::from_secs(3)), SystemTime::now()).unwrap();
    let shown = [format!("Bearer {short}")];
    let mut client = NotificationsClient::new(node.channel.clone());
    let requests = stream::once(async { text("/topic/a", "x") }).chain(stream::pending());
    let mut answers =
        patiently(client.publish_stream(with(requests, &shown))).await.unwrap().into_inner();
    let mut presence = PresenceClient::new(node.channel.clone());
    let watch = presence.watch(with(WatchOnlineRequest::default(), &shown));
    let mut events = patiently(watch).await.unwrap().into_inner();
    assert!(patiently(answers.message()).await.unwrap().unwrap().outcome.is_some());
    assert!(answers.message().now_or_never().is_none(), "it goes on");
    assert_eq!(patiently(answers.message()).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(patiently(events.message()).await.unwrap_err().code(), Code::Unauthenticated);
}
