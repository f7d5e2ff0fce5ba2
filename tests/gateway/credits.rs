//! Credits of callers over HTTP: grants and the order in which they are spent, gifts, and the ledger.

use axum::http::Request;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::gateway::{Counts, Gateway, tcp};
use crate::support::redis::{Server, query};
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

const POLICY: &str = "
domain: shop
caller: { key: user }
descriptors:
  - key: user
    reservation: { ttl: 1h }
    limits: [{ name: tokens, rate: 2/total }]
    descriptors:
      - { key: kind, limits: [{ name: kinds, rate: 5/day }] }
";

/// A Tollgate, and a client.
struct Api {
    tollgate: Tollgate,
    http: Http,
}

impl Api {
    async fn start(store: &Store) -> Self {
        let tollgate = Tollgate::serve(POLICY, store).await;
        Self { tollgate, http: Http::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v1/callers/{path}", self.tollgate.http_address)
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(&self.url(path), &[]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
        answer.json()
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.http.post(&self.url(path), &[], &body.to_string()).await
    }

    async fn put(&self, name: &str, caller: &Value) {
        let answer = self.http.put(&self.url(name), &caller.to_string()).await;
        assert!(answer.status < 300, "{name}: {}", answer.json());
    }

    /// Checks the status of an answer, and its code if it is a problem.
    async fn check(&self, path: &str, body: &Value, expected: (u16, &str)) -> Value {
        let answer = self.post(path, body).await;
        let reported = answer.json();
        let code = reported["code"].as_str().unwrap_or("").to_owned();
        assert_eq!((answer.status, code.as_str()), expected, "{path} {body}: {reported}");
        reported
    }

    async fn quota(&self, name: &str) -> Value {
        self.get(&format!("{name}/quota")).await["items"][0].clone()
    }

    /// What remains for a caller, once the ledger has shown to add up to it.
    async fn balance(&self, name: &str) -> u64 {
        let item = self.get(&format!("{name}/ledger")).await["items"][0].clone();
        let entries = item["entries"].as_array().unwrap().iter();
        let sum: i64 = entries.map(|entry| entry["hits"].as_i64().unwrap()).sum();
        let balance = item["balance"].as_u64().unwrap();
        assert_eq!(u64::try_from(sum), Ok(balance), "{item}");
        balance
    }

    /// The entries of a caller's ledger: kind, hits, bonus.
    async fn entries(&self, name: &str) -> Vec<Value> {
        let item = self.get(&format!("{name}/ledger")).await["items"][0].clone();
        let entries = item["entries"].as_array().unwrap().iter();
        entries.map(|entry| json!([entry["kind"], entry["hits"], entry["bonus"]])).collect()
    }
}

async fn on_redis() -> Option<(Api, Store)> {
    let store = Store::Redis(Server::start(&[])?);
    Some((Api::start(&store).await, store))
}

async fn on_every() -> Vec<(Api, Store)> {
    let mut all = Vec::new();
    for store in Store::every() {
        all.push((Api::start(&store).await, store));
    }
    all
}

fn bonus(id: &str, amount: u64, until: &str) -> Value {
    json!({ "id": id, "limit": "tokens", "amount": amount, "until": until })
}

fn grants(quota: &Value) -> Vec<Value> {
    let grants = quota["grants"].as_array().unwrap().iter();
    grants.map(|grant| json!([grant["id"], grant["spent"], grant["remaining"]])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_are_spent_by_their_end_and_then_by_priority() {
    for (api, _store) in on_every().await {
        api.put("ann", &json!({})).await;
        // The epoch would be read as no beginning, and the caller's record as invalid.
        let epoch = json!({ "id": "e", "limit": "tokens", "amount": 1, "every": "hour", "from": "1970-01-01", "rollover": { "max": 5 } });
        api.check("ann/bonuses", &epoch, (422, "")).await;
        let first = json!({ "id": "first", "limit": "tokens", "amount": 3, "until": "2098-01-01", "priority": 9 });
        let never = json!({ "id": "never", "limit": "tokens", "amount": 6 });
        for one in [never, bonus("late", 5, "2099-01-01"), bonus("b", 4, "2098-01-01"), first] {
            api.check("ann/bonuses", &one, (201, "")).await;
        }
        let order = [
            json!(["first", 0, 3]),
            json!(["b", 0, 4]),
            json!(["late", 0, 5]),
            json!(["never", 0, 6]),
        ];
        let quota = api.quota("ann").await;
        assert_eq!(grants(&quota), order, "{quota}");
        assert_eq!((&quota["quota"], &quota["bonuses"]), (&json!(20), &json!(18)));
        api.check("ann/quota/consume", &json!({ "hits": 7 }), (200, "")).await;
        let spent = [
            json!(["first", 3, 0]),
            json!(["b", 2, 2]),
            json!(["late", 0, 5]),
            json!(["never", 0, 6]),
        ];
        let quota = api.quota("ann").await;
        assert_eq!((grants(&quota), &quota["used"]), (spent.to_vec(), &json!(7)), "{quota}");
        assert_eq!(api.balance("ann").await, 13);
    }
}

/// Five tokens are deducted if the balance is there, in one step, however many ask at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_are_deducted_if_they_are_there_and_never_in_part() {
    for store in Store::every() {
        let policy = POLICY.replace("2/total", "12/total");
        let tollgate = Tollgate::serve(&policy, &store).await;
        let api = Api { tollgate, http: Http::new() };
        let body = json!({ "hits": 5 });
        let answers = join_all((0..8).map(|_| api.post("ann/quota/consume", &body))).await;
        let passed = answers.iter().filter(|answer| answer.status == 200).count();
        let refused = answers.iter().filter(|answer| answer.status == 429).count();
        assert_eq!((passed, refused), (2, 6));
        assert_eq!(api.balance("ann").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gift_moves_hits_once_and_is_told_on_both_sides() {
    for (api, _store) in on_every().await {
        api.put("ann", &json!({ "bonuses": [bonus("launch", 10, "2099-01-01")] })).await;
        api.put("bob", &json!({})).await;
        let gift = json!({ "id": "g1", "to": "bob", "limit": "tokens", "hits": 4 });
        for _ in 0..3 {
            let given = api.check("ann/gifts", &gift, (201, "")).await;
            let reported = json!([given["state"], given["bonus"], given["expires_at"]]);
            assert_eq!(reported, json!(["done", "launch", "2099-01-02T00:00:00Z"]));
        }
        assert_eq!((api.balance("ann").await, api.balance("bob").await), (8, 6));
        assert_eq!(api.get("ann/gifts/g1").await["state"], "done");
        let of_ann = api.entries("ann").await;
        let amount = json!(["amount", 2, null]);
        assert_eq!(
            of_ann,
            [amount.clone(), json!(["granted", 10, "launch"]), json!(["given", -4, "launch"])]
        );
        let id = api.quota("bob").await["grants"][0]["id"].clone();
        assert_eq!(api.entries("bob").await, [amount, json!(["received", 4, id])]);

        // A second gift that ends at the same time joins the first; what is received can be given on.
        let second = json!({ "id": "g2", "to": "bob", "limit": "tokens", "hits": 6 });
        api.check("ann/gifts", &second, (201, "")).await;
        let back = json!({ "id": "g3", "to": "ann", "limit": "tokens", "hits": 7 });
        api.check("bob/gifts", &back, (201, "")).await;
        api.check("bob/quota/consume", &json!({ "hits": 4 }), (200, "")).await;
        assert_eq!((api.balance("ann").await, api.balance("bob").await), (9, 1));
        assert_eq!(grants(&api.quota("bob").await), [json!([id, 9, 1])]);
        let output = api.tollgate.output();
        let gift = r#""hits":4,"gift":{"id":"g1","limit":"tokens","bonus":"launch"}"#;
        let lines: Vec<&str> = output.lines().filter(|line| line.contains(gift)).collect();
        for reported in
            [r#""what":"give hits","caller":"ann""#, r#""what":"receive hits","caller":"bob""#]
        {
            assert_eq!(lines.iter().filter(|line| line.contains(reported)).count(), 1, "{output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gift_that_can_not_be_made_takes_nothing() {
    for (api, _store) in on_every().await {
        let kinds = json!({ "id": "k", "limit": "kinds", "amount": 9 });
        let bonuses = json!([bonus("launch", 10, "2099-01-01"), kinds]);
        api.put("ann", &json!({ "bonuses": bonuses })).await;
        api.put("bob", &json!({})).await;
        api.put("eve", &json!({ "disabled": true, "bonuses": [bonus("x", 5, "2099-01-01")] }))
            .await;
        api.put("kid", &json!({ "parent": "ann", "pool": true })).await;
        let gift =
            |to: &str, hits: u64| json!({ "id": "g", "to": to, "limit": "tokens", "hits": hits });
        // The base can't be given.
        let problem = api.check("ann/gifts", &gift("bob", 11), (429, "QUOTA_EXCEEDED")).await;
        assert_eq!(problem["detail"], "no bonus of `ann` has 11 hits; the most is 10");
        api.check("ann/gifts", &gift("nobody", 1), (404, "")).await;
        api.check("ann/gifts", &gift("ann", 1), (400, "")).await;
        api.check("ann/gifts", &gift("bob", 0), (400, "")).await;
        api.check("eve/gifts", &gift("bob", 1), (422, "")).await;
        let problem = api.check("kid/gifts", &gift("bob", 1), (422, "")).await;
        assert!(problem["detail"].as_str().unwrap().contains("`ann`"), "{problem}");
        let several =
            json!({ "to": "bob", "limit": "kinds", "hits": 1, "entries": [{ "kind": "a" }] });
        api.check("ann/gifts", &several, (422, "")).await;
        assert_eq!((api.balance("ann").await, api.balance("bob").await), (12, 2));
        // An id stands for one gift.
        api.check("ann/gifts", &gift("bob", 3), (201, "")).await;
        api.check("ann/gifts", &gift("bob", 4), (409, "IDEMPOTENCY_CONFLICT")).await;
        assert_eq!((api.balance("ann").await, api.balance("bob").await), (9, 5));
        // A receiver without room leaves the hits to the giver.
        let full: Vec<Value> = (0..32).map(|id| bonus(&id.to_string(), 1, "2099-01-01")).collect();
        api.put("bob", &json!({ "bonuses": full })).await;
        let full = json!({ "id": "full", "to": "bob", "limit": "tokens", "hits": 2 });
        api.check("ann/gifts", &full, (409, "")).await;
        assert_eq!((api.balance("ann").await, api.balance("bob").await), (9, 34));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_that_a_reservation_holds_are_not_given() {
    for (api, _store) in on_every().await {
        api.put("ann", &json!({ "bonuses": [bonus("launch", 10, "2099-01-01")] })).await;
        api.put("bob", &json!({})).await;
        api.check("ann/reservations", &json!({ "id": "r", "hits": 11 }), (201, "")).await;
        let gift =
            |id: &str, hits: u64| json!({ "id": id, "to": "bob", "limit": "tokens", "hits": hits });
        let problem = api.check("ann/gifts", &gift("two", 2), (429, "QUOTA_EXCEEDED")).await;
        let detail = "reservations hold hits of `ann`, which are not given: 1 are left";
        assert_eq!(problem["detail"], detail);
        api.check("ann/gifts", &gift("one", 1), (201, "")).await;
        api.check("ann/reservations/r/settle", &json!({ "hits": 11 }), (200, "")).await;
        assert_eq!((api.balance("ann").await, api.balance("bob").await), (0, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_that_go_round_in_a_circle_stay_as_many() {
    let Some((one, store)) = on_redis().await else { return };
    let apis = [one, Api::start(&store).await];
    let names = ["ann", "bob", "cat"];
    for name in names {
        apis[0].put(name, &json!({ "bonuses": [bonus("launch", 40, "2099-01-01")] })).await;
    }
    let gifts = (0..90_usize).map(|number| {
        let (from, to) = (names[number % 3], names[(number + 1 + number / 45) % 3]);
        let hits = 1 + number % 7;
        let gift = json!({ "id": format!("g{number}"), "to": to, "limit": "tokens", "hits": hits });
        let apis = &apis;
        async move {
            // Both sidecars are asked, as a client that retries does.
            let path = format!("{from}/gifts");
            let sent = apis.iter().map(|api| api.post(&path, &gift));
            for answer in join_all(sent).await {
                assert!([201, 202, 409, 429].contains(&answer.status), "{}", answer.json());
            }
        }
    });
    join_all(gifts).await;
    settled(&store).await;
    let mut sum = 0;
    for name in names {
        sum += apis[1].balance(name).await;
    }
    assert_eq!(sum, 3 * 42);
}

/// Waits until no gift is pending.
async fn settled(store: &Store) {
    let Store::Redis(server) = store else { return };
    let mut connection = server.raw().await;
    eventually("the end of all gifts", async || {
        (query::<u64>(&mut connection, "ZCARD tgc1-gifts") == 0).then_some(())
    })
    .await;
}

/// What a sidecar leaves that dies after the hits were taken and before they were given, or before they were taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gift_that_was_left_at_any_step_is_carried_on_once() {
    let Some((api, store)) = on_redis().await else { return };
    let Store::Redis(server) = &store else { return };
    api.put("ann", &json!({ "bonuses": [bonus("launch", 10, "2099-01-01")] })).await;
    api.put("bob", &json!({})).await;
    let mut connection = server.raw().await;
    let mut get =
        |key: &str| -> String { redis::cmd("GET").arg(key).query(&mut connection).unwrap() };
    let bob = get("tgc1|bob");
    let gift = json!({ "id": "taken", "to": "bob", "limit": "tokens", "hits": 4 });
    api.check("ann/gifts", &gift, (201, "")).await;
    let pending = get("tgc1-gift|taken").replace(r#""state":"done""#, r#""state":"pending""#);
    let asked = pending.replace("taken", "noted").replace(r#""hits":4"#, r#""hits":3"#);
    let greedy = pending.replace("taken", "greedy").replace(r#""hits":4"#, r#""hits":9"#);
    let mut connection = server.raw().await;
    redis::pipe()
        .set("tgc1|bob", bob)
        .set("tgc1-gift|taken", pending)
        .set("tgc1-gift|noted", asked)
        .set("tgc1-gift|greedy", greedy)
        .publish("tgc1-changes", "bob")
        .exec(&mut connection)
        .unwrap();
    assert_eq!(api.get("ann/gifts/taken").await["state"], "pending");
    redis::cmd("ZADD")
        .arg(&["tgc1-gifts", "0", "taken", "1", "noted", "2", "greedy"])
        .exec(&mut connection)
        .unwrap();
    settled(&store).await;
    for (id, state) in [("taken", "done"), ("noted", "done"), ("greedy", "refused")] {
        assert_eq!(api.get(&format!("ann/gifts/{id}")).await["state"], state, "{id}");
    }
    assert_eq!((api.balance("ann").await, api.balance("bob").await), (12 - 7, 2 + 7));
}

/// A gift whose hits were taken, and one whose limit is unknown: nobody is left to get the hits, and both callers can be erased.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gift_between_callers_that_are_both_erased_ends() {
    let Some((api, store)) = on_redis().await else { return };
    let Store::Redis(server) = &store else { return };
    api.put("ann", &json!({ "bonuses": [bonus("launch", 10, "2099-01-01")] })).await;
    api.put("bob", &json!({})).await;
    let gift = json!({ "id": "taken", "to": "bob", "limit": "tokens", "hits": 4 });
    api.check("ann/gifts", &gift, (201, "")).await;
    let mut connection = server.raw().await;
    let done: String = redis::cmd("GET").arg("tgc1-gift|taken").query(&mut connection).unwrap();
    let taken = done.replace(r#""state":"done""#, r#""state":"pending""#);
    let unknown = taken.replace("taken", "unknown").replace("tokens", "gone");
    redis::pipe()
        .set("tgc1-gift|taken", taken)
        .set("tgc1-gift|unknown", unknown)
        .exec(&mut connection)
        .unwrap();
    for name in ["ann", "bob"] {
        api.check(&format!("{name}/erase"), &json!({}), (503, "")).await;
    }
    redis::cmd("ZADD")
        .arg(&["tgc1-gifts", "0", "taken", "1", "unknown"])
        .exec(&mut connection)
        .unwrap();
    settled(&store).await;
    for name in ["ann", "bob"] {
        api.check(&format!("{name}/erase"), &json!({}), (200, "")).await;
    }
}

/// Requests through a real Envoy spend what was given, to the last hit and not beyond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_passes_as_many_requests_as_were_given() {
    let policy = POLICY.replace("domain: shop", "domain: gate");
    for store in Store::every() {
        let tollgate = Tollgate::serve(&policy, &store).await;
        let Some(gateway) = Gateway::start(&[tcp(tollgate.grpc_address)]).await else { return };
        let api = Api { tollgate, http: Http::new() };
        let monthly = json!({ "id": "plan", "limit": "tokens", "amount": 5, "every": "year" });
        api.put("ann", &json!({ "bonuses": [bonus("launch", 10, "2099-01-01"), monthly] })).await;
        api.put("bob", &json!({})).await;
        let gift = json!({ "to": "bob", "limit": "tokens", "hits": 4, "bonus": "launch" });
        api.check("ann/gifts", &gift, (201, "")).await;
        assert_eq!(gateway.caller.crowd("bob", 10).await, Counts::new(6, 4));
        assert_eq!(gateway.caller.crowd("ann", 20).await, Counts::new(13, 7));
        assert_eq!((api.balance("ann").await, api.balance("bob").await), (0, 0));
    }
}

/// A sidecar that is killed while it gives leaves gifts pending, at any step. Another one carries them on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gifts_of_a_sidecar_that_is_killed_are_carried_on() {
    let Some((api, store)) = on_redis().await else { return };
    let names = ["ann", "bob", "cat"];
    for name in names {
        api.put(name, &json!({ "bonuses": [bonus("launch", 100, "2099-01-01")] })).await;
    }
    let mut left_pending = 0;
    for round in 0..4 {
        let victim = Api::start(&store).await;
        let gifts = (0..24_usize).map(|number| {
            let (from, to) = (names[number % 3], names[(number + 1) % 3]);
            let id = format!("r{round}-{number}");
            let gift = json!({ "id": id, "to": to, "limit": "tokens", "hits": 1 + number % 5 });
            let (http, url) = (Http::new(), victim.url(&format!("{from}/gifts")));
            tokio::spawn(async move {
                let body = gift.to_string();
                let request = Request::post(url);
                let body = Full::new(Bytes::from(body));
                // It may be dead by now.
                http.try_send(request.body(body).unwrap()).await.is_ok()
            })
        });
        let gifts: Vec<_> = gifts.collect();
        let Store::Redis(server) = &store else { return };
        let mut connection = server.raw().await;
        eventually("a pending gift", async || {
            (query::<u64>(&mut connection, "ZCARD tgc1-gifts") != 0).then_some(())
        })
        .await;
        drop(victim);
        join_all(gifts).await;
        left_pending += query::<u64>(&mut connection, "ZCARD tgc1-gifts");
    }
    assert_ne!(left_pending, 0, "no sidecar was killed in the middle of a gift");
    settled(&store).await;
    let mut sum = 0;
    for name in names {
        sum += api.balance(name).await;
    }
    assert_eq!(sum, 3 * 102);
}
