//! Clients that hold hits and settle them, and send each request again until it is answered, while Redis can't be reached, loses
//! answers or is killed: each reservation is held and settled once, and one that its client forgets lapses.

use super::persistent::{Aftermath, Sidecars};
use crate::support::eventually;

const POLICY: &str = "
domain: d
descriptors:
- key: user
  reservation: { key: id, action: act, ttl: 10s }
  limits: [10000/total]";

/// Operations of each client.
const OPERATIONS: u32 = 30;

/// What an operation holds.
const HELD: u32 = 9;

/// Makes operations one after the other; tells how many hits they have used.
async fn operate(mut sidecars: Sidecars, client: usize) -> u32 {
    let mut spent = 0;
    for number in 0..OPERATIONS {
        let of = |action: &str| format!("user=ann,id={client}-{number},act={action}");
        sidecars.send(&of("reserve"), HELD).await;
        match number % (HELD + 1) {
            // The client has forgotten it.
            0 => {}
            used => {
                sidecars.send(&of("settle"), used).await;
                spent += used;
            }
        }
    }
    spent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reservation_is_held_and_settled_once_and_a_forgotten_one_lapses() {
    let Some(mut aftermath) = Aftermath::of(POLICY, operate).await else { return };
    let spent: u32 = aftermath.results.iter().sum();
    eventually("what was forgotten has lapsed", async || {
        let left = aftermath.state().await.remaining[0];
        assert!(left <= 10_000 - spent, "{left} are left of 10,000 less {spent}");
        (left == 10_000 - spent).then_some(())
    })
    .await;
}
