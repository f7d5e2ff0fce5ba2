//! Steps of a sidecar's clock.

use crate::support::ask::DomainClient;
use crate::support::clock::Clock;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};

const POLICY: &str = "
domain: d
answer: { metadata: always }
descriptors:
- { key: user, limits: [{ rate: 5/hour, on_outage: deny }] }";

const ALICE: &[&str] = &["user=alice"];

async fn serve(clock: &Clock, store: &Store) -> Tollgate {
    let mut command = command();
    command.envs(clock.environment());
    Tollgate::serve_by(command, POLICY, store, &[]).await
}

async fn check_refused(client: &mut DomainClient, clock: &Clock, steps: &[i64]) {
    for minutes in steps {
        clock.step_to(*minutes);
        for _ in 0..3 {
            assert!(!client.ask(ALICE, 1).await.passed, "{minutes} minutes ahead");
        }
    }
}

/// Hits are free again when an hour has passed by the clock, and not after a step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_a_clock_free_nothing_before_its_time() {
    let Some(clock) = Clock::new() else { return };
    let tollgate = serve(&clock, &Store::Embedded).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    client.spend_exactly(ALICE, 5).await;
    check_refused(&mut client, &clock, &[-120, 30, -1, 58, 0]).await;
    clock.step_to(62);
    client.spend_exactly(ALICE, 5).await;
    check_refused(&mut client, &clock, &[0, 61, 120]).await;
    clock.step_to(124);
    client.spend_exactly(ALICE, 5).await;
}

/// The clock of Redis counts, and no sidecar's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_a_sidecars_clock_change_nothing_on_redis() {
    let (Some(clock), Some(server)) = (Clock::new(), Server::start(&[])) else { return };
    let store = Store::Redis(server);
    let tollgate = serve(&clock, &store).await;
    let mut client = DomainClient::new(&tollgate, "d").await;
    client.spend_exactly(ALICE, 5).await;
    check_refused(&mut client, &clock, &[-120, 62, -1, 600]).await;
}
