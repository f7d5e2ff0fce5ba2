//! Tests of what answers, metrics and records tell of requests that get fewer hits than they ask for.

use super::Answer;
use crate::engine::testing::{Bench, bench, descriptor};
use crate::engine::{Code, Descriptor, HitsSource, ModeSettings, Request, Taking};
use crate::limit::Hits;

const POLICY: &str = "
domain: d
answer: { headers: [x-quota-granted], metadata: always }
descriptors:
- key: user
  limits: [{ name: seats, rate: 100/total, partial: true }]
  cascade: true
  descriptors:
  - { key: kind, value: users, limits: [{ name: users, rate: 37/total, partial: true }, { name: calls, rate: 1000/day }] }
  - { key: kind, value: segments, limits: [{ name: segments, rate: 5/total, partial: true }] }";

fn spends(text: &str, hits: u64) -> Descriptor<'_> {
    Descriptor { hits: Hits::Spend(hits), ..descriptor(text) }
}

fn granted(answer: &Answer) -> Option<&str> {
    let of = |headers: &[(String, String)]| {
        headers.iter().position(|(name, _)| name == "x-quota-granted")
    };
    let header = of(&answer.response_headers).map(|index| &*answer.response_headers[index].1);
    let upstream = of(&answer.request_headers).map(|index| &*answer.request_headers[index].1);
    assert_eq!(header, upstream, "the upstream is told the same");
    header
}

#[tokio::test]
async fn headers_and_metadata_tell_how_many_hits_a_request_got() {
    let bench = bench(POLICY, ModeSettings::default());
    let answer = bench.ask(vec![spends("user=a,kind=users", 50)]).await;
    let expected = "users; granted=37; asked=50, seats; granted=37; asked=50";
    let mut parts: Vec<&str> = granted(&answer).unwrap().split(", ").collect();
    parts.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!((answer.code, parts.join(", ").as_str()), (Code::Ok, expected));
    let metadata = answer.metadata.unwrap();
    let all = metadata["granted"].as_array().unwrap();
    assert!(all.contains(&serde_json::json!({ "name": "users", "asked": 50, "granted": 37 })));
    // A limit that is not partial is charged in full.
    let calls = metadata["limits"].as_array().unwrap().iter();
    let left = |name| calls.clone().find(|one| one["name"] == name).unwrap()["remaining"].clone();
    assert_eq!((left("calls"), left("seats"), left("users")), (950.into(), 63.into(), 0.into()));
    let refused = bench.ask(vec![spends("user=a,kind=users", 50)]).await;
    assert_eq!((refused.code, granted(&refused)), (Code::OverLimit, None));
    let none = bench.ask(vec![spends("other=a", 50)]).await;
    assert_eq!((none.code, granted(&none)), (Code::Ok, None));
}

/// Descriptors with hits of their own, as Envoy sends for each of them, are parts of their own.
#[tokio::test]
async fn kinds_with_hits_of_their_own_get_what_each_has() {
    const KINDS: &str = "
domain: d
answer: { headers: [x-quota-granted] }
descriptors:
- { key: users, limits: [{ name: users, rate: 37/total, partial: true }] }
- { key: segments, limits: [{ name: segments, rate: 2/total, partial: true }] }";
    let named =
        |text, hits| Descriptor { hits_source: HitsSource::Descriptor, ..spends(text, hits) };
    let bench = bench(KINDS, ModeSettings::default());
    let answer = bench.ask(vec![named("users=a", 50), named("segments=a", 5)]).await;
    let expected = "users; granted=37; asked=50, segments; granted=2; asked=5";
    assert_eq!(granted(&answer), Some(expected));
    // Those of the request are one number.
    let answer = bench.ask(vec![spends("users=b", 50), spends("segments=b", 50)]).await;
    let expected = "users; granted=2; asked=50, segments; granted=2; asked=50";
    assert_eq!(granted(&answer), Some(expected));
}

#[tokio::test]
async fn metrics_and_records_count_what_was_granted() {
    let bench = bench(POLICY, ModeSettings::default());
    let snapshot = bench.engine.snapshot();
    let request = Request::try_new("d", vec![spends("user=a,kind=segments", 8)]).unwrap();
    let record = snapshot.record(
        &*bench.engine.check(&snapshot, &request).await,
        &request,
        crate::engine::RecordExtras::default(),
    );
    let hits: Vec<_> = record.limits().map(|(label, charge)| (label, charge.hits)).collect();
    assert!(hits.contains(&("segments", Hits::Spend(5))), "{hits:?}");
    let line = r#"tollgate_hits_total{domain="d",limit="segments",outcome="admitted"} 5"#;
    assert!(bench.metrics.encode().contains(line), "{}", bench.metrics.encode());
}

#[tokio::test]
async fn nothing_is_taken_in_part_that_is_only_observed() {
    let policy = POLICY
        .replace("partial: true", "partial: false")
        .replace("37/total, partial: false", "37/total, shadow: true");
    let shadow = bench(&policy, ModeSettings::default());
    let answer = shadow.ask(vec![spends("user=a,kind=users", 50)]).await;
    assert_eq!((answer.code, granted(&answer)), (Code::Ok, None));
    let all = bench(POLICY, ModeSettings { shadow: true, ..ModeSettings::default() });
    let answer = all.ask(vec![spends("user=a,kind=users", 50)]).await;
    assert_eq!((answer.code, granted(&answer)), (Code::Ok, None));
}

/// What a request gets that says itself how it takes hits.
#[tokio::test]
async fn a_request_may_want_all_hits_or_what_is_left() {
    async fn takes(bench: &Bench, text: &str, hits: u64, taking: Taking) -> Option<Vec<u64>> {
        let snapshot = bench.engine.snapshot();
        let request = Request::try_new("d", vec![spends(text, hits)]).unwrap().takes(taking);
        let verdict = bench.engine.check(&snapshot, &request).await;
        let taken = verdict.charges().iter().map(|charge| charge.taken().amount());
        (verdict.code() == Code::Ok).then(|| taken.collect())
    }
    let policy = POLICY.replace("rate: 1000/day", "rate: 30/day");
    let bench = bench(&policy, ModeSettings::default());
    assert_eq!(takes(&bench, "user=a,kind=users", 50, Taking::AsLimitsSay).await, None);
    assert_eq!(takes(&bench, "user=a,kind=users", 50, Taking::Whole).await, None);
    let all = takes(&bench, "user=a,kind=users", 50, Taking::InPart).await;
    assert_eq!(all, Some(vec![30; 3]), "also of the limit that is not partial");
    assert_eq!(takes(&bench, "user=b,kind=segments", 6, Taking::Whole).await, None);
    assert_eq!(
        takes(&bench, "user=b,kind=segments", 6, Taking::AsLimitsSay).await,
        Some(vec![5; 2])
    );
}
