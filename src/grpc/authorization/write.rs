//! Writes the answer of a check: headers and metadata of the caller, or the problem document for the client.
//!
//! The texts of a refusal are the same whether or not an API key exists.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::google::rpc;
use serde_json::json;
use tonic::Code;

use super::read::Attributes;
use crate::answer::protocol::whole_seconds;
use crate::engine::{ApiKeyGrant, ApiKeyRefusal};
use crate::policy::{ApiKeyPlace, ApiKeyPolicy};

/// What a refusal tells the client.
struct Refusal {
    status: u16,
    title: &'static str,
    detail: &'static str,
    code: Code,
    retry_after: Option<Duration>,
}

/// The request goes on, in the name of the caller of a grant, or without one.
pub fn granted(
    policy: &ApiKeyPolicy,
    attributes: &Attributes<'_>,
    grant: Option<&ApiKeyGrant<'_>>,
) -> CheckResponse {
    let told = grant.map(Told::of).unwrap_or_default();
    let headers = &policy.headers;
    let named = [
        (&headers.caller, told.caller),
        (&headers.tier, told.tier),
        (&headers.scopes, told.scopes),
        (&headers.key_id, told.key_id),
    ];
    let mut response = OkHttpResponse::default();
    for (name, value) in named {
        match (name, value) {
            (Some(name), Some(value)) => response.headers.push(overwrite(name, &value)),
            (Some(name), None) => response.headers_to_remove.push(name.to_string()),
            (None, _) => {}
        }
    }
    if !policy.forwards {
        remove_api_keys(policy, attributes, &mut response);
    }
    CheckResponse {
        status: Some(status(Code::Ok)),
        dynamic_metadata: Some(grant.map(Told::of).unwrap_or_default().metadata()),
        http_response: Some(HttpResponse::OkResponse(response)),
    }
}

/// What is told of the caller.
#[derive(Default)]
struct Told {
    caller: Option<String>,
    tier: Option<String>,
    scopes: Option<String>,
    key_id: Option<String>,
}

impl Told {
    fn of(grant: &ApiKeyGrant<'_>) -> Self {
        let key = &grant.record.key;
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| &**scope).collect();
        Self {
            caller: Some(key.caller.to_string()),
            tier: grant.tier.map(str::to_owned),
            scopes: (!scopes.is_empty()).then(|| scopes.join(" ")),
            key_id: Some(grant.record.id.to_string()),
        }
    }

    fn metadata(self) -> Struct {
        let fields = [
            ("caller", self.caller),
            ("tier", self.tier),
            ("scopes", self.scopes),
            ("key_id", self.key_id),
        ];
        let value = |text| Value { kind: Some(Kind::StringValue(text)) };
        let fields =
            fields.into_iter().filter_map(|(name, text)| Some((name.to_owned(), value(text?))));
        Struct { fields: fields.collect::<HashMap<_, _>>() }
    }
}

/// Removes the API key from each place that may have one.
fn remove_api_keys(
    policy: &ApiKeyPolicy,
    attributes: &Attributes<'_>,
    response: &mut OkHttpResponse,
) {
    let mut cookies: Vec<&str> = Vec::new();
    for place in &policy.places {
        match place {
            ApiKeyPlace::Header(header) => {
                if attributes.in_header(policy, header).is_some() {
                    response.headers_to_remove.push(header.name.to_string());
                }
            }
            ApiKeyPlace::Query(name) => {
                if attributes.in_query(name).is_some() {
                    let names = attributes.parameters(name).map(|(written, _)| written.to_owned());
                    response.query_parameters_to_remove.extend(names);
                }
            }
            ApiKeyPlace::Cookie(name) => {
                if attributes.in_cookie(name).is_some() {
                    cookies.push(name);
                }
            }
        }
    }
    // What Envoy is told is UTF-8, so other bytes would reach the upstream as something else.
    if cookies.is_empty() || attributes.has_binary_cookies() {
        return;
    }
    match attributes.other_cookies(&cookies) {
        rest if rest.is_empty() => response.headers_to_remove.push("cookie".to_owned()),
        rest => response.headers.push(overwrite("cookie", &rest)),
    }
}

/// The request is refused.
pub fn refused(refusal: ApiKeyRefusal) -> CheckResponse {
    let refusal = Refusal::of(refusal);
    let body = json!({
        "type": "about:blank",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
    });
    let mut headers = vec![
        overwrite("content-type", "application/problem+json"),
        overwrite("cache-control", "no-store"),
    ];
    if refusal.code == Code::Unauthenticated {
        headers.push(overwrite("www-authenticate", "Bearer"));
    }
    if let Some(wait) = refusal.retry_after {
        headers.push(overwrite("retry-after", &whole_seconds(wait).to_string()));
    }
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: refusal.status.into() }),
        headers,
        body: body.to_string(),
    };
    CheckResponse {
        status: Some(status(refusal.code)),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}

impl Refusal {
    /// One text for all API keys that are not valid: which of them exist is nobody's business.
    fn of(refusal: ApiKeyRefusal) -> Self {
        let (status, title, detail, code) = match refusal {
            ApiKeyRefusal::Key(reason) if reason.is_of_request() => (
                403,
                "Forbidden",
                "the API key does not permit this request",
                Code::PermissionDenied,
            ),
            ApiKeyRefusal::CallerDisabled => {
                (403, "Forbidden", "the caller is disabled", Code::PermissionDenied)
            }
            ApiKeyRefusal::TooMany(_) => (
                429,
                "Too Many Requests",
                "too many requests without a valid API key",
                Code::ResourceExhausted,
            ),
            ApiKeyRefusal::Unavailable => (
                503,
                "Service Unavailable",
                "API keys can't be checked now; retry later",
                Code::Unavailable,
            ),
            ApiKeyRefusal::Missing
            | ApiKeyRefusal::Malformed
            | ApiKeyRefusal::Unknown
            | ApiKeyRefusal::Key(_) => {
                (401, "Unauthorized", "a valid API key is required", Code::Unauthenticated)
            }
        };
        let retry_after = match refusal {
            ApiKeyRefusal::TooMany(wait) => Some(wait),
            ApiKeyRefusal::Unavailable => Some(Duration::from_secs(1)),
            _ => None,
        };
        Self { status, title, detail, code, retry_after }
    }
}

pub fn overwrite(name: &str, value: &str) -> HeaderValueOption {
    let header =
        HeaderValue { key: name.to_owned(), value: value.to_owned(), ..Default::default() };
    HeaderValueOption {
        header: Some(header),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}

pub fn status(code: Code) -> rpc::Status {
    rpc::Status { code: code.into(), ..Default::default() }
}
