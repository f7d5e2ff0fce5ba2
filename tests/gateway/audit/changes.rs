//! Every change has a line: of callers, quotas and signals over the API, and of files.

use std::fs;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Audited, verify};
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::store::Store;

const POLICY: &str = "
domain: shop
tiers: [free, paid]
caller: { key: user, tier: { key: tier } }
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
descriptors:
- key: user
  limits:
  - { name: daily, rate: 1000/day, adjust: { signal: errors, above: 5%, below: 2%, least: 0%, step: 100%, every: 1s } }
";

impl Audited {
    /// The status of a request to the API.
    async fn send(&self, method: &str, path: &str, body: &Value) -> u16 {
        let url = format!("http://{}/v1/{path}", self.tollgate.http_address);
        let request = Request::builder().method(method).uri(url);
        let request = request.header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        Http::new().send(request).await.status
    }

    /// The operations of all lines, in order.
    fn operations(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["what"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn every_change_over_the_api_is_a_line() {
    for store in Store::every() {
        let audited = Audited::serving(POLICY, &store, &[]).await;
        let mut expected = Vec::new();
        if let Store::Redis(_) = store {
            let tier = json!({ "tier": "free" });
            let bonus = json!({ "id": "x", "limit": "daily", "amount": 5, "until": "2999-01-01" });
            for (method, path, body, what, status) in [
                ("PUT", "callers/ann", &tier, "put", 201),
                ("PATCH", "callers/ann", &json!({ "tier": "paid" }), "patch", 200),
                ("POST", "callers/ann/bonuses", &bonus, "give bonus", 201),
                ("DELETE", "callers/ann/bonuses/x", &json!({}), "take bonus", 204),
                ("DELETE", "callers/ann", &json!({}), "delete", 204),
            ] {
                assert_eq!(audited.send(method, path, body).await, status, "{method} {path}");
                expected.push(what);
            }
        }
        let hits = json!({ "hits": 2 });
        for (path, body, what) in [
            ("callers/ann/quota/consume", &hits, "consume quota"),
            ("callers/ann/quota/release", &hits, "release quota"),
            ("callers/ann/quota/reset", &json!({}), "reset quota"),
            ("latencies", &json!({ "near": 12.5 }), "report latencies"),
            ("signals/errors", &json!({ "value": 0.25 }), "report signal"),
        ] {
            let status = audited.send("POST", path, body).await;
            assert!([200, 204].contains(&status), "{path}: {status}");
            expected.push(what);
        }
        // Nothing is changed by these.
        assert_eq!(audited.send("POST", "callers/ann/quota/validate", &hits).await, 200);
        assert_eq!(audited.send("POST", "latencies", &json!({ "unknown": 1 })).await, 422);
        assert_eq!(audited.send("POST", "signals/unknown", &json!({ "value": 1 })).await, 404);
        assert_eq!(audited.operations(), expected);
        let lines = audited.lines();
        let [.., latencies, signal] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(latencies["latencies"], json!({ "near": 12.5 }));
        assert!(lines.iter().all(|line| line["failed"].is_null()), "{lines:?}");
        let reported = ["who", "signal", "value", "caller"].map(|name| signal[name].clone());
        assert_eq!(json!(reported), json!(["loopback", "errors", 0.25, null]));
        let many = json!({ "hits": 2000 });
        assert_eq!(audited.send("POST", "callers/ann/quota/consume", &many).await, 429);
        let [.., before, after] = &audited.lines()[..] else { panic!("two lines") };
        assert_eq!((&before["what"], &before["failed"]), (&json!("consume quota"), &Value::Null));
        assert_eq!(after["failed"], "429 Too Many Requests (QUOTA_EXCEEDED)");
        assert_eq!(verify(&[&audited.file()], &[]).0, Some(0));
    }
}

const HELD_POLICY: &str = "
domain: shop
caller: { key: user }
descriptors:
- key: user
  reservation: { ttl: 10m }
  limits: [{ name: daily, rate: 10/day }]
  descriptors:
  - { key: kind, value: seat, limits: [{ name: seats, rate: 3/total }] }
";

/// A limit as a line has it.
fn stood(limit: &str, quota: u64, used: u64) -> Value {
    json!({ "limit": limit, "quota": quota, "used": used, "remaining": quota - used })
}

#[tokio::test]
async fn a_change_of_hits_says_which_limits_and_how_they_stood() {
    let with_seats = |body: &Value| {
        let mut body = body.clone();
        body["entries"] = json!([{ "kind": "seat" }]);
        body
    };
    let daily = |used: u64| json!([stood("daily", 10, used)]);
    let seats = |used: u64| json!([stood("seats", 3, used)]);
    let hits = |hits: u64| json!({ "hits": hits });
    let adjusted = json!({ "hits": 1, "mode": "adjust_only" });
    let counted = with_seats(&json!({ "counted": 1 }));
    let job = json!({ "id": "job", "hits": 3 });
    for store in Store::every() {
        let audited = Audited::serving(HELD_POLICY, &store, &[]).await;
        for (path, body, hits, limits, reservation) in [
            ("quota/consume", &hits(4), 4, daily(0), Value::Null),
            ("quota/consume", &adjusted, 1, daily(4), Value::Null),
            ("quota/release", &hits(2), 2, daily(5), Value::Null),
            ("quota/consume", &with_seats(&hits(2)), 2, seats(0), Value::Null),
            ("quota/recalculate", &counted, 1, seats(2), Value::Null),
            ("reservations", &job, 3, daily(3), json!("job")),
            ("reservations/job/extend", &json!({}), 0, daily(6), json!("job")),
            ("reservations/job/settle", &hits(1), 1, daily(6), json!("job")),
            ("quota/reset", &json!({}), 4, daily(4), Value::Null),
        ] {
            let status = audited.send("POST", &format!("callers/ann/{path}"), body).await;
            assert!([200, 201].contains(&status), "{path}: {status}");
            let line = audited.lines().pop().unwrap();
            let names = ["hits", "domain", "limits", "reservation"];
            let reported = json!(names.map(|name| line[name].clone()));
            assert_eq!(reported, json!([hits, "shop", limits, reservation]), "{path} {body}");
        }
        assert_eq!(verify(&[&audited.file()], &[]).0, Some(0));
    }
}

#[tokio::test]
async fn a_reservation_that_is_refused_or_cancelled_has_its_id_in_each_line() {
    for store in Store::every() {
        let audited = Audited::serving(HELD_POLICY, &store, &[]).await;
        let path = "callers/ann/reservations";
        let reserve = async |id: &str, hits: u64| {
            audited.send("POST", path, &json!({ "id": id, "hits": hits })).await
        };
        assert_eq!(reserve("much", 11).await, 429);
        assert_eq!(reserve("other", 2).await, 201);
        assert_eq!(audited.send("DELETE", &format!("{path}/other"), &Value::Null).await, 204);
        let lines = audited.lines();
        let reported = lines.iter().map(|line| {
            let used = line["limits"][0]["used"].as_u64().unwrap();
            (line["reservation"].as_str().unwrap(), used, line["failed"].is_string())
        });
        let expected =
            [("much", 0, false), ("much", 0, true), ("other", 0, false), ("other", 2, false)];
        assert_eq!(reported.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn what_a_reservation_that_is_known_or_ended_refuses_is_one_line() {
    for store in Store::every() {
        let audited = Audited::serving(HELD_POLICY, &store, &[]).await;
        let path = "callers/ann/reservations";
        let (job, other) = (json!({ "id": "job", "hits": 3 }), json!({ "id": "job", "hits": 4 }));
        let settle = async |hits: u64| {
            audited.send("POST", &format!("{path}/job/settle"), &json!({ "hits": hits })).await
        };
        assert_eq!(audited.send("POST", path, &job).await, 201);
        assert_eq!(audited.send("POST", path, &other).await, 409);
        assert_eq!(settle(1).await, 200);
        assert_eq!(settle(2).await, 409);
        assert_eq!(settle(1).await, 200, "it is settled so");
        assert_eq!(audited.send("POST", &format!("{path}/job/extend"), &json!({})).await, 409);
        assert_eq!(audited.send("DELETE", &format!("{path}/job"), &Value::Null).await, 409);
        let lines = audited.lines();
        let reported = lines.iter().map(|line| {
            let failed = line["failed"].as_str().unwrap_or("made").to_owned();
            json!([
                line["what"],
                line["reservation"],
                line["hits"],
                line["limits"][0]["used"],
                failed
            ])
        });
        let conflict = "409 Conflict (RESERVATION_CONFLICT)";
        let expected = [
            json!(["reserve quota", "job", 3, 0, "made"]),
            json!(["reserve quota", "job", 4, 3, conflict]),
            json!(["settle reservation", "job", 1, 3, "made"]),
            json!(["settle reservation", "job", 2, 1, conflict]),
            json!(["extend reservation", "job", 0, 1, conflict]),
            json!(["cancel reservation", "job", 0, 1, conflict]),
        ];
        assert_eq!(reported.collect::<Vec<_>>(), expected);
        assert_eq!(verify(&[&audited.file()], &[]).0, Some(0));
    }
}

#[tokio::test]
async fn a_change_of_files_is_a_line_and_an_invalid_file_is_none() {
    let audited = Audited::serving(POLICY, &Store::Embedded, &[]).await;
    let metrics = async || {
        let metrics = audited.get("/metrics", &[]).await;
        String::from_utf8(metrics.body.to_vec()).unwrap()
    };
    audited.tollgate.edit("domain: shop\nunknown: 1\n");
    eventually("the rejection", async || {
        metrics().await.contains("tollgate_policy_rejected 1").then_some(())
    })
    .await;
    audited.tollgate.edit(&POLICY.replace("1000/day", "2000/day"));
    let line = eventually("the line", async || audited.lines().pop()).await;
    assert_eq!(audited.operations(), ["reload policies"]);
    assert_eq!(line["who"], "files");
    assert_ne!(line["from"], line["to"]);
    let text = fs::read_to_string(audited.file()).unwrap();
    let start: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&start["from"], &start["to"]), (&Value::Null, &line["from"]));
    let hash = line["to"].as_str().unwrap();
    assert!(metrics().await.contains(hash), "{hash}");
    assert_eq!(verify(&[&audited.file()], &[]).0, Some(0));
}
