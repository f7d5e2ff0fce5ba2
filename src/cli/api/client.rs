//! Asks the API over HTTP.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use serde_json::Value;
use ureq::http::StatusCode;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, http};

use super::question::Question;
use crate::printable;
use crate::settings::{ApiAddress, SettingsError};

/// The largest answer: a report of a month by caller and limit.
const ANSWER_LEN_MAX: u64 = 256 * 1024 * 1024;

/// Asks one API.
pub struct Client {
    address: ApiAddress,
    agent: Agent,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}")]
    Settings(#[from] SettingsError),
    #[error("error: can't use the certificates in {}: {reason}", printable::line(file))]
    CaFile { file: String, reason: String },
    #[error("error: {}: {source}", printable::line(url))]
    Unreachable { url: String, source: ureq::Error },
    #[error("error: {0}")]
    Refused(Refusal),
    #[error("error: {}: the answer is not that of a Tollgate: {reason}", printable::line(url))]
    Garbled { url: String, reason: String },
}

/// What the API refused, and why.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    problem: Value,
}

impl Client {
    /// A client of the API at that address, whose answers take at most so long, with their bodies.
    pub fn new(address: ApiAddress, timeout: Duration) -> Result<Self, ClientError> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &address.ca_file {
            let file = || path.display().to_string();
            let pem = fs::read(path)
                .map_err(|error| ClientError::CaFile { file: file(), reason: error.to_string() })?;
            let mut certificates = Vec::new();
            for item in parse_pem(&pem) {
                match item {
                    Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                    Ok(_) => {}
                    Err(error) => {
                        let reason = error.to_string();
                        return Err(ClientError::CaFile { file: file(), reason });
                    }
                }
            }
            if certificates.is_empty() {
                let reason = "no certificate in it".to_owned();
                return Err(ClientError::CaFile { file: file(), reason });
            }
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
        }
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        Ok(Self { address, agent: Agent::new_with_config(config) })
    }

    /// The address of the API.
    pub fn url(&self) -> &str {
        &self.address.url
    }

    /// The answer to a question; of one that has pages, with the items of all.
    pub fn ask_all(&self, question: &Question) -> Result<Value, ClientError> {
        let mut all = self.ask(question, None)?;
        if question.is_one_page {
            return Ok(all);
        }
        while let Some(next) = all.get("next").and_then(place) {
            let mut page = self.ask(question, Some(&next))?;
            let more = page["items"].take();
            if let (Some(items), Value::Array(more)) = (all["items"].as_array_mut(), more) {
                items.extend(more);
            }
            match page.get("next") {
                Some(next) => all["next"] = next.clone(),
                None => drop(all.as_object_mut().map(|all| all.remove("next"))),
            }
        }
        Ok(all)
    }

    fn ask(&self, question: &Question, after: Option<&str>) -> Result<Value, ClientError> {
        let url = format!("{}{}", self.address.url, question.path);
        let unreachable = |source| ClientError::Unreachable { url: url.clone(), source };
        let mut response = self.send(&url, question, after).map_err(unreachable)?;
        let is_csv = response
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/csv")));
        let body = response.body_mut().with_config().limit(ANSWER_LEN_MAX).read_to_string();
        let body = body.map_err(unreachable)?;
        let status = response.status();
        if is_csv && status.is_success() {
            return Ok(Value::String(body));
        }
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        match serde_json::from_str(&body) {
            Ok(answer @ Value::Object(_)) if status.is_success() => Ok(answer),
            Ok(problem @ Value::Object(_)) => {
                Err(ClientError::Refused(Refusal { status, problem }))
            }
            Ok(_) | Err(_) => {
                let reason = format!("status {status}");
                Err(ClientError::Garbled { url, reason })
            }
        }
    }

    fn send(
        &self,
        url: &str,
        question: &Question,
        after: Option<&str>,
    ) -> Result<http::Response<Body>, ureq::Error> {
        let authorization =
            self.address.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        let after = after.map(|after| ("after", after.to_owned()));
        let query = question.query.iter().cloned().chain(after);
        if let "GET" | "DELETE" = question.method {
            let request = match question.method {
                "GET" => self.agent.get(url),
                _ => self.agent.delete(url),
            };
            let mut request = request.query_pairs(query);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            return request.call();
        }
        let mut request = match question.method {
            "PATCH" => self.agent.patch(url),
            _ => self.agent.post(url),
        };
        request = request.query_pairs(query).header("content-type", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        request.send(question.body.as_ref().unwrap_or(&Value::Null).to_string())
    }
}

/// Where the next page of a list starts: after a number of items, or after a name.
fn place(next: &Value) -> Option<String> {
    match next {
        Value::Number(number) => Some(number.to_string()),
        Value::String(name) => Some(name.clone()),
        _ => None,
    }
}

impl Refusal {
    /// The answer of the API: a problem document.
    pub fn problem(&self) -> &Value {
        &self.problem
    }

    /// Whether there is nothing of that name.
    pub fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// Whether there is a directory, without this caller.
    pub fn is_of_unknown_caller(&self) -> bool {
        let detail = self.problem["detail"].as_str().unwrap_or_default();
        self.is_not_found() && detail.starts_with("unknown caller ")
    }

    /// Whether a quota does not have the hits.
    pub fn is_exceeded(&self) -> bool {
        self.problem["code"] == "QUOTA_EXCEEDED"
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name: &str| self.problem[name].as_str();
        let detail = text("detail").or(text("title")).unwrap_or("no reason is given");
        write!(f, "{}", printable::line(detail))?;
        match text("code") {
            Some(code) => write!(f, " ({code}, status {})", self.status.as_u16())?,
            None => write!(f, " (status {})", self.status.as_u16())?,
        }
        match self.problem["retry_after_ms"].as_u64() {
            Some(ms) => write!(f, "; it has them in {} s", ms.div_ceil(1_000)),
            None => Ok(()),
        }
    }
}
