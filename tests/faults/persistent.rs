//! Clients that send each request until it is answered, to two sidecars on a Redis that can't be reached, loses answers or is killed.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::sleep;

use crate::support::ask::{DomainClient, Reply};
use crate::support::eventually;
use crate::support::proxy::{Proxy, Way};
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// Number of clients.
pub const CLIENTS: usize = 4;

/// The pause between attempts, and the duration of a fault. Real time: the progress of clients is unknown, and the test
/// is valid however many attempts are affected by a fault.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(10);
const FAULT_PAUSE: Duration = Duration::from_millis(150);

/// How often each fault occurs.
const ROUNDS: usize = 5;

/// The sidecars, as one client sees them.
pub struct Sidecars([DomainClient; 2]);

/// What clients leave.
pub struct Aftermath<T> {
    /// The result of each client.
    pub results: Vec<T>,
    pub client: DomainClient,
    _server: Server,
    _proxies: [Proxy; 2],
    _sidecars: Vec<Tollgate>,
}

impl Sidecars {
    /// Sends a request until it is answered, to one sidecar after the other; checks that it passes.
    pub async fn send(&mut self, ask: &str, hits: u32) {
        let mut attempt = 0;
        let answer = eventually("an answer", async || {
            attempt += 1;
            // The pause of a client that tries again.
            sleep(ATTEMPT_PAUSE).await;
            self.0[attempt % 2].try_ask(&[ask], hits).await.ok()
        });
        assert!(answer.await.passed, "{ask} {hits}");
    }
}

impl<T> Aftermath<T> {
    /// Has clients `work`, each with its number, while things break. None without Redis.
    pub async fn of(policy: &str, work: impl AsyncFn(Sidecars, usize) -> T) -> Option<Self> {
        // Every charge is on the disk before it is answered.
        let flags = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut server = Server::start(&flags)?;
        let proxies = [Proxy::start(&server.socket()).await, Proxy::start(&server.socket()).await];
        let mut sidecars = Vec::new();
        for proxy in &proxies {
            let flags = ["--redis-url", &proxy.url(), "--store-deadline", "100ms"];
            sidecars.push(Tollgate::serve_with(policy, &Store::Embedded, &flags).await);
        }
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let one = DomainClient::new(&sidecars[0], "d").await;
            let other = DomainClient::new(&sidecars[1], "d").await;
            clients.push(work(Sidecars([one, other]), client));
        }
        let (results, ()) = join(join_all(clients), break_things(&mut server, &proxies)).await;
        let client = DomainClient::new(&sidecars[0], "d").await;
        let (_server, _proxies, _sidecars) = (server, proxies, sidecars);
        Some(Self { results, client, _server, _proxies, _sidecars })
    }

    /// The state of the limit of `user=ann`, once Redis is used.
    pub async fn state(&mut self) -> Reply {
        let ask = async || self.client.try_ask(&["user=ann"], 0).await.ok();
        eventually("Redis is used", ask).await
    }
}

/// Loses answers, cuts connections and kills the server.
async fn break_things(server: &mut Server, proxies: &[Proxy; 2]) {
    for round in 0..ROUNDS {
        for (proxy, way) in [(0, Way::Unanswered), (1, Way::Unanswered), (0, Way::Nowhere)] {
            proxies[proxy].set(way);
            // The faults last for a while, whatever happens meanwhile; so does the time between them.
            sleep(FAULT_PAUSE).await;
            proxies[proxy].set(Way::Cut);
            sleep(ATTEMPT_PAUSE).await;
            proxies[proxy].set(Way::Through);
            sleep(FAULT_PAUSE).await;
        }
        if round % 2 == 1 {
            server.kill();
            server.launch();
        }
    }
}
