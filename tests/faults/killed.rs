//! Sidecars and Redis are killed at random moments of reservations, gifts and retries. Clients send each request until it is
//! answered, by one sidecar or another: each hit is held, settled, given and charged once, and nothing that was answered is lost.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Request;
use envoy_types::pb::google::protobuf::UInt64Value;
use futures_util::future::{join, join_all};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::ask::{Reply, request};
use crate::support::client;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::process;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: d
caller: { key: user }
idempotency: { key: request_id, for: 1h, retries: 100 }
descriptors:
- key: user
  reservation: { key: id, action: act, ttl: 10m }
  limits: [{ name: tokens, rate: 1000/total }]";

/// Clients, and operations of each.
const CLIENTS: u32 = 4;
const OPERATIONS: u32 = 25;

/// How often somebody is killed.
const ROUNDS: u64 = 8;

/// A pause between attempts, and between deaths. Real time: nothing tells how far the clients are, and the test holds however
/// many attempts meet a death.
const PAUSE: Duration = Duration::from_millis(10);

/// Where the sidecars are that live now: over gRPC and HTTP.
type Addresses = Arc<Mutex<[(SocketAddr, SocketAddr); 2]>>;

/// A client, which asks one sidecar after the other.
struct Client {
    number: u32,
    addresses: Addresses,
}

impl Client {
    /// Asks over gRPC until there is an answer.
    async fn ask(&self, ask: &str, hits: u64) -> Reply {
        let mut attempt = 0;
        eventually("an answer", async || {
            attempt += 1;
            // The pause of a client that tries again.
            sleep(PAUSE).await;
            let (grpc, _) = self.addresses.lock().unwrap()[attempt % 2];
            let mut client = client::try_grpc(&format!("http://{grpc}")).await.ok()?;
            let mut asked = request("d", &[ask], 0);
            asked.descriptors[0].hits_addend = Some(UInt64Value { value: hits });
            let answer = client.should_rate_limit(asked).await.ok()?;
            Some(Reply::new(&answer.into_inner()))
        })
        .await
    }

    /// Posts over HTTP until there is an answer that says what was done.
    async fn post(&self, path: &str, body: &Value) -> u16 {
        let mut attempt = 0;
        eventually("an answer", async || {
            attempt += 1;
            // The pause of a client that tries again.
            sleep(PAUSE).await;
            let (_, http) = self.addresses.lock().unwrap()[attempt % 2];
            let url = format!("http://{http}/v1/callers/{path}");
            let answer = Http::new().try_post(&url, &body.to_string()).await.ok()?;
            // Pending, and failures of the store or on the way to it.
            (answer.status < 500 && answer.status != 202).then_some(answer.status)
        })
        .await
    }

    /// Makes operations one after the other; how many hits they have spent.
    async fn operate(self) -> u32 {
        let mut spent = 0;
        for number in 0..OPERATIONS {
            let name = format!("{}-{number}", self.number);
            let of = |action: &str| format!("user=ann,id={name},act={action}");
            assert!(self.ask(&of("reserve"), 5).await.passed, "{name}");
            let gift = json!({ "id": name, "to": "bob", "limit": "tokens", "hits": 2 });
            assert_eq!(self.post("ann/gifts", &gift).await, 201, "{name}");
            assert!(self.ask(&format!("user=ann,request_id={name}"), 1).await.passed, "{name}");
            let used = 1 + number % 5;
            assert!(self.ask(&of("settle"), used.into()).await.passed, "{name}");
            spent += 1 + used;
        }
        spent
    }
}

/// A sidecar of a Redis.
async fn sidecar(server: &Server) -> Tollgate {
    let flags = ["--redis-url", &server.url(), "--store-deadline", "500ms"];
    Tollgate::serve_with(POLICY, &Store::Embedded, &flags).await
}

fn addresses(sidecar: &Tollgate) -> (SocketAddr, SocketAddr) {
    (sidecar.grpc_address, sidecar.http_address)
}

/// Kills a sidecar or Redis again and again, at moments that a hash of the round draws, and starts another one.
async fn kill(server: &mut Server, sidecars: &mut [Tollgate; 2], known: &Addresses) {
    for round in 0..ROUNDS {
        let drawn = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        sleep(Duration::from_millis(30 + drawn % 170)).await;
        if round % 3 == 2 {
            server.kill();
            sleep(Duration::from_millis(drawn % 50)).await;
            server.launch();
            continue;
        }
        let index = usize::from(round % 2 == 0);
        process::signal(sidecars[index].id(), "KILL");
        let next = sidecar(server).await;
        known.lock().unwrap()[index] = addresses(&next);
        sidecars[index] = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_made_twice_when_sidecars_and_redis_are_killed() {
    // Every charge is on the disk before it is answered.
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"])
    else {
        return;
    };
    let mut sidecars = [sidecar(&server).await, sidecar(&server).await];
    let known = Arc::new(Mutex::new([addresses(&sidecars[0]), addresses(&sidecars[1])]));
    let of = |number| Client { number, addresses: known.clone() };
    let bonus = json!({ "id": "launch", "limit": "tokens", "amount": 1_000 });
    for name in ["ann", "bob"] {
        let url = format!("http://{}/v1/callers/{name}", sidecars[0].http_address);
        let body = if name == "ann" { json!({ "bonuses": [bonus] }) } else { json!({}) };
        let request = Request::put(url);
        let body = Full::from(body.to_string());
        assert_eq!(Http::new().send(request.body(body).unwrap()).await.status, 201);
    }
    let clients = (0..CLIENTS).map(|number| of(number).operate());
    let deaths = kill(&mut server, &mut sidecars, &known);
    let (spent, ()) = join(join_all(clients), deaths).await;
    let spent: u32 = spent.into_iter().sum();
    let given = 2 * CLIENTS * OPERATIONS;
    let left = async |name: &str| of(0).ask(&format!("user={name}"), 0).await.remaining[0];
    assert_eq!([left("ann").await, left("bob").await], [2_000 - spent - given, 1_000 + given]);
}
