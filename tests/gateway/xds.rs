//! Policies by xDS, from a server of the test's own.

use std::fs;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::ratelimit::config::ratelimit::v3::{RateLimitDescriptor, RateLimitUnit};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::ads::{Ads, TYPE_URL, domain, limit, rule, write_identity};
use crate::support::client::{Http, request};
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::store::Store;
use crate::support::tls::{Authority, NAME};
use crate::support::tollgate::{Tollgate, command};

const DAY: RateLimitUnit = RateLimitUnit::Day;

/// A Tollgate with policies from this server.
async fn served(ads: &Ads, flags: &[&str]) -> Tollgate {
    let server = ads.address.to_string();
    let own = ["--policy-source", "xds", "--xds-server", &server, "--xds-retry-min", "50ms"];
    let own = [&own[..], &["--xds-retry-max", "200ms"], flags].concat();
    Tollgate::serve_with("ignored: true", &Store::Embedded, &own).await
}

/// The code of the answer to a request of one entry; an error is `Unknown`.
async fn ask(tollgate: &Tollgate, domain: &str, key: &str, value: &str) -> Code {
    let mut client = tollgate.client().await;
    let asked = client.should_rate_limit(request(domain, &[&[(key, value)]])).await;
    asked.map_or(Code::Unknown, |answer| answer.into_inner().overall_code())
}

async fn get(tollgate: &Tollgate, path: &str) -> String {
    Http::new().get(&format!("http://{}{path}", tollgate.http_address), &[]).await.text()
}

async fn shows(tollgate: &Tollgate, path: &str, text: &str) {
    eventually(&format!("{text} at {path}"), async || {
        get(tollgate, path).await.contains(text).then_some(())
    })
    .await;
}

async fn is_connected(tollgate: &Tollgate, ads: &Ads, connected: bool) {
    let metric = "tollgate_xds_connected{server=\"";
    let text = format!("{metric}{}\"}} {}", ads.address, u8::from(connected));
    shows(tollgate, "/metrics", &text).await;
}

fn users(amount: u32) -> Vec<RateLimitDescriptor> {
    vec![limit("user", "", amount, DAY)]
}

#[tokio::test]
async fn limits_of_the_server_hold_and_edits_keep_the_counts() {
    let ads = Ads::start().await;
    ads.send("1", &[domain("shop", users(1))]);
    let tollgate = served(&ads, &[]).await;
    ads.accepted("1").await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Ok);
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::OverLimit);
    shows(&tollgate, "/policy", r#""source":"xds","version":"1""#).await;
    shows(&tollgate, "/metrics", r#"tollgate_policy_version_info{source="xds",version="1"} 1"#)
        .await;
    is_connected(&tollgate, &ads, true).await;

    ads.send("2", &[domain("shop", users(2)), domain("other", users(9))]);
    ads.accepted("2").await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Ok);
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::OverLimit);
    // The same texts as a new version.
    ads.send("3", &[domain("shop", users(2)), domain("other", users(9))]);
    ads.accepted("3").await;
    shows(&tollgate, "/policy", r#""version":"3""#).await;

    ads.send("4", &[]);
    ads.accepted("4").await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Ok, "an empty set has no limits");
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_every_problem_and_changes_nothing() {
    let ads = Ads::start().await;
    ads.send("1", &[domain("shop", users(0))]);
    let tollgate = served(&ads, &[]).await;
    ads.accepted("1").await;

    let unknown = RateLimitUnit::Unknown;
    let wrong = domain("shop", vec![limit("user", "", 1, unknown), rule("", "x", Vec::new())]);
    ads.send("2", &[wrong.clone(), domain("shop", Vec::new()), domain("", Vec::new())]);
    let refused = ads.rejected(0).await;
    assert_eq!(refused.version_info, "1", "the version in force");
    let detail = refused.error_detail.unwrap();
    assert_eq!(detail.code, tonic::Code::InvalidArgument as i32);
    for part in ["xds:shop:5:", "xds:shop:7:", "duplicate domain `shop`", "xds::1:", "unknown"] {
        assert!(detail.message.contains(part), "no {part} in\n{}", detail.message);
    }
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::OverLimit);
    shows(&tollgate, "/metrics", r#"tollgate_xds_updates_total{result="rejected"} 1"#).await;
    shows(&tollgate, "/metrics", "tollgate_policy_rejected 1").await;
    assert!(tollgate.output().contains("^^^"), "{}", tollgate.output());

    let raw = |type_url: &str, value: &[u8]| Any { type_url: type_url.into(), value: value.into() };
    ads.send_raw("3", vec![raw(TYPE_URL, b"\xff\xff"), raw("type.googleapis.com/other", b"")]);
    let detail = ads.rejected(1).await.error_detail.unwrap();
    assert!(detail.message.contains("resource 0: "), "{}", detail.message);
    assert!(detail.message.contains("resource 1: unknown type"), "{}", detail.message);
    // The same again is rejected again.
    ads.send_raw("3", vec![raw(TYPE_URL, b"\xff\xff"), raw("type.googleapis.com/other", b"")]);
    assert_eq!(ads.rejected(2).await.error_detail.unwrap(), detail);
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::OverLimit);

    ads.send("4", &[domain("shop", users(1))]);
    ads.accepted("4").await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Ok);
    shows(&tollgate, "/metrics", "tollgate_policy_rejected 0").await;
}

#[tokio::test]
async fn the_node_says_who_asks() {
    let ads = Ads::start().await;
    ads.send("1", &[]);
    let flags = ["--xds-node-id", "envoy-ratelimit", "--xds-node-metadata", "zone=a,rack=7"];
    let flags = [&flags[..], &["--xds-headers", "authorization:Bearer x,x-team:limits"]].concat();
    let tollgate = served(&ads, &flags).await;
    ads.accepted("1").await;
    let requests = ads.requests();
    let node = requests[0].node.as_ref().unwrap();
    assert_eq!((node.id.as_str(), node.user_agent_name.as_str()), ("envoy-ratelimit", "tollgate"));
    let fields = &node.metadata.as_ref().unwrap().fields;
    assert_eq!(fields["zone"].kind, Some(Kind::StringValue("a".into())));
    assert_eq!(fields["rack"].kind, Some(Kind::StringValue("7".into())));
    assert!(requests.iter().all(|request| request.type_url == TYPE_URL));
    assert!(requests[0].version_info.is_empty() && requests[0].response_nonce.is_empty());
    assert_eq!(requests[1].response_nonce, "0");
    let metadata = &ads.metadata()[0];
    assert_eq!(metadata.get("authorization").unwrap(), "Bearer x");
    assert_eq!(metadata.get("x-team").unwrap(), "limits");
    assert!(!tollgate.output().contains("Bearer"), "{}", tollgate.output());
}

#[tokio::test]
async fn a_server_that_comes_later_is_awaited() {
    let mut ads = Ads::start().await;
    ads.kill();
    let mut command = command();
    let server = ads.address.to_string();
    command.args(["serve", "--policy-source", "xds", "--xds-server", &server]);
    command.args(["--xds-retry-min", "50ms", "--xds-retry-max", "100ms"]);
    command.args(["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]);
    let process = Process::start("tollgate", &mut command);
    let waits = "no stream from the xDS server";
    eventually("a warning", async || process.output().contains(waits).then_some(())).await;
    let ads = Ads::start_at(ads.address).await;
    // What is invalid is no reason to start, nor to end.
    ads.send("1", &[domain("", Vec::new())]);
    ads.rejected(0).await;
    assert!(!process.output().contains("HTTP  http://"), "{}", process.output());
    ads.send("2", &[domain("shop", users(1))]);
    ads.accepted("2").await;
    eventually("the start", async || process.output().contains("HTTP  http://").then_some(()))
        .await;
}

#[tokio::test]
async fn a_start_without_policies_answers_errors_until_there_are_some() {
    let ads = Ads::start().await;
    let tollgate = served(&ads, &["--start-without-policies"]).await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Unknown);
    ads.send("1", &[domain("shop", users(1))]);
    ads.accepted("1").await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Ok);
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::OverLimit);
    assert_eq!(ask(&tollgate, "elsewhere", "user", "a").await, Code::Ok, "unknown domains pass");
}

#[tokio::test]
async fn a_restarted_server_is_found_again_even_if_it_counts_anew() {
    let mut ads = Ads::start().await;
    ads.send("1", &[domain("shop", users(1))]);
    let tollgate = served(&ads, &[]).await;
    ads.accepted("1").await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Ok);
    ads.kill();
    is_connected(&tollgate, &ads, false).await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::OverLimit, "the policies stay");
    let ads = Ads::start_at(ads.address).await;
    ads.send("1", &[domain("shop", users(2))]);
    ads.accepted("1").await;
    assert!(ads.requests()[0].version_info.is_empty(), "it asks for everything");
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Ok);
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::OverLimit, "the count stays");
}

#[tokio::test]
async fn a_copy_on_disk_survives_a_restart_of_both() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("xds.cache");
    let flags = ["--xds-cache-file", file.to_str().unwrap()];
    let mut ads = Ads::start().await;
    ads.send("7", &[domain("shop", users(0))]);
    let tollgate = served(&ads, &flags).await;
    ads.accepted("7").await;
    drop(tollgate);
    ads.kill();

    let tollgate = served(&ads, &flags).await;
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::OverLimit);
    shows(&tollgate, "/policy", r#""source":"xds_cache","version":"7""#).await;
    let ads = Ads::start_at(ads.address).await;
    ads.send("7", &[domain("shop", users(0))]);
    ads.accepted("7").await;
    shows(&tollgate, "/policy", r#""source":"xds","version":"7""#).await;
    drop(tollgate);

    // A damaged copy is no copy.
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let tollgate = served(&ads, &flags).await;
    ads.accepted("7").await;
    assert!(tollgate.output().contains("it is damaged"), "{}", tollgate.output());
}

#[tokio::test]
async fn a_host_that_accepts_connections_and_stays_silent_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let flags = ["--policy-source", "xds", "--xds-server", &server, "--xds-retry-max", "50ms"];
    let quick = ["--xds-retry-min", "50ms", "--xds-response-timeout", "100ms"];
    let flags = [&flags[..], &quick, &["--start-without-policies"]].concat();
    let tollgate = Tollgate::serve_with("ignored: true", &Store::Embedded, &flags).await;
    // It connects again and again.
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(listener.accept().await.unwrap());
    }
    eventually("a warning", async || {
        tollgate.output().contains("the server does not answer").then_some(())
    })
    .await;
    shows(&tollgate, "/metrics", &format!("tollgate_xds_connected{{server=\"{server}\"}} 0")).await;
}

#[tokio::test]
async fn a_server_without_policies_for_the_node_is_waited_for() {
    let ads = Ads::start().await;
    let flags = ["--start-without-policies", "--xds-response-timeout", "100ms"];
    let tollgate = served(&ads, &flags).await;
    eventually("a warning", async || {
        tollgate.output().contains("the xDS server has not sent policies yet").then_some(())
    })
    .await;
    is_connected(&tollgate, &ads, false).await;
    ads.send("1", &[domain("shop", users(1))]);
    ads.accepted("1").await;
    is_connected(&tollgate, &ads, true).await;
    assert_eq!(ads.metadata().len(), 1, "one stream");
    assert_eq!(ask(&tollgate, "shop", "user", "a").await, Code::Ok);
}

#[tokio::test]
async fn ten_thousand_descriptors_are_taken_and_a_message_above_the_maximum_is_not() {
    let ads = Ads::start().await;
    let below = (0..10_000).map(|user| limit("user", &format!("u{user}"), 1, DAY)).collect();
    ads.send("1", &[domain("shop", vec![rule("generic_key", "route", below)])]);
    let tollgate = served(&ads, &[]).await;
    ads.accepted("1").await;
    let mut client = tollgate.client().await;
    for expected in [Code::Ok, Code::OverLimit] {
        let entries = [("generic_key", "route"), ("user", "u9999")];
        let answer = client.should_rate_limit(request("shop", &[&entries])).await.unwrap();
        assert_eq!(answer.into_inner().overall_code(), expected);
    }
    let small = served(&ads, &["--xds-message-size-max", "1024", "--start-without-policies"]).await;
    eventually("an error", async || {
        small.output().contains("message length too large").then_some(())
    })
    .await;
    ads.send("2", &[domain("shop", users(1))]);
    shows(&small, "/policy", r#""version":"2""#).await;
}

#[tokio::test]
async fn mutual_tls_is_used_and_certificates_are_read_again() {
    let authority = Authority::new();
    let mut ads = Ads::start_tls(&authority, &authority.sign()).await;
    ads.send("1", &[domain("shop", users(0))]);
    let folder = TempDir::new().unwrap();
    // Of an authority that the server does not know.
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write_identity(folder.path(), &Authority::new());
    fs::write(path("ca.crt"), authority.pem()).unwrap();
    let files = [path("ca.crt"), path("tls.crt"), path("tls.key")];
    let [ca, cert, key] = files.each_ref().map(String::as_str);
    let flags = ["--xds-tls", "--xds-tls-ca-file", ca, "--xds-tls-cert-file", cert];
    let flags = [&flags[..], &["--xds-tls-key-file", key, "--start-without-policies"]].concat();
    // The server's certificate has another name than its address.
    let unnamed = served(&ads, &flags).await;
    let named = served(&ads, &[&flags[..], &["--xds-tls-server-name", NAME]].concat()).await;
    for (tollgate, reason) in [(&unnamed, "not valid for name"), (&named, "xDS server")] {
        eventually(reason, async || {
            let output = tollgate.output();
            let is_refused = output.contains("no stream from the xDS server");
            (is_refused && output.contains(reason)).then_some(())
        })
        .await;
    }
    assert!(ads.requests().is_empty());
    write_identity(folder.path(), &authority);
    shows(&named, "/policy", r#""version":"1""#).await;
    assert_eq!(ask(&named, "shop", "user", "a").await, Code::OverLimit);
    assert_eq!(ask(&unnamed, "shop", "user", "a").await, Code::Unknown);
    ads.kill();
    is_connected(&named, &ads, false).await;
}
