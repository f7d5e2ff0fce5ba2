//! The stores that Tollgate is tested on.

use super::redis::Server;

/// Where a Tollgate under test keeps its counters.
pub enum Store {
    Embedded,
    Redis(Server),
}

impl Store {
    /// Every store that there is here, with no counters in it.
    pub fn every() -> Vec<Self> {
        let redis = Server::start(&[]).map(Self::Redis);
        [Self::Embedded].into_iter().chain(redis).collect()
    }

    /// Forgets all counters. Those of the embedded store go with its process.
    pub async fn clear(&self) {
        if let Self::Redis(server) = self {
            redis::cmd("FLUSHALL").exec(&mut server.raw().await).unwrap();
        }
    }

    /// Whether a Tollgate that has logged `output` has the store at hand.
    pub fn is_used(&self, output: &str) -> bool {
        match self {
            Self::Embedded => true,
            Self::Redis(_) => output.contains("connected to Redis"),
        }
    }

    /// The flags that make `tollgate serve` use it.
    pub fn flags(&self) -> Vec<String> {
        match self {
            Self::Embedded => Vec::new(),
            // However slow the machine is, the store decides and not `on_outage`.
            Self::Redis(server) => {
                ["--redis-url", &server.url(), "--store-deadline", "10s"].map(str::to_owned).into()
            }
        }
    }
}
