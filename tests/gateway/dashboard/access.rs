//! Who may open pages: roles, sessions, forms, and what the headers forbid a browser.

use serde_json::json;

use super::client::{Client, form_token};
use super::{POLICY, Site};
use crate::support::browser::Browser;
use crate::support::client::Http;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;

#[tokio::test]
async fn a_session_begins_with_a_token_and_ends_with_a_form_of_its_own() {
    let site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let mut client = Client::new(&site);
    let answer = client.get("/dashboard").await;
    assert_eq!(
        (answer.status, &answer.headers["location"]),
        (303, &"/dashboard/login?next=%2Fdashboard".parse().unwrap())
    );
    assert_eq!(client.get("/dashboard/live/overview").await.status, 303);
    client.cookie = "tollgate_session=99999999999.00.00.viewer".to_owned();
    assert_eq!(client.get("/dashboard").await.status, 303);

    let form = client.get("/dashboard/login").await;
    client.keep(&form);
    let body = format!("form_token={}&token=wrong", form_token(&form));
    let answer = client.post("/dashboard/login", &[], &body).await;
    assert_eq!((answer.status, answer.text().contains("unknown")), (401, true));
    let body = format!("token={}", site.token("viewer"));
    assert_eq!(client.post("/dashboard/login", &[], &body).await.status, 403, "no form token");

    let answer = client.log_in("viewer").await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(site.token("viewer")), "{cookie}");
    let page = client.get("/dashboard").await;
    assert_eq!(page.status, 200);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'nonce-",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers["cache-control"], "no-store");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert!(page.body.len() < 200_000, "{}", page.body.len());

    let token = form_token(&page);
    let body = format!("form_token={token}");
    let cross = [("sec-fetch-site", "cross-site")];
    assert_eq!(client.post("/dashboard/logout", &cross, &body).await.status, 403);
    let origin = [("origin", "https://evil.example")];
    assert_eq!(client.post("/dashboard/logout", &origin, &body).await.status, 403);
    assert_eq!(client.post("/dashboard/logout", &[], "form_token=00").await.status, 403);
    assert_eq!(client.post("/dashboard/logout", &[], "").await.status, 403);
    let answer = client.post("/dashboard/logout", &[], &body).await;
    client.keep(&answer);
    assert_eq!(client.get("/dashboard").await.status, 303);
}

#[tokio::test]
async fn the_role_self_sees_no_page_of_others() {
    let site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let mut client = Client::new(&site);
    let answer = client.log_in("self").await;
    assert_eq!(answer.headers["location"], "/me");
    for path in ["/dashboard", "/dashboard/live/overview"] {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.text().contains("the role viewer is required"), "{path}");
    }
}

#[tokio::test]
async fn files_of_pages_are_named_by_their_content_and_kept() {
    let site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let client = Client::new(&site);
    let page = client.get("/dashboard/login").await.text();
    let paths = page.split('"').filter(|text| text.starts_with("/dashboard/assets/"));
    let paths: Vec<&str> = paths.collect();
    assert_eq!(paths.len(), 3, "{page}");
    for path in paths {
        let answer = client.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let kept = answer.headers["cache-control"].to_str().unwrap();
        assert!(kept.contains("immutable"), "{kept}");
        assert!(answer.body.len() < 50_000, "{path}");
    }
    assert_eq!(client.get("/dashboard/assets/style-0.css").await.status, 404);
}

#[tokio::test]
async fn without_tokens_only_this_machine_opens_pages_and_a_setting_turns_them_off() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let url = format!("http://{}/dashboard", tollgate.http_address);
    let http = Http::new();
    let answer = http.get(&url, &[]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers["set-cookie"].to_str().unwrap().contains("HttpOnly"));
    assert_eq!(http.get(&url, &[("x-forwarded-for", "10.0.0.1")]).await.status, 403);
    assert_eq!(http.get(&url, &[("host", "evil.example")]).await.status, 403);
    let off = Tollgate::serve_with(POLICY, &Store::Embedded, &["--dashboard=false"]).await;
    let url = format!("http://{}/dashboard", off.http_address);
    assert_eq!(http.get(&url, &[]).await.status, 404);
}

#[tokio::test]
async fn open_pages_end_with_the_process_at_once() {
    let mut site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let Some(browser) = site.browser("viewer").await else { return };
    browser.shows("#live-state", "live").await;
    site.tollgate.terminate();
    assert!(site.tollgate.exit().await.success());
    assert!(
        !site.tollgate.output().contains("shutdown_grace expired"),
        "{}",
        site.tollgate.output()
    );
    browser.shows("#live-state", "connecting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_nothing_that_a_script_can_read() {
    let site = Site::start(POLICY, &Store::Embedded, &[]).await;
    let Some(browser) = site.browser("viewer").await else { return };
    browser.shows("h1", "Overview").await;
    assert_eq!(browser.value("document.cookie").await, json!(""));
    assert_eq!(browser.value("localStorage.length + sessionStorage.length").await, json!(0));
    browser.click(".account button").await;
    browser.shows("button", "Log in").await;
    browser.open(&site.url("/dashboard")).await;
    browser.shows("button", "Log in").await;
    let problems = browser.accessibility_problems().await.unwrap_or_default();
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(browser.errors().await, Vec::<String>::new());
    // Another window has no session.
    let Some(other) = Browser::start().await else { return };
    other.open(&site.url("/dashboard")).await;
    other.shows("button", "Log in").await;
}
