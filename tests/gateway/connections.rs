//! Floods on connections, and connections that end because of their age.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::request;
use crate::support::gateway::{Counts, Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::{PATIENCE, eventually};

const POLICY: &str = "{domain: calm, descriptors: [{key: user, limits: [1000000/day]}]}";

/// Number of requests on one connection that are cancelled at once.
const TAKEN_BACK: u32 = 20_000;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A client that cancels every request that it sends (CVE-2023-44487).
fn rapid_reset() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for stream in (0..TAKEN_BACK).map(|index| 2 * index + 1) {
        // POST, http and / of HPACK's table, and the end of the headers.
        bytes.extend(frame(1, 4, stream, &[0x83, 0x86, 0x84]));
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    bytes
}

/// Runs that client repeatedly, each time on a new connection, and counts the runs.
async fn flood(address: SocketAddr, bytes: Vec<u8>, floods: Arc<AtomicUsize>) {
    loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        // The server may close the connection meanwhile.
        let _ = tokio::join!(writing.write_all(&bytes), reading.read_to_end(&mut answer));
        floods.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_flood_of_cancelled_requests_starves_no_client() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let mut calm = tollgate.client().await;
    let floods = Arc::<AtomicUsize>::default();
    let flooding = flood(tollgate.grpc_address, rapid_reset(), floods.clone());
    let flooding = tokio::spawn(flooding);
    let ask = || request("calm", &[&[("user", "alice")]]);
    let mut asked = 0;
    eventually("five floods beside a client that is answered", async || {
        asked += 1;
        let answer = calm.should_rate_limit(ask()).await.unwrap().into_inner();
        assert_eq!(answer.statuses[0].limit_remaining, 1_000_000 - asked);
        (5 <= floods.load(Ordering::SeqCst)).then_some(())
    })
    .await;
    flooding.abort();
    assert!(tollgate.client().await.should_rate_limit(ask()).await.is_ok());
}

#[tokio::test]
async fn connections_that_end_for_their_age_cost_envoy_no_request() {
    let policy = "{domain: gate, descriptors: [{key: user, limits: [1000/day]}]}";
    let flags = ["--grpc-connection-age-max=20ms"];
    let tollgate = Tollgate::serve_with(policy, &Store::Embedded, &flags).await;
    let address = tollgate.grpc_address;
    let stream = TcpStream::connect(address).await.unwrap();
    let (_client, connection) = h2::client::handshake(stream).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, connection).await.expect("it ends");
    ended.expect("and not with an error");

    let Some(gateway) = Gateway::start(&[tcp(address)]).await else { return };
    // It refuses requests without an answer of Tollgate.
    assert_eq!(gateway.caller.crowd("alice", 1_500).await, Counts::new(1_000, 500));
}
