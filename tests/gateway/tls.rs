//! TLS on the ports: who is trusted, who is let in, and certificates that change under a running Tollgate.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{Grpc, Http, request};
use crate::support::gateway::{Counts, Gateway};
use crate::support::store::Store;
use crate::support::tls::{Authority, Client, NAME};
use crate::support::tollgate::Tollgate;
use crate::support::{PATIENCE, client, eventually, tollgate};

const POLICY: &str = "{domain: safe, descriptors: [{key: user, limits: [1000/day]}]}";

/// A Tollgate whose port `port`, `grpc` or `http`, has a certificate.
struct Served {
    tollgate: Tollgate,
    authority: Authority,
    folder: TempDir,
}

impl Served {
    async fn start(port: &str, is_mutual: bool) -> Self {
        let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
        // As Kubernetes mounts a secret.
        mount(folder.path(), "..2026_1", |version| authority.sign().write(version));
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
        }
        let flags = flags(port, folder.path(), &authority, is_mutual);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
        Self { tollgate, authority, folder }
    }

    /// What is counted, of a Tollgate whose HTTP is plain.
    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.tollgate.http_address);
        String::from_utf8(Http::new().get(&url, &[]).await.body.to_vec()).unwrap()
    }

    /// The certificate that whoever connects to gRPC's port is shown.
    async fn shown(&self) -> CertificateDer<'static> {
        let client = self.authority.client(None);
        let stream = client.connect(self.tollgate.grpc_address, "h2").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// Fills a directory, and swaps the link to the one before for a link to it.
fn mount(folder: &Path, version: &str, fill: impl FnOnce(&Path)) {
    fs::create_dir(folder.join(version)).unwrap();
    fill(&folder.join(version));
    symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

/// What makes Tollgate use the files of `folder`.
fn flags(port: &str, folder: &Path, authority: &Authority, is_mutual: bool) -> Vec<String> {
    let flag =
        |name: &str, file: &str| format!("--{port}-tls-{name}={}", folder.join(file).display());
    let mut flags = vec![flag("cert-file", "tls.crt"), flag("key-file", "tls.key")];
    if is_mutual {
        fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
        flags.push(flag("client-ca-file", "ca.crt"));
    }
    flags
}

/// Whether the service answers.
async fn asks(client: &mut Grpc) -> bool {
    client.should_rate_limit(request("safe", &[&[("user", "alice")]])).await.is_ok()
}

/// Whether a client can connect and ask. In TLS 1.3 a client learns only after the handshake that it is turned away.
async fn is_let_in(client: &Client, address: SocketAddr) -> bool {
    match client.grpc(address).await {
        Ok(mut client) => asks(&mut client).await,
        Err(_) => false,
    }
}

#[tokio::test]
async fn grpc_speaks_tls_on_its_port_and_not_on_its_socket() {
    let served = Served::start("grpc", false).await;
    let address = served.tollgate.grpc_address;
    assert!(served.tollgate.output().contains(&format!("{address} (TLS)\n")));
    assert!(is_let_in(&served.authority.client(None), address).await);
    assert!(!is_let_in(&Authority::new().client(None), address).await);
    let other = served.authority.client(None).connect(address, "http/1.1").await;
    assert!(other.is_err(), "a client that doesn't speak HTTP/2 is turned away");
    let socket = format!("unix://{}", served.tollgate.socket().display());
    assert!(asks(&mut client::grpc(&socket).await).await);
}

#[tokio::test]
async fn mutual_tls_accepts_clients_with_a_certificate_of_the_authority() {
    let served = Served::start("grpc", true).await;
    let (address, authority) = (served.tollgate.grpc_address, &served.authority);
    assert!(served.tollgate.output().contains(&format!("{address} (mutual TLS)\n")));
    assert!(is_let_in(&authority.client(Some(&authority.sign())), address).await);
    assert!(!is_let_in(&authority.client(None), address).await);
    assert!(!is_let_in(&authority.client(Some(&Authority::new().sign())), address).await);
}

#[tokio::test]
async fn a_client_of_the_authority_needs_the_name_that_is_set() {
    let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
    authority.sign().write(folder.path());
    let mut flags = flags("grpc", folder.path(), &authority, true);
    flags.push("--grpc-tls-client-name=envoy.internal".to_owned());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let tollgate = Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await;
    let trusting = &authority;
    let is_let_in = async |authority: &Authority, name| {
        let client = trusting.client(Some(&authority.sign_for(name)));
        is_let_in(&client, tollgate.grpc_address).await
    };
    assert!(is_let_in(&authority, "envoy.internal").await);
    assert!(!is_let_in(&authority, "other.internal").await);
    assert!(!is_let_in(&Authority::new(), "envoy.internal").await);
}

#[tokio::test]
async fn http_uses_tls_and_accepts_the_right_clients() {
    let served = Served::start("http", true).await;
    let (address, authority) = (served.tollgate.http_address, &served.authority);
    let known = authority.client(Some(&authority.sign()));
    let answer = known.get(address, "/livez").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("OK"), "{answer}");
    assert!(known.get(address, "/metrics").await.unwrap().contains("tollgate_"));
    assert!(authority.client(None).get(address, "/livez").await.is_err());
    assert!(
        served
            .tollgate
            .client()
            .await
            .should_rate_limit(request("safe", &[&[("user", "alice")]]))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_client_without_a_handshake_gets_nothing_and_blocks_no_other() {
    let served = Served::start("http", false).await;
    let address = served.tollgate.http_address;
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // That the connection is reset before all is read is fine too.
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let answer = served.authority.client(None).get(address, "/livez").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_a_bad_one_to_none() {
    let served = Served::start("grpc", false).await;
    let mut old = served.authority.client(None).grpc(served.tollgate.grpc_address).await.unwrap();
    assert!(asks(&mut old).await);

    let next = served.authority.sign();
    mount(served.folder.path(), "..2026_2", |version| next.write(version));
    eventually("the new certificate", async || (served.shown().await == next.der()).then_some(()))
        .await;
    assert!(asks(&mut old).await, "the connection from before goes on");

    let bad = served.authority.sign();
    mount(served.folder.path(), "..2026_3", |version| {
        bad.write(version);
        fs::write(version.join("tls.key"), "no key").unwrap();
    });
    let reported = "certificate renewal failed";
    eventually(reported, async || served.tollgate.output().contains(reported).then_some(())).await;
    assert_eq!(served.shown().await, next.der());
    let metrics = served.metrics().await;
    // What is made without an end has that of the format.
    let until = r#"tollgate_certificate_expiry_timestamp_seconds{port="grpc"} 67090118400"#;
    assert!(metrics.contains(until), "{metrics}");
    assert!(metrics.contains(r#"tollgate_certificate_rejections_total{port="grpc"} 1"#));
    let mut certificates = metrics.lines().filter(|line| line.starts_with("tollgate_certificate_"));
    assert!(certificates.all(|line| !line.contains(r#"port="http""#)), "it has none");

    let last = served.authority.sign();
    mount(served.folder.path(), "..2026_4", |version| last.write(version));
    eventually("the last certificate", async || (served.shown().await == last.der()).then_some(()))
        .await;
    assert!(asks(&mut old).await);
    let output = served.tollgate.output();
    assert_eq!(output.matches(reported).count(), 1, "{output}");
}

#[test]
fn files_that_can_not_be_used_end_the_start() {
    let (authority, folder) = (Authority::new(), TempDir::new().unwrap());
    authority.sign().write(folder.path());
    fs::write(folder.path().join("tls.key"), authority.sign().key_pem).unwrap();
    let mut command = tollgate::command();
    command.args(["serve", "--policies", "config/policies/basic.yaml"]);
    command.args(["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]);
    let output = command.args(flags("http", folder.path(), &authority, false)).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let reported = "tls.key (http_tls_key_file) does not match the certificate ";
    assert!(!output.status.success() && said.contains(reported), "{said}");
}

#[tokio::test]
async fn envoy_asks_over_mutual_tls_as_the_page_on_deploying_shows() {
    let served = Served::start("grpc", true).await;
    let own = TempDir::new().unwrap();
    served.authority.sign().write(own.path());
    fs::write(own.path().join("ca.crt"), served.authority.pem()).unwrap();

    let page = fs::read_to_string("deploy/README.md").unwrap();
    let snippet = page.split("```yaml\n").find(|text| text.contains("transport_socket:")).unwrap();
    let snippet = snippet.split("```").next().unwrap();
    assert!(snippet.contains("/etc/envoy/tls/") && snippet.contains(NAME), "{snippet}");
    let snippet = snippet.replace("/etc/envoy/tls", &own.path().display().to_string());
    let config = fs::read_to_string("deploy/envoy/tcp.yaml").unwrap();
    let cluster = "    - name: tollgate\n";
    assert!(config.contains(cluster), "{config}");
    let config = config.replace(cluster, &(cluster.to_owned() + &snippet));
    let ports = [(8081, served.tollgate.grpc_address)];
    let config = config
        .replace("domain: basic", "domain: safe")
        .replace("descriptor_key: user_id", "descriptor_key: user");
    let Some(gateway) = Gateway::configured(config, &ports).await else { return };
    let mut counts = Counts::default();
    for _ in 0..3 {
        counts.add(gateway.caller.get("/", &[("x-user-id", "alice")]).await.status);
    }
    assert_eq!(counts, Counts::new(3, 0));
    assert_eq!(spent(&served).await, 3, "and Tollgate was asked");
}

/// What alice has spent of her thousand.
async fn spent(served: &Served) -> u32 {
    let socket = format!("unix://{}", served.tollgate.socket().display());
    let mut client = client::grpc(&socket).await;
    let answer = client.should_rate_limit(request("safe", &[&[("user", "alice")]])).await.unwrap();
    999 - answer.into_inner().statuses[0].limit_remaining
}
