//! `config/policies/season.yaml` through a real Envoy: the amounts of each plan today, and who goes first at the backend.

use std::fs;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::support::gateway::{Gateway, tcp};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

/// The minute's amounts by plan, the rest of the year.
const MINUTELY: [(&str, u64); 4] =
    [("free", 10), ("basic", 25), ("premium", 100), ("enterprise", 500)];

/// Whether clocks in Madrid show a Saturday, and a month of the season.
fn today() -> (bool, bool) {
    let now = Timestamp::now().to_zoned(TimeZone::get("Europe/Madrid").unwrap());
    (now.weekday() == Weekday::Saturday, (5..=9).contains(&now.month()))
}

/// What a plan has on such a day, in hundredths of its amount.
fn scale(plan: &str, (is_saturday, is_peak): (bool, bool)) -> u64 {
    match plan {
        _ if is_saturday => 150,
        "free" | "basic" if is_peak => 75,
        _ => 100,
    }
}

#[tokio::test]
async fn each_plan_has_its_amounts_of_today_behind_envoy() {
    for store in Store::every() {
        let policy = fs::read_to_string("config/policies/season.yaml").unwrap();
        let policy = policy.replace("domain: season", "domain: gate");
        let tollgate = Tollgate::serve(&policy, &store).await;
        let header = |name: &str, key: &str| json!({ "request_headers": { "header_name": name, "descriptor_key": key, "skip_if_absent": true } });
        let value =
            json!({ "generic_key": { "descriptor_key": "backend", "descriptor_value": "search" } });
        let qualifiers = [header("x-tier", "tier"), header("x-priority", "priority")];
        let user = [&[header("x-user", "user_id")], &qualifiers[..]].concat();
        let backend = [&[value], &qualifiers[..]].concat();
        let rate_limits = json!([{ "actions": user }, { "actions": backend }]);
        let address = tcp(tollgate.grpc_address);
        let Some(gateway) = Gateway::limiting(&rate_limits, &[address]).await else { return };
        for (plan, minutely) in MINUTELY {
            // The amounts change at midnight only, at most once while this runs.
            let before = today();
            let headers = [("x-user", plan), ("x-tier", plan), ("x-priority", "4")];
            let answer = gateway.caller.get("/", &headers).await;
            let amounts = [before, today()].map(|day| minutely * scale(plan, day) / 100 - 1);
            let expected = amounts.map(|left| format!("\"minutely\";r={left};t="));
            let reported = answer.header("ratelimit");
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(
                expected.iter().any(|one| reported.starts_with(one)),
                "{plan}: {reported} {expected:?}"
            );
        }
    }
}
