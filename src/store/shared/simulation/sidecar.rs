//! A sidecar of a simulation: serves requests, and does the maintenance of a process between them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::truth::Admitted;
use super::world::{Distant, HEALING_MS, KEYS, START_MS, TROUBLE_MS, charge, key};
use crate::clock::{Now, Timestamp};
use crate::limit::Hits;
use crate::store::shared::Shared;
use crate::store::{Batch, Charge, Outcome, StoreWait};

const TEND_MS: u64 = 200;

/// A sidecar, and how far its clock is ahead.
pub struct Sidecar {
    pub shared: Shared<Distant>,
    ahead_ms: Mutex<u64>,
    /// Requests that the store decided.
    confirmed: AtomicU64,
    /// Hits that were admitted here and have not come back.
    open: AtomicU64,
}

impl Sidecar {
    /// A sidecar without requests.
    pub fn new(shared: Shared<Distant>) -> Self {
        let (confirmed, open) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { shared, ahead_ms: Mutex::new(0), confirmed, open }
    }

    fn now(&self) -> Now {
        let world = &self.shared.store().world;
        Now::Local(Timestamp::from_ms(world.now().as_ms() + *self.ahead_ms.lock().unwrap()))
    }

    /// Decides a batch like a process.
    pub async fn decide(&self, batch: &Batch) -> Outcome {
        match self.shared.answer(batch, self.now()) {
            Some(outcome) => outcome,
            None => self.shared.ask(batch, self.now(), StoreWait::default()).await.outcome,
        }
    }

    /// One request: hits of a key's limit and of the ledger, or a give-back of some of the ledger's.
    async fn request(&self) {
        let store = self.shared.store();
        let world = &store.world;
        let (index, hits, gives_back) = world.draw(|draw| {
            let index = usize::from(draw.one_in(2));
            (index, 1 + draw.below(2), draw.one_in(10))
        });
        let keys = [key(KEYS[index]), key("ledger")];
        let spends = [
            Charge { lease: world.lease, ..charge(0, &world.limits[index], Hits::Spend(hits)) },
            charge(1, &world.ledger, Hits::Spend(hits)),
        ];
        let batch = Batch {
            keys: keys.into_iter().collect(),
            charges: spends.into_iter().collect(),
            gauges: Vec::new(),
        };
        let outcome = self.decide(&batch).await;
        {
            let mut truth = world.truth.lock().unwrap();
            truth.decided += 1;
            truth.fallback += usize::from(outcome.fallback);
            self.confirmed.fetch_add(u64::from(!outcome.fallback), Ordering::Relaxed);
            if !outcome.admitted {
                return;
            }
            truth.ledger += hits;
            let confirmed = self.confirmed.load(Ordering::Relaxed) + self.shared.fallback().paid();
            let by = outcome.fallback.then_some((store.sidecar, confirmed));
            let at_ms = if outcome.fallback { world.ms() } else { outcome.at.as_ms() - START_MS };
            truth.admitted.push(Admitted { key: index, at_ms, hits, by });
        }
        let open = self.open.fetch_add(hits, Ordering::Relaxed) + hits;
        if gives_back {
            let hits = open.min(1 + world.draw(|draw| draw.below(20)));
            self.open.fetch_sub(hits, Ordering::Relaxed);
            let back = charge(0, &world.ledger, Hits::GiveBack(hits));
            let back = Batch {
                keys: std::iter::once(key("ledger")).collect(),
                charges: std::iter::once(back).collect(),
                gauges: Vec::new(),
            };
            let reported = self.shared.ask(&back, self.now(), StoreWait::default()).await;
            assert!(reported.outcome.admitted, "what comes back is always taken");
            world.truth.lock().unwrap().ledger -= hits;
        }
    }

    pub async fn serve(self: Arc<Self>) {
        let world = self.shared.store().world.clone();
        let mut requests = JoinSet::new();
        let mut tended_ms = 0;
        while world.ms() < TROUBLE_MS + HEALING_MS {
            let (pause_ms, jumps) = world.draw(|draw| (1 + draw.below(30), draw.one_in(100)));
            if jumps {
                *self.ahead_ms.lock().unwrap() = world.draw(|draw| draw.below(7_200_000));
            }
            let sidecar = self.clone();
            requests.spawn(async move { sidecar.request().await });
            if tended_ms + TEND_MS <= world.ms() {
                tended_ms = world.ms();
                self.shared.maintain(self.now()).await;
            }
            // In the runtime's paused time, which passes at once.
            sleep(Duration::from_millis(pause_ms)).await;
        }
        requests.join_all().await;
        self.shared.close(self.now()).await;
    }
}
