//! A real Chromium, driven over the WebDriver protocol of its chromedriver.

use std::path::PathBuf;
use std::process::Command;

use axum::http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Http;
use super::process::Process;
use super::{eventually, find_program};

/// The path of axe-core, where `tests/run.sh` installs it.
const AXE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/axe/axe_playwright_python/axe.min.js");

/// A window of a browser, without cookies at first.
pub struct Browser {
    _driver: Process,
    _folder: TempDir,
    http: Http,
    session: String,
}

impl Browser {
    /// Opens a window; None without Chromium.
    pub async fn start() -> Option<Self> {
        let driver = find_program("chromedriver", "CHROMEDRIVER", None)?;
        let chromium = find_program("chromium", "CHROMIUM", None)?;
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(driver);
        command.arg("--port=0");
        let mut driver = Process::start("chromedriver", &mut command);
        let port = eventually("chromedriver's port", async || {
            driver.assert_runs();
            let output = driver.output();
            let (_, rest) = output.split_once("started successfully on port ")?;
            rest.split_once('.').map(|(port, _)| port.to_owned())
        })
        .await;
        let profile = format!("--user-data-dir={}", folder.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,900",
            &profile,
        ];
        let options = json!({ "binary": chromium, "args": arguments });
        let logs = json!({ "browser": "ALL" });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": logs });
        let capabilities = json!({ "capabilities": { "alwaysMatch": wanted } });
        let http = Http::new();
        let url = format!("http://127.0.0.1:{port}/session");
        let answer = http.post(&url, &[], &capabilities.to_string()).await.json();
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let session = format!("{url}/{id}");
        Some(Self { _driver: driver, _folder: folder, http, session })
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/{path}", self.session);
        let mut answer = self.http.post(&url, &[], &body.to_string()).await.json();
        assert!(answer["value"]["error"].is_null(), "{path} {body}: {answer}");
        answer["value"].take()
    }

    /// Opens a page, and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url })).await;
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.command("execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// The text of the first element of a selector; empty if there is none.
    pub async fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let text = self.value(&format!("document.querySelector({selector})?.textContent")).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the first element of a selector has that text.
    pub async fn shows(&self, selector: &str, text: &str) {
        let what = format!("`{text}` in {selector}");
        let mut last = String::new();
        let found = tokio::time::timeout(super::PATIENCE, async {
            loop {
                last = self.text(selector).await;
                if last.contains(text) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        let found = found.await.is_ok();
        assert!(found, "{what}: there is `{last}`\n{}", self.text("main").await);
    }

    /// Waits until there is an element of that selector: what a click has begun to load may not be there yet.
    async fn element(&self, selector: &str) -> String {
        let count = format!("document.querySelectorAll({}).length", json!(selector));
        eventually(selector, async || (self.value(&count).await != json!(0)).then_some(())).await;
        let query = json!({ "using": "css selector", "value": selector });
        let element = self.command("element", &query).await;
        let (_, id) = element.as_object().unwrap().iter().next().unwrap();
        id.as_str().unwrap().to_owned()
    }

    /// Clicks on an element.
    pub async fn click(&self, selector: &str) {
        let id = self.element(selector).await;
        self.command(&format!("element/{id}/click"), &json!({})).await;
    }

    /// Replaces the text of a field.
    pub async fn enter(&self, selector: &str, text: &str) {
        let id = self.element(selector).await;
        self.command(&format!("element/{id}/clear"), &json!({})).await;
        self.command(&format!("element/{id}/value"), &json!({ "text": text })).await;
    }

    /// Chooses an option of a list by its value.
    pub async fn choose(&self, selector: &str, value: &str) {
        let option = format!("{selector} option[value={}]", json!(value));
        self.click(&option).await;
    }

    /// A window of that size, light or dark.
    pub async fn look(&self, (width, height): (u32, u32), scheme: &str) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics).await;
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [feature] })).await;
    }

    async fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    /// What axe-core finds in the page that is serious or critical; None without axe-core.
    pub async fn accessibility_problems(&self) -> Option<Vec<String>> {
        let path = find_program("axe.min.js", "AXE", Some(PathBuf::from(AXE)))?;
        let axe = std::fs::read_to_string(path).unwrap();
        self.command("execute/sync", &json!({ "script": axe, "args": [] })).await;
        let script = "
            const done = arguments[0];
            axe.run(document, { resultTypes: ['violations'] }).then((results) => done(results.violations
                .filter((one) => ['serious', 'critical'].includes(one.impact))
                .map((one) => one.id + ': ' + one.nodes.slice(0, 3).map((node) => node.html + ' ' + node.failureSummary).join('; '))));";
        let found = self.command("execute/async", &json!({ "script": script, "args": [] })).await;
        let found = found.as_array().unwrap().iter();
        Some(found.map(|one| one.as_str().unwrap().to_owned()).collect())
    }

    /// The errors in the log of the browser since the last call, such as violations of the content security policy.
    pub async fn errors(&self) -> Vec<String> {
        let entries = self.command("se/log", &json!({ "type": "browser" })).await;
        let entries = entries.as_array().unwrap().iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its driver; the driver is a process of ours.
        let session = self.session.clone();
        let end = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let request = Request::delete(session);
                let request = request.body(Full::default()).unwrap();
                Http::new().try_send(request).await.ok();
            });
        });
        end.join().ok();
    }
}
