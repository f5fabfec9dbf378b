//! Redis behind TLS and a password.

mod common;

use std::fs;

use presence::{Link, RedisConfig, RedisPresence};
use testkit::{Persistence, Redis};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_its_own_authority_is_reached() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        rcgen::CertifiedIssuer::self_signed(params, &key).unwrap()
    };
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &authority).unwrap();
    fs::write(path("ca.pem"), authority.pem()).unwrap();
    fs::write(path("server.pem"), server.pem()).unwrap();
    fs::write(path("server.key"), server_key.serialize_pem()).unwrap();
    let redis = Redis::start_with(Persistence::Memory, |port| {
        let (port, ca) = (port.to_string(), path("ca.pem"));
        let (certificate, key) = (path("server.pem"), path("server.key"));
        let mut arguments = vec!["--tls-port", &port, "--tls-auth-clients", "no"];
        arguments.extend(["--tls-ca-cert-file", &ca]);
        arguments.extend(["--tls-cert-file", &certificate, "--tls-key-file", &key]);
        arguments.extend(["--user", "ann", "on", "~*", "+@all", ">secret"]);
        arguments.into_iter().map(str::to_owned).collect()
    });
    let redis = redis.await.unwrap();
    let url = format!("rediss://ann:secret@localhost:{}/", redis.second_port());
    let trusting = RedisConfig { ca_file: path("ca.pem").into(), ..common::redis_config(&url) };
    let node = common::node(common::config(), trusting.clone()).await;
    let session = common::register(&node, "ann").await;
    assert_eq!(common::found(&node, "ann").await, [session.id]);

    // Without the authority, and without the password, it says why, and not what the password is.
    let strange = RedisConfig { ca_file: "".into(), ..trusting.clone() };
    let url = url.replace("secret", "geheim");
    let wrong = RedisConfig { urls: vec![(&*url).into()], ..trusting };
    for (config, why) in [(strange, "certificate"), (wrong, "authentication failed")] {
        let node = RedisPresence::start(common::config(), config, presence::Boot::generate());
        let is_told = |link: &Link| match link {
            Link::Down(told) => told.to_lowercase().contains(why),
            Link::Up => false,
        };
        let state = common::until_state(&node, |state| is_told(&state.link)).await;
        assert!(!format!("{state:?}").contains("geheim"), "{state:?}");
    }
}
