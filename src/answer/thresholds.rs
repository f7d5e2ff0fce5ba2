//! Tests of thresholds and grace in answers, metrics and records.

use std::time::Duration;

use super::Answer;
use crate::clock::Clock;
use crate::engine::testing::{self, Bench, descriptor};
use crate::engine::{Code, Descriptor, Request};
use crate::limit::Hits;

const POLICY: &str = "
domain: d
defaults: { thresholds: true }
answer: { headers: [x-quota-warning], metadata: always }
descriptors:
- key: user
  limits:
  - { name: daily, rate: 100/day }
  - { name: 'per minute', rate: 200/minute, thresholds: [45%] }
  - { name: seen, rate: 100/day, mode: shadow, thresholds: [10%] }";

fn bench() -> Bench {
    let bench = Bench::timed(Clock::manual(testing::START));
    bench.put_in_force(POLICY);
    bench
}

async fn spend(bench: &Bench, hits: u64) -> Answer {
    bench.ask(vec![Descriptor { hits: Hits::Spend(hits), ..descriptor("user=a") }]).await
}

fn warning(answer: &Answer) -> Option<&str> {
    let mut headers = answer.response_headers.iter();
    headers.find(|(name, _)| name == "x-quota-warning").map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn a_header_and_the_metadata_tell_what_was_crossed() {
    let bench = bench();
    let answer = spend(&bench, 5).await;
    assert_eq!(warning(&answer), None);
    assert_eq!(answer.metadata.unwrap().get("thresholds"), None);
    let answer = spend(&bench, 86).await;
    assert_eq!(warning(&answer), Some("daily; used=90%, \"per minute\"; used=45%"));
    let expected = serde_json::json!([
        { "name": "daily", "mode": "enforce", "crossed_percent": [80, 90] },
        { "name": "per minute", "mode": "enforce", "crossed_percent": [45] },
        { "name": "seen", "mode": "shadow", "crossed_percent": [10] },
    ]);
    assert_eq!(answer.metadata.unwrap()["thresholds"], expected);
    assert_eq!(warning(&spend(&bench, 1).await), None);
    assert_eq!(warning(&spend(&bench, 9).await), None, "it is refused");
    assert_eq!(warning(&spend(&bench, 8).await), Some("daily; used=100%"));
}

#[tokio::test]
async fn metrics_and_records_have_each_crossing() {
    let bench = bench();
    let snapshot = bench.engine.snapshot();
    let ask = Descriptor { hits: Hits::Spend(91), ..descriptor("user=a") };
    let request = Request::try_new("d", vec![ask]).unwrap();
    let record = snapshot.record(
        &*bench.engine.check(&snapshot, &request).await,
        &request,
        crate::engine::RecordExtras::default(),
    );
    let crossed: Vec<(&str, u16)> = record.crossings().collect();
    assert_eq!(crossed, [("daily", 80), ("daily", 90), ("per minute", 45), ("seen", 10)]);
    let text = bench.metrics.encode();
    for (limit, threshold, count) in
        [("daily", 80, 1), ("daily", 90, 1), ("daily", 95, 0), ("per minute", 45, 1)]
    {
        let line = format!(
            "tollgate_threshold_crossings_total{{domain=\"d\",limit=\"{limit}\",threshold=\"{threshold}\"}} {count}"
        );
        assert!(text.contains(&line), "{line} in {text}");
    }
    bench.put_in_force(
        "domain: d\ndescriptors: [{ key: user, limits: [{ name: daily, rate: 100/day }] }]",
    );
    assert!(!bench.metrics.encode().contains("threshold=\""));
}

#[tokio::test]
async fn answers_tell_until_when_a_grace_lasts() {
    const POLICY: &str = "
domain: d
answer: { headers: [x-quota-warning], body: problem, metadata: always }
descriptors:
- key: user
  limits: [{ name: daily, rate: 100/day, algorithm: fixed_window, grace: { over: 10%, for: 1h }, thresholds: [100%, 110%] }]";
    let bench = Bench::timed(Clock::manual(testing::START));
    bench.put_in_force(POLICY);
    assert_eq!(warning(&spend(&bench, 100).await), Some("daily; used=100%"));
    let answer = spend(&bench, 8).await;
    assert_eq!(warning(&answer), Some("daily; grace=3600"));
    let ends_ms = testing::START.as_ms() + 3_600_000;
    let expected =
        serde_json::json!([{ "name": "daily", "until_ms": ends_ms, "left_ms": 3_600_000 }]);
    assert_eq!(answer.metadata.unwrap()["grace"], expected);
    bench.clock.advance(Duration::from_millis(1_001));
    let refused = spend(&bench, 3).await;
    assert_eq!((refused.code, warning(&refused)), (Code::OverLimit, Some("daily; grace=3598")));
    let body: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(body["grace_left_ms"], 3_598_999);
    assert_eq!(warning(&spend(&bench, 2).await), Some("daily; used=110%, daily; grace=3598"));
    bench.clock.advance(Duration::from_secs(3_600));
    let refused = spend(&bench, 1).await;
    assert_eq!((refused.code, warning(&refused)), (Code::OverLimit, None));
}
