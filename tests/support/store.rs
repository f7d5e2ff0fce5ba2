//! The stores that tests run on.

use super::redis::Server;

/// The store of counters of a Tollgate under test.
pub enum Store {
    Embedded,
    Redis(Server),
}

impl Store {
    /// Every available store, empty.
    pub fn every() -> Vec<Self> {
        let redis = Server::start(&[]).map(Self::Redis);
        [Self::Embedded].into_iter().chain(redis).collect()
    }

    /// Deletes all counters. Those of the embedded store end with its process.
    pub async fn clear(&self) {
        if let Self::Redis(server) = self {
            redis::cmd("FLUSHALL").exec(&mut server.raw().await).unwrap();
        }
    }

    /// Whether a Tollgate with this log `output` is connected to the store.
    pub fn is_used(&self, output: &str) -> bool {
        match self {
            Self::Embedded => true,
            Self::Redis(_) => output.contains("connected to Redis"),
        }
    }

    /// The flags of `tollgate serve` for this store.
    pub fn flags(&self) -> Vec<String> {
        match self {
            Self::Embedded => Vec::new(),
            // Even on a slow machine the store decides, and not `on_outage`.
            Self::Redis(server) => {
                ["--redis-url", &server.url(), "--store-deadline", "10s"].map(str::to_owned).into()
            }
        }
    }
}
