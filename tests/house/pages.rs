//! The reference pages in `config/` match the program: settings and metrics.
//!
//! `UPDATE_EXPECTED=1 cargo test pages` writes them again; review the diff.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

use tempfile::TempDir;

use crate::support::ads::Ads;
use crate::support::client::Http;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tls::Authority;
use crate::support::tollgate::Tollgate;
use crate::support::{eventually, tollgate};

const SETTINGS_PAGE: &str = "config/settings.md";
const METRICS_PAGE: &str = "config/metrics.md";

/// The start of the generated part of the page on metrics.
const GENERATED: &str =
    "<!-- From /metrics. Do not edit from here on: UPDATE_EXPECTED=1 cargo test pages -->\n";

/// Labels with values from policies, builds or errors.
const OPEN_LABELS: [&str; 11] = [
    "server", "channel", "domain", "limit", "rule", "provider", "hash", "version", "commit",
    "kind", "le",
];

/// A metric in `/metrics`.
#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    /// The labels of its series, with their values.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// Compares a page with the expected text, or updates it.
fn check_page(path: &str, expected: &str) {
    if env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(path, expected).unwrap();
    }
    let page = fs::read_to_string(path).unwrap();
    let differing = page.lines().zip(expected.lines()).find(|(one, other)| one != other);
    assert!(
        page == expected,
        "{path} is out of date: UPDATE_EXPECTED=1 cargo test pages\n{differing:#?}"
    );
}

#[test]
fn the_page_on_settings_is_what_the_program_prints() {
    let output = tollgate::command().arg("settings").output().unwrap();
    check_page(SETTINGS_PAGE, &String::from_utf8(output.stdout).unwrap());
}

#[tokio::test]
async fn the_page_on_metrics_is_what_a_running_tollgate_exports() {
    let Some(server) = Server::start(&[]) else { return };
    let metrics = read(&format!("{}{}", exported(server).await, exported_with_xds().await));
    let page = fs::read_to_string(METRICS_PAGE).unwrap();
    let (written, _) = page.split_once(GENERATED).unwrap();
    check_page(METRICS_PAGE, &format!("{written}{GENERATED}\n{}", table(&metrics)));
    for (path, name) in named_in_pages() {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_known = |name: &str| metrics.contains_key(name);
        assert!(is_known(&name) || base.is_some_and(is_known), "{path} names `{name}`");
    }
}

/// All metrics of a Tollgate that uses every feature with metrics: TLS, shared capacity, choices, thresholds, signals,
/// and a Redis that becomes unavailable.
async fn exported(mut server: Server) -> String {
    let folder = TempDir::new().unwrap();
    let certificate = Authority::new().sign();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (write("tls.crt", &certificate.pem), write("tls.key", &certificate.key_pem));
    let pepper = folder.path().join("pepper");
    fs::write(&pepper, "p".repeat(32)).unwrap();
    let pepper = pepper.to_str().unwrap();
    let flags = ["--grpc-tls-cert-file", &cert, "--grpc-tls-key-file", &key];
    let flags = [&flags[..], &["--api-key-pepper-file", pepper]].concat();
    let flags = [&flags[..], &["--alerts", "config/alerts.yaml"]].concat();
    let policy = fs::read_to_string("config/policies/travel.yaml").unwrap();
    let adjust = "adjust: { signal: errors, above: 1, below: 0, least: 50% }";
    let adjusted = format!("  - {{ key: adjusted, limits: [{{ rate: 5/day, {adjust} }}] }}");
    let policy = format!("{policy}\n{adjusted}\ndefaults: {{ thresholds: true }}\n");
    let store = Store::Redis(server);
    let tollgate = Tollgate::serve_with(&policy, &store, &flags).await;
    server = match store {
        Store::Redis(server) => server,
        Store::Embedded => unreachable!("it was put there"),
    };
    server.kill();
    let http = Http::new();
    let url = |path: &str| format!("http://{}/{path}", tollgate.http_address);
    let ask =
        r#"{"domain": "travel", "descriptors": [{"entries": [{"key": "user_id", "value": "a"}]}]}"#;
    eventually("an error of the store", async || {
        http.post(&url("json"), &[], ask).await;
        let text = String::from_utf8(http.get(&url("metrics"), &[]).await.body.into()).unwrap();
        text.contains("tollgate_store_errors_total{").then_some(text)
    })
    .await
}

/// All metrics of a Tollgate with policies by xDS and an overlay.
async fn exported_with_xds() -> String {
    let ads = Ads::start().await;
    ads.send("1", &[]);
    let server = ads.address.to_string();
    let flags = ["--policy-source", "xds", "--xds-server", &server];
    let flags = [&flags[..], &["--policy-overlays", "config/overlays"]].concat();
    let tollgate = Tollgate::serve_with("ignored: true", &Store::Embedded, &flags).await;
    ads.accepted("1").await;
    let url = format!("http://{}/metrics", tollgate.http_address);
    String::from_utf8(Http::new().get(&url, &[]).await.body.into()).unwrap()
}

/// The metrics of a text in OpenMetrics, by the names of their series.
fn read(text: &str) -> BTreeMap<String, Metric> {
    let mut kinds = BTreeMap::new();
    let mut helps = BTreeMap::new();
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
        {
            kinds.insert(name, kind);
        } else if let Some((name, help)) =
            line.strip_prefix("# HELP ").and_then(|line| line.split_once(' '))
        {
            helps.insert(name, help);
        } else if !line.starts_with('#') {
            let end = line.find(['{', ' ']).unwrap();
            let (series, rest) = line.split_at(end);
            let ends = ["_total", "_info", "_bucket", "_sum", "_count"];
            let bases = ends.iter().filter_map(|end| series.strip_suffix(end));
            let base = [series].into_iter().chain(bases).find(|base| kinds.contains_key(base));
            let base = base.unwrap_or_else(|| panic!("no type of {series}"));
            let name = if kinds[base] == "histogram" { base } else { series };
            let metric = metrics.entry(name.to_owned()).or_default();
            (metric.kind, metric.help) = (kinds[base].to_owned(), helps[base].to_owned());
            for (label, value) in labels(rest) {
                metric.labels.entry(label).or_default().insert(value);
            }
        }
    }
    metrics
}

/// The labels of a series, from the text after its name.
fn labels(rest: &str) -> Vec<(String, String)> {
    let Some((inside, _)) = rest.strip_prefix('{').and_then(|rest| rest.rsplit_once('}')) else {
        return Vec::new();
    };
    let parts = inside.split_inclusive('"').collect::<Vec<_>>();
    let pairs = parts.chunks_exact(2).map(|pair| {
        let name = pair[0].trim_start_matches(',').trim_end_matches("=\"");
        (name.to_owned(), pair[1].trim_end_matches('"').to_owned())
    });
    pairs.collect()
}

fn table(metrics: &BTreeMap<String, Metric>) -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, metric) in metrics {
        let labels = metric.labels.iter().filter(|(label, _)| *label != "le");
        let labels = labels.map(|(label, values)| match OPEN_LABELS.contains(&label.as_str()) {
            true => format!("`{label}`"),
            false => {
                let values: Vec<String> = values.iter().map(|one| format!("`{one}`")).collect();
                format!("`{label}`: {}", values.join(", "))
            }
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        let help = metric.help.trim_end_matches('.');
        writeln!(table, "| `{name}` | {} | {labels} | {help} |", metric.kind).unwrap();
    }
    table
}

/// The metrics that pages name in backticks, each with its page.
fn named_in_pages() -> Vec<(String, String)> {
    let mut paths = vec![PathBuf::from("README.md")];
    for folder in ["config", "deploy"] {
        paths.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    let mut names = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|one| one == "md")) {
        let text = fs::read_to_string(path).unwrap();
        for rest in text.split("`tollgate_").skip(1) {
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let name: String = rest.chars().take_while(|letter| is_name(*letter)).collect();
            // What goes on otherwise is a prefix, such as `tollgate_*`.
            if !name.is_empty() && rest[name.len()..].starts_with(['`', '{']) {
                names.push((path.display().to_string(), format!("tollgate_{name}")));
            }
        }
    }
    assert!(!names.is_empty());
    names
}
