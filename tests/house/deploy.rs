//! The files in `deploy/` are accepted by the programs that read them, and work as described.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{envoy, find_program, tollgate};

/// The folder in which `tests/run.sh` installs linters.
const LINTERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/linters");

/// The oldest Kubernetes that supports all fields of the manifests, and the newest available.
const KUBERNETES: [&str; 2] = ["1.30.0", "1.37.0"];

const MANIFESTS: [&str; 2] = ["deploy/kubernetes/shared.yaml", "deploy/kubernetes/sidecar.yaml"];

/// Runs `command`, which must succeed, and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}");
    said
}

/// A linter; None if it isn't installed.
fn linter(name: &str) -> Option<Command> {
    let variable = name.to_uppercase().replace('-', "_");
    let installed = PathBuf::from(LINTERS).join("bin").join(name);
    let mut command = Command::new(find_program(name, &variable, Some(installed))?);
    command.env("PYTHONPATH", LINTERS);
    Some(command)
}

/// The documents of a YAML file.
fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Every container of a manifest, sidecars included, each with its pod's security context.
fn containers(path: &str) -> Vec<(Value, Value)> {
    let mut containers = Vec::new();
    for document in documents(path) {
        let pod = &document["spec"]["template"]["spec"];
        for list in ["initContainers", "containers"] {
            for container in pod[list].as_array().into_iter().flatten() {
                containers.push((container.clone(), pod["securityContext"].clone()));
            }
        }
    }
    containers
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
    for manifest in MANIFESTS {
        let folder = TempDir::new().unwrap();
        for document in documents(manifest).iter().filter(|one| one["kind"] == "ConfigMap") {
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
    let dockerfile = fs::read_to_string("deploy/Dockerfile").unwrap();
    for address in ["TOLLGATE_GRPC_ADDRESS=0.0.0.0:8081", "TOLLGATE_HTTP_ADDRESS=0.0.0.0:8080"] {
        assert!(dockerfile.contains(address), "{address}");
    }
    let compose: Value = documents("deploy/compose.yaml").remove(0);
    let environment = &compose["services"]["tollgate"]["environment"];
    // Envoy's network is its own, and one's own ports are published from it.
    assert_eq!(environment["TOLLGATE_GRPC_ADDRESS"], "127.0.0.1:8081");
    assert_eq!(environment["TOLLGATE_HTTP_ADDRESS"], "0.0.0.0:8080");
    for manifest in MANIFESTS {
        let all = containers(manifest);
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
        for (container, pod) in containers(manifest) {
            let context = &container["securityContext"];
            let name = format!("{manifest}: {}", container["name"]);
            assert_eq!(pod["runAsNonRoot"], true, "{name}");
            assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(context["capabilities"]["drop"][0], "ALL", "{name}");
            assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        }
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
