//! Tollgate in place of envoyproxy/ratelimit: started as `ratelimit`, with the environment of Envoy Gateway and nothing
//! else, its policies by xDS, and a real Envoy in front.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use envoy_types::pb::ratelimit::config::ratelimit::v3::{
    RateLimitConfig, RateLimitDescriptor, RateLimitUnit,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::ads::{Ads, domain, limit, rule, write_identity};
use crate::support::client::{Http, request};
use crate::support::eventually;
use crate::support::gateway::{Gateway, tcp};
use crate::support::ports::free_port;
use crate::support::process::Process;
use crate::support::redis::Server;
use crate::support::tls::{Authority, NAME};
use crate::support::tollgate::PROGRAM;

const LISTENER: &str = "default/eg/http";
/// Both key and value of its descriptor; a route without hosts ends with `*`.
const ROUTE: &str = "httproute/default/backend/rule/0/match/0/*";

/// As Envoy Gateway makes it: the route, then a key for each match of each rule: one for each value of a header, one for
/// addresses of a range, and one in shadow mode.
fn set(amount: u32) -> RateLimitConfig {
    let address = limit("remote_address", "", 1, RateLimitUnit::Minute);
    let range = rule("masked_remote_address", "192.168.0.0/16", vec![address]);
    let below = vec![
        limit("rule-0-match-0", "", amount, RateLimitUnit::Hour),
        rule("rule-1-match-0", "rule-1-match-0", vec![range]),
        RateLimitDescriptor {
            shadow_mode: true,
            ..limit("rule-2-match-0", "rule-2-match-0", 0, RateLimitUnit::Second)
        },
    ];
    domain(LISTENER, vec![rule(ROUTE, ROUTE, below)])
}

/// The files, the Redis and the addresses of the limiter.
struct Place {
    folder: TempDir,
    redis: Server,
    http: SocketAddr,
    grpc: SocketAddr,
    metrics: SocketAddr,
}

impl Place {
    fn new(authority: &Authority) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        write_identity(folder.path(), authority);
        symlink(PROGRAM, folder.path().join("ratelimit")).unwrap();
        let local = |()| SocketAddr::from(([127, 0, 0, 1], free_port()));
        let [http, grpc, metrics] = [(); 3].map(local);
        Some(Self { folder, redis: Server::start(&[])?, http, grpc, metrics })
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The container of Envoy Gateway 1.9. Only ports, paths, names and times differ.
    fn start(&self, ads: &Ads) -> Process {
        let mut command = Command::new(self.folder.path().join("ratelimit"));
        command.env_clear().current_dir(Path::new("/")).envs([
            ("RUNTIME_ROOT", "/data"),
            ("RUNTIME_SUBDIRECTORY", "ratelimit"),
            ("RUNTIME_IGNOREDOTFILES", "true"),
            ("RUNTIME_WATCH_ROOT", "false"),
            ("LOG_LEVEL", "info"),
            ("USE_STATSD", "false"),
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_SERVER_URL", &ads.address.to_string()),
            ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", &self.file("tls.crt")),
            ("GRPC_SERVER_TLS_KEY", &self.file("tls.key")),
            ("GRPC_SERVER_TLS_CA_CERT", &self.file("ca.crt")),
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &self.file("tls.crt")),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &self.file("tls.key")),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &self.file("ca.crt")),
            ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
            ("REDIS_SOCKET_TYPE", "unix"),
            ("REDIS_URL", &self.redis.socket()),
            ("USE_PROMETHEUS", "true"),
            ("PROMETHEUS_ADDR", &format!(":{}", self.metrics.port())),
            ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
            // For this machine.
            ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", NAME),
            ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "50ms"),
            ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "200ms"),
            ("REDIS_TIMEOUT", "10s"),
            ("PORT", &self.http.port().to_string()),
            ("GRPC_PORT", &self.grpc.port().to_string()),
        ]);
        Process::start("ratelimit", &mut command)
    }

    async fn ready(&self, process: &mut Process) {
        let url = format!("http://{}/healthcheck", self.http);
        eventually("/healthcheck and Redis", async || {
            process.assert_runs();
            let is_connected = process.output().contains("connected to Redis");
            let answer = Http::new().try_get(&url, &[]).await.ok()?;
            (is_connected && answer.status == 200).then_some(())
        })
        .await;
    }

    /// Envoy's configuration, with TLS to the limiter and without a certificate of its own.
    fn envoy(&self) -> String {
        let config = include_str!("../support/gateway.yaml");
        let config = config.replace("domain: gate", &format!("domain: {LISTENER}"));
        let authority = json!({ "trusted_ca": { "filename": self.file("ca.crt") } });
        let tls = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type":
                    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": { "validation_context": authority }
            }
        });
        let place = "    - name: tollgate\n      type: STATIC\n";
        assert_eq!(config.matches(place).count(), 1);
        config.replace(place, &format!("{place}      transport_socket: {tls}\n"))
    }
}

#[tokio::test]
async fn limits_of_envoy_gateway_hold_with_its_environment_alone() {
    let authority = Authority::new();
    let mut ads = Ads::start_tls(&authority, &authority.sign()).await;
    let Some(place) = Place::new(&authority) else { return };
    let mut process = place.start(&ads);
    place.ready(&mut process).await;
    // A client without a certificate is served. Before the first set, Envoy's `failure_mode_deny` decides.
    let mut client = authority.client(None).grpc(place.grpc).await.unwrap();
    let entries = [(ROUTE, ROUTE), ("rule-0-match-0", "alice")];
    let asked = client.should_rate_limit(request(LISTENER, &[&entries])).await;
    assert_eq!(asked.unwrap_err().code(), tonic::Code::Unavailable);
    ads.send("1", &[set(3)]);
    ads.accepted("1").await;
    assert_eq!(ads.requests()[0].node.as_ref().unwrap().id, "envoy-ratelimit");
    let output = process.output();
    for variable in ["GRPC_SERVER_TLS_CA_CERT", "RUNTIME_ROOT", "PROMETHEUS_MAPPER_YAML"] {
        let line = format!("{variable} of envoyproxy/ratelimit has no effect: ");
        assert_eq!(output.matches(&line).count(), 1, "{variable}\n{output}");
    }

    let route = json!({ "generic_key": { "descriptor_key": ROUTE, "descriptor_value": ROUTE } });
    let user = json!({ "header_name": "x-user-id", "descriptor_key": "rule-0-match-0" });
    let limits = json!([{ "actions": [route, { "request_headers": user }] }]);
    let Some(gateway) = Gateway::of(&place.envoy(), &limits, &[tcp(place.grpc)]).await else {
        return;
    };
    let ask = async || gateway.caller.get("/", &[("x-user-id", "alice")]).await.status;
    for expected in [200, 200, 200, 429] {
        assert_eq!(ask().await, expected);
    }
    // After an edit, and after a restart of either side, the count is the same.
    ads.send("2", &[set(4)]);
    ads.accepted("2").await;
    assert_eq!((ask().await, ask().await), (200, 429));
    process.terminate();
    process.exit().await;
    let mut process = place.start(&ads);
    place.ready(&mut process).await;
    eventually("the set", async || process.output().contains("policy.version=\"2\"").then_some(()))
        .await;
    // Envoy finds it again.
    eventually("an answer", async || (ask().await == 429).then_some(())).await;
    ads.kill();
    assert_eq!(ask().await, 429, "the policies stay");
    let url = format!("http://{}/metrics", place.metrics);
    let metrics = Http::new().get(&url, &[]).await.text();
    assert!(metrics.contains("tollgate_policy_version_info{"), "{metrics}");
}
