//! The programs that check files to deploy, and what those files have in common.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::find_program;

/// The folder in which `tests/run.sh` installs programs.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools");

/// Runs `command`, which must succeed, and returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}");
    said
}

/// A linter; None if it isn't installed.
pub fn linter(name: &str) -> Option<Command> {
    installed(name, &format!("linters/bin/{name}"))
}

/// A program that the test can't do without.
pub fn required(name: &str, path: &str) -> Command {
    installed(name, path).unwrap_or_else(|| panic!("{name} is absent: run tests/run.sh --install"))
}

/// A program on the PATH, or at a path in the folder of installed programs.
fn installed(name: &str, path: &str) -> Option<Command> {
    let variable = name.to_uppercase().replace('-', "_");
    let mut command =
        Command::new(find_program(name, &variable, Some(PathBuf::from(TOOLS).join(path)))?);
    command.env("PYTHONPATH", format!("{TOOLS}/linters"));
    Some(command)
}

/// The documents of a YAML text.
pub fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Every container of resources, sidecars included, each with its pod's security context.
pub fn containers(resources: &[Value]) -> Vec<(Value, Value)> {
    let mut containers = Vec::new();
    for resource in resources {
        let pod = &resource["spec"]["template"]["spec"];
        for list in ["initContainers", "containers"] {
            for container in pod[list].as_array().into_iter().flatten() {
                containers.push((container.clone(), pod["securityContext"].clone()));
            }
        }
    }
    containers
}

/// Checks that every container has no rights that it does not need, and a bound of memory.
pub fn assert_confined(origin: &str, resources: &[Value]) {
    for (container, pod) in containers(resources) {
        let context = &container["securityContext"];
        let name = format!("{origin}: {}", container["name"]);
        assert_eq!(pod["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["capabilities"]["drop"][0], "ALL", "{name}");
        assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
    }
}
