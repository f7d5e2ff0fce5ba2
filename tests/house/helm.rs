//! The Helm chart in `deploy/helm`: what it renders is valid and starts a Tollgate, for each of the values in its folder `ci/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::deploy::KUBERNETES;
use super::tools::{assert_confined, containers, documents, linter, required, run};
use crate::support::client::Http;
use crate::support::fields::check_fields;
use crate::support::ports::free_port;
use crate::support::process::Process;
use crate::support::tls::Authority;
use crate::support::{eventually, tollgate};

const CHART: &str = "deploy/helm";

/// Values that need a newer Kubernetes than the oldest.
const SIDECAR: &str = "deploy/helm/ci/sidecar-values.yaml";

/// The group of the Prometheus operator, whose resources Kubernetes itself does not know.
const OPERATOR: &str = "monitoring.coreos.com/v1";

fn helm() -> Command {
    required("helm", "helm/helm")
}

/// Every file of values in `ci/`.
fn values() -> Vec<String> {
    let files = fs::read_dir(format!("{CHART}/ci")).unwrap();
    let values: Vec<String> =
        files.map(|file| file.unwrap().path().to_str().unwrap().to_owned()).collect();
    assert!(values.iter().any(|path| path == SIDECAR), "{values:?}");
    values
}

/// `helm template` of a chart, in the namespace `gateway`.
fn template(chart: &str, values: &str, kubernetes: &str) -> Command {
    let mut helm = helm();
    helm.args(["template", "limits", chart, "--namespace", "gateway", "--values", values]);
    helm.args(["--kube-version", kubernetes]);
    helm
}

/// What the chart renders for a file of values and the newest Kubernetes.
fn render(values: &str) -> Vec<Value> {
    documents(&run(&mut template(CHART, values, KUBERNETES[1])))
}

/// Checks rendered resources with Kubernetes' schemas, or, if it has none, with the fields that we know.
fn check(text: &str, kubernetes: &str) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rendered.yaml");
    fs::write(&file, text).unwrap();
    let mut validate = linter("kubernetes-validate").expect("run tests/run.sh --install");
    let said = run(validate.args(["--strict", "-k", kubernetes]).arg(&file));
    for line in said.lines().filter(|line| line.starts_with("WARN")) {
        assert!(line.contains(OPERATOR), "{line}");
    }
    let resources = documents(text);
    resources.iter().filter(|one| one["apiVersion"] == OPERATOR).for_each(check_fields);
}

#[test]
fn helm_finds_no_flaw_in_the_chart() {
    for values in values() {
        run(helm().args(["lint", "--strict", CHART, "--values", &values]));
    }
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let chart = &documents(&fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap())[0];
    for name in ["version", "appVersion"] {
        assert_eq!(chart[name], env!("CARGO_PKG_VERSION"), "{name}");
    }
}

#[test]
fn kubernetes_accepts_all_that_the_chart_renders() {
    for values in values() {
        for kubernetes in KUBERNETES {
            if (values.as_str(), kubernetes) != (SIDECAR, KUBERNETES[0]) {
                check(&run(&mut template(CHART, &values, kubernetes)), kubernetes);
            }
        }
    }
}

#[test]
fn every_rendered_container_is_confined_and_mounts_whole_volumes() {
    for values in values() {
        let resources = render(&values);
        assert_confined(&values, &resources);
        for (container, _) in containers(&resources) {
            for mount in container["volumeMounts"].as_array().unwrap() {
                assert!(mount["subPath"].is_null(), "{values}: {mount}");
            }
        }
    }
}

#[test]
fn the_pods_restart_at_an_edit_only_if_told() {
    let checksum = |values: &str| {
        let resources = render(&format!("{CHART}/ci/{values}-values.yaml"));
        let deployment = resources.iter().find(|one| one["kind"] == "Deployment").unwrap();
        deployment["spec"]["template"]["metadata"]["annotations"]["checksum/policies"].clone()
    };
    assert!(checksum("embedded").is_string());
    assert!(checksum("redis").is_null());
}

#[test]
fn values_that_cannot_work_are_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("values.yaml");
    let policies = "policies: { existingConfigMap: limits }";
    for (values, kubernetes, reason) in [
        ("mode: shared", "1.37.0", "set policies.files"),
        (
            "policies: { existingConfigMap: a, files: { a.yaml: 'domain: a' } }",
            "1.37.0",
            "not both",
        ),
        ("policies: { files: { limits: 'domain: a' } }", "1.37.0", "limits"),
        (&format!("{policies}\nalertFiles: {{ existingSecret: a }}"), "1.37.0", "needs alertFiles"),
        (
            &format!(
                "{policies}\nalertFiles: {{ existingConfigMap: a, files: {{ a.yaml: 'a' }} }}"
            ),
            "1.37.0",
            "not both",
        ),
        (
            &format!(
                "{policies}\nalertFiles: {{ existingConfigMap: a }}\nsettings: {{ alerts: b }}"
            ),
            "1.37.0",
            "settings.alerts",
        ),
        (&format!("{policies}\nreplicas: 2"), "1.37.0", "several replicas need redis.url"),
        (&format!("{policies}\nautoscaling: {{ enabled: true }}"), "1.37.0", "need redis.url"),
        (&format!("{policies}\nreplica: 2"), "1.37.0", "replica"),
        (&format!("{policies}\nredis: {{ url: redis:6379 }}"), "1.37.0", "/redis/url"),
        (
            &format!("{policies}\nredis: {{ url: 'redis://a', tls: {{ existingSecret: a }} }}"),
            "1.37.0",
            "begins with rediss://",
        ),
        (&format!("{policies}\nsettings: {{ http_address: 'off' }}"), "1.37.0", "http_address"),
        (&format!("{policies}\nmode: sidecar"), "1.35.0", "needs Kubernetes 1.36 or later"),
    ] {
        fs::write(&file, values).unwrap();
        let output = template(CHART, file.to_str().unwrap(), kubernetes).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{values}\n{said}");
    }
}

#[test]
fn the_command_of_the_guide_renders() {
    let guide = fs::read_to_string("deploy/README.md").unwrap();
    let (_, command) = guide.split_once("    helm install ").unwrap();
    let (command, _) = command.split_once("\n\n").unwrap();
    let script = command.replace("\\\n", " ");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("\"$0\" template {script}")).arg(helm().get_program());
    let resources = documents(&run(&mut shell));
    let deployment = resources.iter().find(|one| one["kind"] == "Deployment").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 3);
    let policies = resources.iter().find(|one| one["kind"] == "ConfigMap").unwrap();
    let policy = fs::read_to_string("config/policies/hotels.yaml").unwrap();
    assert_eq!(policies["data"]["hotels.yaml"], policy);
}

#[test]
fn settings_that_the_chart_makes_itself_are_settings() {
    let schema = fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let names = &schema["definitions"]["settings"]["propertyNames"]["not"]["enum"];
    let page = fs::read_to_string("config/settings.md").unwrap();
    for name in names.as_array().unwrap() {
        assert!(page.contains(&format!("| `{}` |", name.as_str().unwrap())), "{name}");
    }
}

/// The container's variables, with paths in `folder` instead of those in the container. Its files are created.
fn variables(container: &Value, folder: &Path) -> Vec<(String, String)> {
    let certificate = Authority::new().sign();
    let mut variables = Vec::new();
    for variable in container["env"].as_array().unwrap() {
        let [name, value] = ["name", "value"].map(|key| variable[key].as_str().unwrap().to_owned());
        let Some(path) = value.strip_prefix('/') else {
            variables.push((name, value));
            continue;
        };
        let path = folder.join(path);
        let text = match path.extension().and_then(|extension| extension.to_str()) {
            Some("key") => &certificate.key_pem,
            _ => &certificate.pem,
        };
        if name.ends_with("_FILE") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        } else {
            fs::create_dir_all(&path).unwrap();
        }
        variables.push((name, path.to_str().unwrap().to_owned()));
    }
    variables
}

/// Starts a Tollgate as a rendered container does, and waits until it serves.
async fn start(container: &Value, files: &[(&str, &Value)]) {
    let folder = TempDir::new().unwrap();
    let variables = variables(container, folder.path());
    for (kind, files) in files {
        for (name, text) in files.as_object().unwrap() {
            let folder = folder.path().join("etc/tollgate").join(kind);
            fs::write(folder.join(name), text.as_str().unwrap()).unwrap();
        }
    }
    let http_address = format!("127.0.0.1:{}", free_port());
    let mut command = tollgate::command();
    command.args(["serve", "--grpc-address", "127.0.0.1:0", "--http-address", &http_address]);
    let mut process = Process::start("tollgate", command.envs(variables));
    let http = Http::new();
    eventually("tollgate's readiness", async || {
        process.assert_runs();
        let answer = http.try_get(&format!("http://{http_address}/readyz"), &[]).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// The data of a ConfigMap of the chart, such as its policies.
fn config_map<'r>(resources: &'r [Value], kind: &str) -> Option<&'r Value> {
    let is_wanted = |one: &&Value| {
        let name = one["metadata"]["name"].as_str().unwrap();
        one["kind"] == "ConfigMap" && name == format!("limits-tollgate-{kind}")
    };
    Some(&resources.iter().find(is_wanted)?["data"])
}

#[test]
fn the_files_of_alerts_are_valid_and_their_secrets_are_mounted() {
    let resources = render(&format!("{CHART}/ci/redis-values.yaml"));
    let alerts = config_map(&resources, "alerts").unwrap();
    let folder = TempDir::new().unwrap();
    for (name, text) in alerts.as_object().unwrap() {
        fs::write(folder.path().join(name), text.as_str().unwrap()).unwrap();
    }
    run(tollgate::command().args(["check", "--alerts"]).arg(folder.path()));
    let (container, _) = containers(&resources).remove(0);
    let mounts: Vec<&Value> = container["volumeMounts"].as_array().unwrap().iter().collect();
    let at = |path: &str| mounts.iter().any(|mount| mount["mountPath"] == path);
    assert!(at("/etc/tollgate/alerts") && at("/etc/tollgate/alert-secrets"), "{mounts:?}");
}

#[tokio::test]
async fn every_rendered_container_starts_a_tollgate_with_its_policies() {
    for values in values() {
        let resources = render(&values);
        let files: Vec<(&str, &Value)> = ["policies", "alerts"]
            .into_iter()
            .filter_map(|kind| Some((kind, config_map(&resources, kind)?)))
            .collect();
        if files.is_empty() {
            continue;
        }
        let container = match containers(&resources).pop() {
            Some((container, _)) => container,
            None => injected(&resources),
        };
        start(&container, &files).await;
    }
}

/// The container that the rendered MutatingAdmissionPolicy adds to a pod.
fn injected(resources: &[Value]) -> Value {
    let policy = resources.iter().find(|one| one["kind"] == "MutatingAdmissionPolicy").unwrap();
    let expression = &policy["spec"]["mutations"][0]["jsonPatch"]["expression"];
    let expression = expression.as_str().unwrap();
    let (_, literal) = expression.split_once("\"/spec/initContainers/0\", value: ").unwrap();
    serde_json::from_str(&without_dyn(literal.strip_suffix("}]").unwrap())).unwrap()
}

/// A literal of CEL as JSON: without the calls of `dyn`.
fn without_dyn(literal: &str) -> String {
    let parts = literal.split('"').enumerate().map(|(index, part)| match index % 2 {
        0 => part.replace("dyn(", "").replace(')', ""),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("\"")
}

/// A chart that depends on ours, with a pod that has its container by the templates of `_sidecar.tpl`.
fn chart_with_sidecar() -> TempDir {
    let chart = TempDir::new().unwrap();
    let write = |path: &str, text: &str| {
        let path: PathBuf = chart.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Chart.yaml", "{ apiVersion: v2, name: api, version: 1.0.0 }");
    let own = fs::read_to_string(SIDECAR).unwrap().replace('\n', "\n  ");
    write(
        "values.yaml",
        &format!("tollgate:\n  {own}\n  sidecar: {{ inject: {{ enabled: false }} }}\n"),
    );
    write(
        "templates/pod.yaml",
        r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: api }
spec:
  selector: { matchLabels: { app: api } }
  template:
    metadata:
      labels:
        app: api
        {{- include "tollgate.sidecar.labels" .Subcharts.tollgate | nindent 8 }}
    spec:
      initContainers:
        {{- include "tollgate.sidecar.container" .Subcharts.tollgate | nindent 8 }}
      containers: [{ name: api, image: api }]
      volumes:
        {{- include "tollgate.sidecar.volumes" .Subcharts.tollgate | nindent 8 }}
"#,
    );
    fs::create_dir(chart.path().join("charts")).unwrap();
    run(Command::new("cp").args(["-R", CHART]).arg(chart.path().join("charts/tollgate")));
    chart
}

#[test]
fn the_injected_container_is_that_of_the_templates() {
    let chart = chart_with_sidecar();
    let values = chart.path().join("values.yaml");
    let text =
        run(&mut template(chart.path().to_str().unwrap(), values.to_str().unwrap(), KUBERNETES[0]));
    check(&text, KUBERNETES[0]);
    let (container, _) = containers(&documents(&text)).remove(0);
    assert_eq!(container["restartPolicy"], "Always");
    assert_eq!(injected(&render(SIDECAR)), container);
}
