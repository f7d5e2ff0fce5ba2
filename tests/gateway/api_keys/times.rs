//! API keys at their times and after their end, while the clock of Tollgate goes on.

use jiff::Timestamp;
use serde_json::json;

use super::get;
use super::scene::{Keeper, POLICY};
use crate::support::clock::Clock;
use crate::support::eventually;
use crate::support::store::Store;
use crate::support::tollgate::command;

fn set(clock: &Clock, time: &str) {
    let time: Timestamp = time.parse().unwrap();
    clock.step_to(time.duration_since(Timestamp::now()).as_mins());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_passes_on_its_days_in_its_hours_and_until_its_end() {
    let Some(clock) = Clock::new() else { return };
    // A Monday, in winter.
    set(&clock, "2029-01-08T07:55:00Z");
    let mut command = command();
    command.envs(clock.environment());
    let keeper = Keeper::start_by(command, POLICY, &Store::Embedded, &[]).await;
    let Some(gateway) = keeper.gateway().await else { return };
    let office = json!({
        "timezone": "Europe/Madrid", "weekdays": ["monday-friday"], "hours": ["09:00-18:00"],
        "except": ["2029-01-10"],
    });
    let form = json!({
        "caller": "acme", "tier": "premium", "when": office, "expires_at": "2029-01-12T12:00:00Z",
    });
    let (key, id) = keeper.create(&form).await;
    for (time, status) in [
        ("2029-01-08T07:55:00Z", 401),
        ("2029-01-08T08:05:00Z", 200),
        ("2029-01-08T16:55:00Z", 200),
        ("2029-01-08T17:05:00Z", 401),
        ("2029-01-09T11:00:00Z", 200),
        ("2029-01-10T11:00:00Z", 401),
        ("2029-01-11T07:55:00Z", 401),
        ("2029-01-11T08:05:00Z", 200),
        ("2029-01-12T11:55:00Z", 200),
        ("2029-01-12T12:05:00Z", 401),
    ] {
        set(&clock, time);
        eventually(&format!("{status} at {time}"), async || {
            (get(&gateway.caller, "/", &key).await.status == status).then_some(())
        })
        .await;
        assert_eq!(get(&gateway.caller, "/", &key).await.status, status, "{time}");
    }

    // One that has expired can be changed all the same; a Saturday is no day of it then.
    keeper.patch(&id, &json!({ "name": "old" })).await;
    keeper.patch(&id, &json!({ "expires_at": "2029-12-31" })).await;
    for (time, status) in [("2029-01-13T11:00:00Z", 401), ("2029-01-15T11:00:00Z", 200)] {
        set(&clock, time);
        eventually(&format!("{status} at {time}"), async || {
            (get(&gateway.caller, "/", &key).await.status == status).then_some(())
        })
        .await;
    }
}
