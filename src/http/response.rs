//! Converts an answer to `RateLimitResponse` in JSON, in protobuf's JSON mapping.
//!
//! Names are in camelCase, in the order of the `.proto` file. Bytes are base64, durations are seconds with an `s`, and
//! default values are omitted.

use serde::Serialize;

use crate::answer::{Answer, Status, StatusLimit, protocol};
use crate::engine::Code;

/// `envoy.service.ratelimit.v3.RateLimitResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitResponse<'a> {
    overall_code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<DescriptorStatus<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_headers_to_add: Vec<Header<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    request_headers_to_add: Vec<Header<'a>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    raw_body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dynamic_metadata: Option<&'a serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorStatus<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_limit: Option<RateLimit<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    limit_remaining: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_until_reset: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RateLimit<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    requests_per_unit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

#[derive(Debug, Serialize)]
struct Header<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'a str,
}

impl<'a> RateLimitResponse<'a> {
    /// The message of the answer.
    pub fn write(answer: &'a Answer) -> Self {
        Self {
            overall_code: write_code(answer.code),
            statuses: answer.statuses.iter().map(write_status).collect(),
            response_headers_to_add: write_headers(&answer.response_headers),
            request_headers_to_add: write_headers(&answer.request_headers),
            raw_body: base64(&answer.body),
            dynamic_metadata: answer.metadata.as_ref(),
        }
    }
}

fn write_code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::OverLimit => "OVER_LIMIT",
        Code::Unavailable => "UNKNOWN",
    }
}

fn write_status(status: &Status) -> DescriptorStatus<'_> {
    let reset = |reset| format!("{}s", protocol::whole_seconds(reset));
    DescriptorStatus {
        code: write_code(status.code),
        current_limit: status.limit.as_ref().map(write_limit),
        limit_remaining: status.remaining,
        duration_until_reset: status.reset.map(reset),
    }
}

fn write_limit(limit: &StatusLimit) -> RateLimit<'_> {
    RateLimit {
        name: &limit.name,
        requests_per_unit: limit.amount,
        unit: limit.unit.map(protocol::unit_name),
    }
}

fn write_headers(headers: &[(String, String)]) -> Vec<Header<'_>> {
    let headers = headers.iter().filter(|(name, _)| protocol::may_forward(name));
    headers.map(|(key, value)| Header { key, value }).collect()
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The bytes in base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |place: usize| usize::from(group.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sextet = bits >> (18 - 6 * place) & 63;
            // These bytes fill one sextet more; the rest of the four is padding.
            text.push(if place <= group.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::Unit;

    fn answer() -> Answer {
        Answer::new(Code::Ok)
    }

    fn check(answer: &Answer, expected: &str) {
        let json = serde_json::to_string(&RateLimitResponse::write(answer)).unwrap();
        assert_eq!(json, expected);
    }

    #[test]
    fn defaults_are_left_out() {
        check(&answer(), r#"{"overallCode":"OK"}"#);
        let unmet = Status { code: Code::Ok, limit: None, remaining: 0, reset: None };
        check(
            &Answer { statuses: vec![unmet], ..answer() },
            r#"{"overallCode":"OK","statuses":[{"code":"OK"}]}"#,
        );
    }

    #[test]
    fn a_status_goes_out_in_full() {
        let status = |unit, name: &str| Status {
            code: Code::OverLimit,
            limit: Some(StatusLimit { name: name.into(), amount: 100, unit }),
            remaining: 4,
            reset: Some(Duration::from_millis(11_001)),
        };
        let statuses = vec![status(Some(Unit::Minute), "daily"), status(None, "")];
        check(
            &Answer { code: Code::OverLimit, statuses, ..answer() },
            concat!(
                r#"{"overallCode":"OVER_LIMIT","statuses":[{"code":"OVER_LIMIT","#,
                r#""currentLimit":{"name":"daily","requestsPerUnit":100,"unit":"MINUTE"},"#,
                r#""limitRemaining":4,"durationUntilReset":"12s"},{"code":"OVER_LIMIT","#,
                r#""currentLimit":{"requestsPerUnit":100},"#,
                r#""limitRemaining":4,"durationUntilReset":"12s"}]}"#,
            ),
        );
    }

    #[test]
    fn headers_body_and_metadata_go_out() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let metadata = serde_json::json!({ "tier": "free" });
        check(
            &Answer {
                response_headers: vec![header("x-a", "1"), header(":status", "200")],
                request_headers: vec![header("x-b", ""), header("host", "evil")],
                body: b"no".to_vec(),
                metadata: metadata.as_object().cloned(),
                ..answer()
            },
            concat!(
                r#"{"overallCode":"OK","responseHeadersToAdd":[{"key":"x-a","value":"1"}],"#,
                r#""requestHeadersToAdd":[{"key":"x-b"}],"rawBody":"bm8=","#,
                r#""dynamicMetadata":{"tier":"free"}}"#,
            ),
        );
    }

    #[test]
    fn base64_is_the_standards() {
        let check = |text: &str, expected| assert_eq!(base64(text.as_bytes()), expected);
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("fooba", "Zm9vYmE=");
        check("foobar", "Zm9vYmFy");
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
