//! Tests that what stands in `deploy/`, and `docker-compose.yml`, agree with the program: its keys, its ports,
//! and how long it takes to stop.

use std::time::Duration;

use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

use super::*;
use crate::serving;

const KUBERNETES: [(&str, &str); 3] = [
    ("config", include_str!("../../../../../deploy/kubernetes/config.yaml")),
    ("gateway", include_str!("../../../../../deploy/kubernetes/gateway.yaml")),
    ("notifier", include_str!("../../../../../deploy/kubernetes/notifier.yaml")),
];
const COMPOSE: &str = include_str!("../../../../../docker-compose.yml");
const HAPROXY: &str = include_str!("../../../../../deploy/haproxy.cfg");
const CLUSTER: &str = include_str!("../../../../../scripts/cluster");

/// The address of a pod.
const POD_IP: &str = "10.1.2.3";

/// The document of that kind and name, which is in the file of that name.
fn document(file: &str, kind: &str, name: &str) -> Value {
    let (_, text) = KUBERNETES.iter().find(|(known, _)| *known == file).unwrap();
    let documents = Deserializer::from_str(text).map(|it| Value::deserialize(it).unwrap());
    let mut found = documents.filter(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.next().unwrap_or_else(|| panic!("no {kind} {name} in {file}.yaml"))
}

/// How long a process that was told to stop may take.
fn longest_end(drain: Duration) -> Duration {
    drain + gateway::LEAVE + serving::GOOD_BYE
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs(value.as_u64().unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is no text"))
}

/// What a role is told by its Deployment and the ConfigMap.
fn configured(deployment: &Value, role: Role) -> Config {
    let file = document("config", "ConfigMap", "footbridge");
    let file = text(&file["data"]["footbridge.toml"]);
    let pod = &deployment["spec"]["template"]["spec"];
    let volume = &pod["volumes"][0];
    assert_eq!(volume["configMap"]["name"], "footbridge");
    let container = &pod["containers"][0];
    assert_eq!(container["volumeMounts"][0]["name"], volume["name"]);
    let mut variables = Vec::new();
    for variable in container["env"].as_sequence().unwrap() {
        let value = match text(&variable["name"]) {
            "FOOTBRIDGE_CONFIG" => {
                let path =
                    format!("{}/footbridge.toml", text(&container["volumeMounts"][0]["mountPath"]));
                assert_eq!(variable["value"], *path);
                continue;
            }
            // Whoever deploys it knows these.
            "FOOTBRIDGE_RABBITMQ__URIS" => "amqp://a:b@rabbitmq:5672/%2f",
            "FOOTBRIDGE_REDIS__URLS" => "redis://redis:6379/",
            "FOOTBRIDGE_ACCESS__JWT_SECRET" | "FOOTBRIDGE_CLUSTER__SECRET" => {
                "a secret that is long enough: 32 bytes"
            }
            // Kubernetes knows it.
            "POD_IP" => continue,
            _ => text(&variable["value"]),
        };
        let value = value.replace("$(POD_IP)", POD_IP);
        variables.push(format!("{}={value}", text(&variable["name"])));
    }
    let loaded = load_as(role, file, &variables.join("\n"), &role.defaults());
    loaded.unwrap_or_else(|error| panic!("{error}")).config
}

/// Checks what both Deployments have in common; `port` is the name of the port that is served.
fn check(component: &str, role: Role, port: &str) -> (Value, Config) {
    let name = format!("footbridge-{component}");
    let deployment = document(component, "Deployment", &name);
    let config = configured(&deployment, role);
    let served =
        if role == Role::Notifier { config.notifier.listen } else { config.gateway.listen };
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["args"][0], component);
    for (n, (port, address)) in
        [(port, served), ("admin", config.admin.listen)].into_iter().enumerate()
    {
        assert_eq!(container["ports"][n]["name"], port);
        assert_eq!(container["ports"][n]["containerPort"], address.port());
        assert!(address.ip().is_unspecified(), "{address} is not reached from outside the pod");
    }
    for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], "admin");
    }
    // One is always there while another is replaced.
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let labels = &pod["metadata"]["labels"];
    let service = document(component, "Service", &name);
    let budget = document(component, "PodDisruptionBudget", &name);
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &budget["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port);
    (pod["spec"].clone(), config)
}

#[test]
fn kubernetes_runs_gateways_and_kills_none_that_drains() {
    let (pod, config) = check("gateway", Role::Gateway, "clients");
    let grace = seconds(&pod["terminationGracePeriodSeconds"]);
    assert!(grace > longest_end(config.gateway.drain), "{grace:?}");
    assert!(!config.gateway.drain_notice.is_zero());
    let listen = config.cluster.listen.unwrap();
    let port = &pod["containers"][0]["ports"][2];
    assert_eq!((text(&port["name"]), &port["containerPort"]), ("cluster", &listen.port().into()));
    assert_eq!(config.cluster.advertise, format!("{POD_IP}:{}", listen.port()));
}

#[test]
fn containers_hand_requests_over_to_each_other() {
    let compose: Value = serde_yaml_ng::from_str(COMPOSE).unwrap();
    let alike = &compose["x-gateway"]["environment"];
    let services = compose["services"].as_mapping().unwrap();
    let gateways: Vec<_> = services
        .iter()
        .filter_map(|(name, service)| Some((name.as_str()?, service)))
        .filter(|(name, _)| name.starts_with("gateway-"))
        .collect();
    assert!(gateways.len() > 1);
    for (name, service) in gateways {
        let merged = |variable: &str| {
            [&service["environment"], alike].iter().find_map(|said| said[variable].as_str())
        };
        let variables: Vec<_> = ["LISTEN", "ADVERTISE", "SECRET"]
            .iter()
            .filter_map(|key| {
                let variable = format!("FOOTBRIDGE_CLUSTER__{key}");
                merged(&variable).map(|value| format!("{variable}={value}"))
            })
            .collect();
        let loaded = load("", &variables.join("\n"), &Config::default());
        let cluster = loaded.unwrap_or_else(|error| panic!("{error}")).config.cluster;
        let port = cluster.listen.unwrap().port();
        assert_eq!(cluster.advertise, format!("{name}:{port}"));
    }
}

#[test]
fn kubernetes_runs_notifiers_and_stops_none_that_is_called() {
    let (pod, config) = check("notifier", Role::Notifier, "grpc");
    let command = &pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(command[0], "sleep");
    let before = Duration::from_secs(text(&command[1]).parse().unwrap());
    let grace = seconds(&pod["terminationGracePeriodSeconds"]);
    assert!(grace > before + longest_end(config.notifier.drain), "{grace:?}");
    let access = &config.access;
    config.notifier.asked(access.checks_tokens(), !access.grpc_roles.is_empty()).unwrap();
}

#[test]
fn no_other_way_to_start_nodes_kills_one_that_drains() {
    let longest = longest_end(Config::default().gateway.drain);
    assert_eq!(Config::default().gateway.drain, Config::default().notifier.drain);
    let compose: Value = serde_yaml_ng::from_str(COMPOSE).unwrap();
    let grace = text(&compose["x-node"]["stop_grace_period"]).strip_suffix('s').unwrap();
    assert!(Duration::from_secs(grace.parse().unwrap()) > longest, "{grace}");
    let drain = CLUSTER.lines().find_map(|line| line.strip_prefix("readonly drain=")).unwrap();
    assert!(Duration::from_secs(drain.parse().unwrap()) > longest, "{drain}");
}

#[test]
fn haproxy_has_noticed_a_drain_before_a_node_stops_accepting() {
    let line =
        HAPROXY.lines().find_map(|line| line.trim().strip_prefix("default-server ")).unwrap();
    let words: Vec<_> = line.split(' ').collect();
    let of = |name| words[words.iter().position(|word| *word == name).unwrap() + 1];
    let time = |name| match of(name).strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse().unwrap()),
        None => Duration::from_secs(of(name).strip_suffix('s').unwrap().parse().unwrap()),
    };
    let fall: u32 = of("fall").parse().unwrap();
    let noticed = time("inter") + time("fastinter") * (fall - 1);
    // Twice that, for checks that take their time.
    assert!(Config::default().gateway.drain_notice >= 2 * noticed, "{noticed:?}");
}
