//! Reads usage from a Tollgate.

use serde_json::Value;

use super::client::Http;
use super::eventually;
use super::tollgate::Tollgate;

/// All items of a path with a query, page by page, and their scope. The store is there: a busy machine may make it late, and
/// the list is then read again.
pub async fn items(tollgate: &Tollgate, path: &str) -> (Vec<Value>, String) {
    eventually("all pages of one list", async || pages(tollgate, path).await).await
}

/// None if the store was late.
async fn pages(tollgate: &Tollgate, path: &str) -> Option<(Vec<Value>, String)> {
    let (mut items, mut after) = (Vec::new(), 0);
    loop {
        let url = format!("http://{}{path}&page_size=1000&after={after}", tollgate.http_address);
        let answer = Http::new().get(&url, &[]).await;
        if answer.status == 503 {
            return None;
        }
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        let page = answer.json();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return Some((items, page["scope"].as_str().unwrap().to_owned())),
        }
    }
}

/// The requests of the last days.
pub async fn requests(tollgate: &Tollgate) -> u64 {
    let (items, _) = items(tollgate, "/v1/usage?granularity=day").await;
    items.iter().map(|item| item["requests"].as_u64().unwrap()).sum()
}

/// Waits until a Tollgate reports this many requests of the whole fleet.
pub async fn counted(tollgate: &Tollgate, expected: u64) {
    eventually("the requests in the usage", async || {
        let (items, scope) = items(tollgate, "/v1/usage?granularity=day").await;
        let sum: u64 = items.iter().map(|item| item["requests"].as_u64().unwrap()).sum();
        assert!(sum <= expected, "{sum} requests are counted, and {expected} were made");
        (sum == expected && scope == "fleet").then_some(())
    })
    .await;
}
