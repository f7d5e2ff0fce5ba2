//! The files in `deploy/` are accepted by the programs that read them, and work as described.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::tools::{assert_confined, containers, documents, linter, run};
use crate::support::{envoy, tollgate};

/// The oldest Kubernetes that supports all fields of the manifests, and the newest available.
pub const KUBERNETES: [&str; 2] = ["1.30.0", "1.37.0"];

const MANIFESTS: [&str; 3] =
    ["deploy/kubernetes/shared.yaml", "deploy/kubernetes/sidecar.yaml", AI_GATEWAY];

/// Its policies come by xDS.
const AI_GATEWAY: &str = "deploy/ai-gateway/ratelimit.yaml";

/// The documents of a YAML file.
fn read(path: &str) -> Vec<Value> {
    documents(&fs::read_to_string(path).unwrap())
}

/// A file's lines without comments, which are there for readers.
fn settings(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn envoy_accepts_every_configuration() {
    let Some(program) = envoy::program() else { return };
    for entry in fs::read_dir("deploy/envoy").unwrap() {
        let path = entry.unwrap().path();
        run(Command::new(&program).args(["--mode", "validate", "-c"]).arg(path));
    }
}

#[test]
fn the_envoy_configurations_differ_in_tollgates_address_alone() {
    let (tcp, socket) =
        (settings("deploy/envoy/tcp.yaml"), settings("deploy/envoy/unix-socket.yaml"));
    assert_eq!(tcp.len(), socket.len());
    let differing: Vec<_> = tcp.iter().zip(&socket).filter(|(one, other)| one != other).collect();
    let [(tcp, socket)] = differing[..] else { panic!("{differing:?}") };
    assert!(tcp.contains("8081") && socket.contains("tollgate.sock"), "{tcp} {socket}");
}

#[test]
fn kubernetes_accepts_every_manifest() {
    for version in KUBERNETES {
        let Some(mut validate) = linter("kubernetes-validate") else { return };
        run(validate.args(["--strict", "-k", version]).args(MANIFESTS));
    }
}

#[test]
fn every_policy_in_a_manifest_passes_the_check() {
    for manifest in MANIFESTS.into_iter().filter(|manifest| *manifest != AI_GATEWAY) {
        let folder = TempDir::new().unwrap();
        for document in read(manifest).iter().filter(|one| one["kind"] == "ConfigMap") {
            for (name, text) in document["data"].as_object().unwrap() {
                fs::write(folder.path().join(name), text.as_str().unwrap()).unwrap();
            }
        }
        assert_ne!(fs::read_dir(folder.path()).unwrap().count(), 0, "{manifest}");
        run(tollgate::command().args(["check", "--deny-warnings"]).arg(folder.path()));
    }
}

/// A variable of the container; None if it is not set.
fn variable(container: &Value, name: &str) -> Option<String> {
    let mut variables = container["env"].as_array().into_iter().flatten();
    let found = variables.find(|variable| variable["name"] == name)?;
    Some(found["value"].as_str().unwrap().to_owned())
}

#[test]
fn every_file_says_itself_where_tollgate_listens() {
    let image = fs::read_to_string("deploy/image.yaml").unwrap();
    for address in ["grpc_address: 0.0.0.0:8081", "http_address: 0.0.0.0:8080"] {
        assert!(image.contains(address), "{address}");
    }
    let compose: Value = read("deploy/compose.yaml").remove(0);
    let environment = &compose["services"]["tollgate"]["environment"];
    // Envoy's network is its own, and one's own ports are published from it.
    assert_eq!(environment["TOLLGATE_GRPC_ADDRESS"], "127.0.0.1:8081");
    assert_eq!(environment["TOLLGATE_HTTP_ADDRESS"], "0.0.0.0:8080");
    for manifest in MANIFESTS {
        let all = containers(&read(manifest));
        let (tollgate, _) = all.iter().find(|(one, _)| one["name"] == "tollgate").unwrap();
        let ports = tollgate["ports"].as_array().unwrap();
        let is_open = |port: u16| ports.iter().any(|open| open["containerPort"] == port);
        let grpc = variable(tollgate, "TOLLGATE_GRPC_ADDRESS").unwrap();
        assert_eq!(grpc, if is_open(8081) { "0.0.0.0:8081" } else { "off" }, "{manifest}");
        let http = variable(tollgate, "TOLLGATE_HTTP_ADDRESS").unwrap();
        assert!(is_open(8080) && http == "0.0.0.0:8080", "{manifest}");
    }
}

#[test]
fn every_container_is_confined_and_bounded() {
    for manifest in MANIFESTS {
        assert_confined(manifest, &read(manifest));
    }
}

#[test]
fn compose_accepts_its_file() {
    let Some(mut check) = linter("check-jsonschema") else { return };
    run(check.args(["--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"]));
}

#[test]
fn the_image_is_built_from_what_the_dockerfile_copies() {
    let context = TempDir::new().unwrap();
    let dockerfile = fs::read_to_string("deploy/Dockerfile").unwrap();
    let copies = dockerfile.lines().take_while(|line| *line != "FROM scratch");
    for paths in copies.filter_map(|line| line.strip_prefix("COPY ")) {
        let sources: Vec<&str> = paths.split(' ').collect();
        for source in &sources[..sources.len() - 1] {
            run(Command::new("cp").args(["-R", "--parents", source]).arg(context.path()));
        }
    }
    // Only the dependencies of the image on this platform: a fresh machine has downloaded no others.
    let mut tree = Command::new("cargo");
    tree.args([
        "tree",
        "--locked",
        "--offline",
        "--package",
        "tollgate",
        "--edges",
        "normal,build",
    ]);
    let tree = run(tree.current_dir(context.path()));
    assert!(tree.starts_with("tollgate v"), "{tree}");
}

/// Envoy Gateway starts the limiter's container with this command; `gateway/reference.rs` starts it.
#[test]
fn the_image_has_the_link_of_the_reference_and_its_user() {
    let dockerfile = fs::read_to_string("deploy/Dockerfile").unwrap();
    assert!(dockerfile.contains("ln -s ../tollgate /image/bin/ratelimit"));
    assert!(dockerfile.contains("USER 65534:65534"));
}

#[test]
fn the_dockerfile_and_the_script_have_no_known_flaw() {
    for (program, file) in
        [("hadolint", "deploy/Dockerfile"), ("shellcheck", "deploy/quickstart.sh")]
    {
        let Some(mut lint) = linter(program) else { continue };
        run(lint.arg(file));
    }
}

#[test]
fn the_quickstart_counts_exactly() {
    let Some(program) = envoy::program() else { return };
    let mut quickstart = Command::new("deploy/quickstart.sh");
    quickstart.env("ENVOY", program).env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"));
    let said = run(&mut quickstart);
    for line in [
        "alice          14 GET         10     4",
        "bob             5 GET          5     0",
        "carol           5 POST         3     2",
        "carol           8 GET          7     1",
        "health-probe   15 GET         15     0",
        "x-plan: standard",
        "HTTP/1.1 429 Too Many Requests",
        "The counts are exact.",
    ] {
        assert!(said.contains(line), "`{line}` is missing:\n{said}");
    }
}
