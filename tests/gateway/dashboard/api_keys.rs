//! API keys: made, shown once, changed and deleted by people; found in lists; by role.

use std::fs;

use axum::http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Client, form_token};
use super::{Site, check_look};
use crate::gateway::api_keys::checker::Checker;
use crate::gateway::api_keys::scene::{PEPPER, POLICY};
use crate::support::browser::Browser;
use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::store::Store;

const ADDRESS: &str = "192.0.2.1";

/// A name that is markup.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";

/// The rows of the list: caller, name, state, tier, scopes, last use, expiry.
const ROWS: &str = "[...document.querySelectorAll('#keys tbody tr')].map((row) => [...row.cells].slice(1).map((cell) => cell.textContent))";

/// A site that keeps API keys, and its audit log.
struct Kept {
    site: Site,
    folder: TempDir,
}

impl Kept {
    async fn start(store: &Store) -> Self {
        let folder = TempDir::new().unwrap();
        let (pepper, log) = (folder.path().join("pepper"), folder.path().join("audit.jsonl"));
        fs::write(&pepper, PEPPER).unwrap();
        let flags = [
            "--api-key-pepper-file",
            pepper.to_str().unwrap(),
            "--audit-log",
            log.to_str().unwrap(),
        ];
        let site = Site::start(POLICY, store, &flags).await;
        Self { site, folder }
    }

    fn audit_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap_or_default()
    }

    /// Asks the API as an administrator.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(self.site.url(&format!("/v1/api-keys{path}")))
            .header("authorization", format!("Bearer {}", self.site.token("admin")));
        Http::new().send(request.body(Full::from(body.to_string())).unwrap()).await
    }

    async fn create(&self, form: &Value) -> (String, String) {
        let made = self.call("POST", "", form).await.json();
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        (text("api_key"), text("id"))
    }

    /// Creates an API key, and waits until it has expired.
    async fn create_expired(&self, caller: &str, name: &str) {
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5);
        let end_text = end.to_string();
        self.create(&json!({ "caller": caller, "name": name, "expires_at": end_text })).await;
        let is_over = async || (end < jiff::Timestamp::now()).then_some(());
        eventually("it has expired", is_over).await;
    }

    /// The number of API keys.
    async fn count(&self) -> usize {
        self.call("GET", "", &Value::Null).await.json()["items"].as_array().unwrap().len()
    }
}

/// The API key that a page shows once.
async fn shown(browser: &Browser) -> String {
    browser.shows("#new-api-key", "tg_").await;
    let key = browser.text("#new-api-key").await;
    let url = browser.value("location.href").await;
    assert!(!url.as_str().unwrap().contains(&key[3..]), "{url}");
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_made_shown_once_and_ends_at_once() {
    for store in Store::every() {
        let kept = Kept::start(&store).await;
        let checker = Checker::of(&kept.site.tollgate, ADDRESS).await;
        let Some(browser) = kept.site.browser("admin").await else { return };
        browser.shows("nav", "API keys").await;
        browser.open(&kept.site.url("/dashboard/caller?name=acme")).await;
        browser.click("#api-keys").await;
        browser.shows("#keys-title", "API keys of acme").await;
        browser.shows("main", "No API key.").await;
        browser.click("#create").await;
        browser.shows("#scopes-help", "the policies know hotels:book, hotels:read").await;
        check_look(&browser).await;
        assert_eq!(browser.value("document.querySelector('#caller').value").await, "acme");
        mistakes(&browser).await;
        browser.enter("#expires_at", "2099-12-31").await;
        browser.enter("#name", "engine").await;
        browser.choose("#tier", "premium").await;
        browser.click("#form-create > button").await;
        browser.shows("#effect", "Scopes: hotels:read.").await;
        browser.shows("#effect", "Tier: premium.").await;
        browser.shows("#effect", "Limits: 100/hour, 5000/total.").await;
        check_look(&browser).await;
        assert_eq!(kept.count().await, 0, "nothing is made before it is confirmed");
        browser.click("#confirm").await;
        let key = shown(&browser).await;
        check_look(&browser).await;
        assert_eq!(checker.status(&key).await, 200);

        // Nobody sees it again.
        browser.click("#to-key").await;
        browser.shows("#key", "hotels:read").await;
        browser.shows("#routes", "/amadeus/{*rest}").await;
        let may = "[...document.querySelectorAll('#routes tbody tr')].map((row) => row.cells[4].textContent)";
        assert_eq!(browser.value(may).await, json!(["yes", "no: scope", "yes"]));
        eventually("the last use", async || {
            browser.value("location.reload()").await;
            browser.text("#last-used").await.contains("from 192.0.2.1").then_some(())
        })
        .await;
        check_look(&browser).await;
        let limits =
            "[...document.querySelectorAll('#own-limits td')].map((cell) => cell.textContent)";
        let expected = json!(["100/hour", "1", "99", "5000/total", "1", "4999"]);
        assert_eq!(browser.value(limits).await, expected);
        let page = browser.value("document.documentElement.outerHTML").await;
        assert!(!page.as_str().unwrap().contains(&key[8..]), "{page}");

        change(&kept, &browser, &checker, &key).await;
        let lines = kept.audit_log();
        for action in ["create api key", "patch api key", "rotate api key", "delete api key"] {
            assert!(lines.contains(&format!("\"{action}\"")), "{action}: {lines}");
        }
        assert!(!lines.contains(&key[8..]), "{lines}");
        assert_eq!(browser.errors().await, Vec::<String>::new());
    }
}

/// Enters what is wrong in the form of a new API key.
async fn mistakes(browser: &Browser) {
    browser.enter("#scopes", "hotels:read, \"wrong").await;
    browser.enter("#expires_at", "soon").await;
    browser.enter("#limits", "100/hour, 5000").await;
    browser.click("#form-create > button").await;
    browser.shows("#wrong", "scopes.1").await;
    browser.shows("#wrong", "expires_at").await;
    browser.shows("#wrong", "limits.1: invalid rate `5000`").await;
    browser.enter("#limits", "100/hour, 5000/total").await;
    // The browser tells the status.
    assert_eq!(browser.errors().await.len(), 1);
    browser.enter("#scopes", "hotels:read").await;
    browser.enter("#expires_at", "2020-01-01").await;
    browser.click("#form-create > button").await;
    browser.shows("#wrong", "expires_at: `2020-01-01` is in the past").await;
    assert_eq!(browser.errors().await.len(), 1);
}

/// Changes, disables, enables, rotates and deletes the API key of the page.
async fn change(kept: &Kept, browser: &Browser, checker: &Checker, key: &str) {
    browser.choose("#tier", "").await;
    browser.enter("#addresses", "192.0.2.0/24").await;
    browser.click("#form-change > button").await;
    browser.shows("#effect", "Tier: premium becomes nothing.").await;
    browser.shows("#effect", "Addresses: nothing becomes 192.0.2.0/24.").await;
    browser.click("#confirm").await;
    browser.shows(".note-box", "the API key was changed").await;
    browser.shows("#key", "192.0.2.0/24").await;
    browser.shows("#key", "the caller's").await;
    assert_eq!(checker.status(key).await, 200);

    browser.click("#form-disable button").await;
    browser.shows("#effect", "are refused with 401 until").await;
    browser.shows("#effect", "from 192.0.2.1").await;
    assert_eq!(checker.status(key).await, 200);
    browser.click("#confirm").await;
    browser.shows("h1 .pill", "disabled").await;
    assert_eq!(checker.status(key).await, 401);
    browser.click("#form-enable button").await;
    browser.click("#confirm").await;
    browser.shows("h1 .pill", "valid").await;
    assert_eq!(checker.status(key).await, 200);

    browser.choose("#overlap", "3600").await;
    browser.click("#form-rotate button").await;
    browser.shows("#effect", "The earlier text stays valid until").await;
    browser.click("#confirm").await;
    let new = shown(browser).await;
    assert_eq!((checker.status(key).await, checker.status(&new).await), (200, 200));
    browser.click("#to-key").await;
    // Of the hour, seconds have passed.
    eventually("the end of the earlier text", async || {
        let texts = browser.text("#texts").await;
        ["in 1 h", "in 59 min"].iter().any(|end| texts.contains(end)).then_some(())
    })
    .await;
    assert_eq!(browser.value("document.querySelectorAll('#texts tbody tr').length").await, 2);

    browser.click("#form-delete button").await;
    browser.shows("#effect", "It can't be restored.").await;
    browser.click("#confirm").await;
    browser.shows(".note-box", "the API key was deleted").await;
    browser.shows("main", "No API key.").await;
    assert_eq!((checker.status(key).await, checker.status(&new).await), (401, 401));
    assert_eq!(kept.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn api_keys_are_found_by_caller_text_state_use_and_expiry() {
    for store in Store::every() {
        let kept = Kept::start(&store).await;
        let checker = Checker::of(&kept.site.tollgate, ADDRESS).await;
        let (used, _) = kept.create(&json!({ "caller": "acme", "name": "engine" })).await;
        kept.create_expired("acme", "old").await;
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(47);
        for form in [
            json!({ "caller": "bob", "scopes": ["hotels:read"], "expires_at": soon.to_string() }),
            json!({ "caller": HOSTILE, "name": HOSTILE, "disabled": true, "tier": "premium" }),
        ] {
            kept.create(&form).await;
        }
        assert_eq!(checker.status(&used).await, 200);
        let Some(browser) = kept.site.browser("viewer").await else { return };
        let rows = async |query: &str| {
            browser.open(&kept.site.url(&format!("/dashboard/api-keys?{query}"))).await;
            let names = format!("({ROWS}).map((row) => row[0] + '/' + row[1])");
            browser.value(&names).await
        };
        let hostile = format!("{HOSTILE}/{HOSTILE}");
        let all = json!([hostile, "acme/engine", "acme/old", "bob/"]);
        assert_eq!(rows("").await, all);
        assert_eq!(browser.text("#count").await, "4");
        let table = browser.value(ROWS).await;
        let (first, second, fourth) = (&table[0], &table[1], &table[3]);
        assert_eq!((&first[2], &first[3]), (&json!("disabled"), &json!("premium")));
        assert!(second[5].as_str().unwrap().ends_with(" ago"), "{table}");
        assert_eq!((&fourth[4], &fourth[5]), (&json!("hotels:read"), &json!("never")));
        assert!(fourth[6].as_str().unwrap().starts_with("in 1 d 2"), "{table}");
        check_look(&browser).await;
        for (query, expected) in [
            ("caller=acme", json!(["acme/engine", "acme/old"])),
            ("caller=acm", json!([])),
            ("search=ENG", json!(["acme/engine"])),
            ("state=expired", json!(["acme/old"])),
            ("state=disabled", json!([hostile])),
            ("used=day", json!(["acme/engine"])),
            ("used=never&state=valid", json!(["bob/"])),
            ("used=unused", json!([hostile, "acme/old", "bob/"])),
            ("expires=soon", json!(["bob/"])),
            ("expires=never", json!([hostile, "acme/engine"])),
            ("after=zzz", json!([])),
        ] {
            assert_eq!(rows(query).await, expected, "{query}");
        }
        let hint = &used[..7];
        assert_eq!(rows(&format!("search={hint}")).await, json!(["acme/engine"]));
        for index in 0..120 {
            kept.create(&json!({ "caller": "many", "name": format!("{index:03}") })).await;
        }
        assert_eq!(rows("caller=many").await.as_array().unwrap().len(), 100);
        browser.shows("#count", "100 of more").await;
        browser.click("#more").await;
        browser.shows("#count", "20").await;
        assert_eq!(browser.value("document.images.length").await, 0);
        assert_eq!(browser.errors().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_keys_are_for_roles_and_forms_of_the_session_alone() {
    let kept = Kept::start(&Store::Embedded).await;
    let (_, id) = kept.create(&json!({ "caller": "acme" })).await;
    let revision = async || {
        let mut client = Client::new(&kept.site);
        client.log_in("operator").await;
        let page = client.get(&format!("/dashboard/api-key?id={id}")).await.text();
        let (_, rest) = page.split_once("name=\"revision\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let pages =
        ["/dashboard/api-keys", "/dashboard/api-keys/new", &format!("/dashboard/api-key?id={id}")];
    let actions = ["change", "disable", "enable", "rotate", "delete", "create"];
    for (role, seen, done) in [("self", 0, 0), ("viewer", 0b101, 0), ("operator", 0b101, 3)] {
        let mut client = Client::new(&kept.site);
        client.log_in(role).await;
        for (index, path) in pages.iter().enumerate() {
            let page = client.get(path).await;
            let expected = if seen >> index & 1 == 1 { 200 } else { 403 };
            assert_eq!(page.status, expected, "{role} {path}");
            let forms = page.text().contains("form-change");
            assert_eq!(forms, role == "operator" && index == 2, "{role} {path}");
            assert!(!page.text().contains("form-delete"), "{role} {path}");
        }
        let token = match role {
            "self" => "00".to_owned(),
            _ => form_token(&client.get("/dashboard/api-keys").await),
        };
        for (index, action) in actions.iter().enumerate().skip(done) {
            let body = format!(
                "form_token={token}&id={id}&revision={}&overlap=0&caller=acme&confirmed=yes",
                revision().await
            );
            let answer = client.post(&format!("/dashboard/api-key/{action}"), &[], &body).await;
            assert_eq!(answer.status, 403, "{role} {action} {index}");
        }
    }
    assert_eq!(kept.count().await, 1);

    let mut client = Client::new(&kept.site);
    client.log_in("admin").await;
    let token = form_token(&client.get(pages[0]).await);
    let confirmed = format!("id={id}&revision={}&overlap=0&confirmed=yes", revision().await);
    for (headers, body) in [
        (vec![], confirmed.clone()),
        (vec![], format!("form_token=00&{confirmed}")),
        (vec![("sec-fetch-site", "cross-site")], format!("form_token={token}&{confirmed}")),
        (vec![("origin", "https://evil.example")], format!("form_token={token}&{confirmed}")),
    ] {
        let answer = client.post("/dashboard/api-key/delete", &headers, &body).await;
        assert_eq!((answer.status, kept.count().await), (403, 1), "{headers:?} {body}");
    }
    let unknown = client.get("/dashboard/api-key?id=key_none").await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_sent_twice_makes_nothing_twice() {
    for store in Store::every() {
        let kept = Kept::start(&store).await;
        let mut client = Client::new(&kept.site);
        client.log_in("admin").await;
        let token = form_token(&client.get("/dashboard/api-keys/new").await);
        let field = |page: &Answer, name: &str| {
            let page = page.text();
            let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let post = async |action: &str, body: &str| {
            let body = format!("form_token={token}&{body}");
            client.post(&format!("/dashboard/api-key/{action}"), &[], &body).await
        };
        let question = post("create", "caller=acme").await;
        assert_eq!(question.status, 200, "{}", question.text());
        let id = field(&question, "id");
        let sent = format!("caller=acme&id={id}&confirmed=yes");
        let made = post("create", &sent).await;
        assert_eq!(
            (made.status, &made.headers["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
        assert!(made.text().contains("new-api-key"));
        let again = post("create", &sent).await;
        assert_eq!(again.status, 409, "{}", again.text());
        assert!(again.text().contains("is not shown again"));
        assert_eq!(kept.count().await, 1);
        for wrong in ["", "key_", "x", "key_0123456789ab%2F", "key_0123456789abcd"] {
            let answer = post("create", &format!("caller=acme&id={wrong}&confirmed=yes")).await;
            assert_eq!(answer.status, 400, "{wrong}");
        }

        let page = client.get(&format!("/dashboard/api-key?id={id}")).await;
        let sent = format!("id={id}&revision={}&overlap=0&confirmed=yes", field(&page, "revision"));
        let rotated = post("rotate", &sent).await;
        assert_eq!(
            (rotated.status, &rotated.headers["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
        for action in ["rotate", "change", "disable", "delete"] {
            let answer = post(action, &sent).await;
            assert_eq!(answer.status, 409, "{action}: {}", answer.text());
            assert!(answer.text().contains("changed meanwhile"), "{action}");
        }
        assert_eq!(kept.count().await, 1);
    }
}
