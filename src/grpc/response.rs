//! Writes a verdict as a gRPC message.

use serde_json::Map;
use serde_json::Value;

use super::wire::Buffer;
use super::wire::Writer;
use crate::engine::Code;
use crate::engine::Status;
use crate::engine::StatusLimit;
use crate::engine::Verdict;
use crate::engine::protocol;
use crate::policy::Unit;

/// Writes the `RateLimitResponse` that says what the verdict says at the end of `bytes`.
pub fn write(bytes: &mut Buffer, verdict: &Verdict) {
    let mut message = Writer::new(bytes);
    message.number(1, code_number(verdict.code));
    for status in &verdict.statuses {
        message.message(2, |message| write_status(message, status));
    }
    write_headers(&mut message, 3, &verdict.response_headers);
    write_headers(&mut message, 4, &verdict.request_headers);
    message.bytes_unless_empty(5, &verdict.body);
    if let Some(fields) = &verdict.metadata {
        message.message(6, |message| write_struct(message, fields));
    }
    // Field 7 is a grant for clients that count by themselves; Envoy does not read it.
}

fn code_number(code: Code) -> u64 {
    match code {
        Code::Ok => 1,
        Code::OverLimit => 2,
    }
}

fn write_status(message: &mut Writer<'_>, status: &Status) {
    message.number(1, code_number(status.code));
    if let Some(limit) = &status.limit {
        message.message(2, |message| write_limit(message, limit));
    }
    message.number_unless_zero(3, u64::from(status.remaining));
    if let Some(reset) = status.reset {
        // Its first field is its seconds, which have a sign.
        let seconds = protocol::whole_seconds(reset).min(i64::MAX.unsigned_abs());
        message.message(4, |message| message.number_unless_zero(1, seconds));
    }
}

fn write_limit(message: &mut Writer<'_>, limit: &StatusLimit) {
    message.number_unless_zero(1, u64::from(limit.amount));
    message.number_unless_zero(2, limit.unit.map_or(0, unit_number));
    message.bytes_unless_empty(3, limit.name.as_bytes());
}

fn unit_number(unit: Unit) -> u64 {
    match unit {
        Unit::Second => 1,
        Unit::Minute => 2,
        Unit::Hour => 3,
        Unit::Day => 4,
        Unit::Month => 5,
        Unit::Year => 6,
        Unit::Week => 7,
    }
}

fn write_headers(message: &mut Writer<'_>, tag: u32, headers: &[(String, String)]) {
    for (name, value) in headers.iter().filter(|(name, _)| protocol::may_forward(name)) {
        message.message(tag, |message| {
            message.bytes(1, name.as_bytes());
            message.bytes(2, value.as_bytes());
        });
    }
}

/// Writes a `Struct`: a map, which is a list of messages with a key and a value.
fn write_struct(message: &mut Writer<'_>, fields: &Map<String, Value>) {
    for (name, value) in fields {
        message.message(1, |message| {
            message.bytes(1, name.as_bytes());
            message.message(2, |message| write_value(message, value));
        });
    }
}

fn write_value(message: &mut Writer<'_>, value: &Value) {
    match value {
        Value::Null => message.number(1, 0),
        // Protobuf's numbers are all doubles; every number that JSON text can hold has a nearest one.
        Value::Number(value) => message.double(2, value.as_f64().unwrap_or_default()),
        Value::String(value) => message.bytes(3, value.as_bytes()),
        Value::Bool(value) => message.number(4, u64::from(*value)),
        Value::Object(fields) => message.message(5, |message| write_struct(message, fields)),
        Value::Array(values) => message.message(6, |message| {
            for value in values {
                message.message(1, |message| write_value(message, value));
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::HeaderValue;
    use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::DescriptorStatus;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::RateLimit;
    use envoy_types::pb::google::protobuf::Duration;
    use envoy_types::pb::google::protobuf::ListValue;
    use envoy_types::pb::google::protobuf::Struct;
    use envoy_types::pb::google::protobuf::Value;
    use envoy_types::pb::google::protobuf::value::Kind;
    use prost::Message;

    use super::*;

    /// What generated code reads of what is written.
    fn written(verdict: &Verdict) -> RateLimitResponse {
        let mut bytes = Buffer::new();
        write(&mut bytes, verdict);
        RateLimitResponse::decode(bytes.as_slice()).unwrap()
    }

    fn verdict() -> Verdict {
        Verdict::without_policy(0)
    }

    fn status(unit: Option<Unit>) -> Status {
        Status {
            code: Code::OverLimit,
            limit: Some(StatusLimit { name: "daily".into(), amount: 100, unit }),
            remaining: 4,
            reset: Some(std::time::Duration::from_millis(12_200)),
        }
    }

    #[test]
    fn a_bare_verdict_is_a_bare_message() {
        let expected = RateLimitResponse { overall_code: 1, ..RateLimitResponse::default() };
        assert_eq!(written(&verdict()), expected);
        let over = Verdict { code: Code::OverLimit, ..verdict() };
        assert_eq!(written(&over).overall_code, 2);
    }

    #[test]
    fn a_status_goes_out_in_full() {
        let unmet = Status { code: Code::Ok, limit: None, remaining: u32::MAX, reset: None };
        let statuses = vec![status(Some(Unit::Day)), unmet];
        let message = written(&Verdict { statuses, ..verdict() });
        let limit = RateLimit { name: "daily".to_owned(), requests_per_unit: 100, unit: 4 };
        let expected = [
            DescriptorStatus {
                code: 2,
                current_limit: Some(limit),
                limit_remaining: 4,
                duration_until_reset: Some(Duration { seconds: 13, nanos: 0 }),
                quota: None,
            },
            DescriptorStatus { code: 1, limit_remaining: u32::MAX, ..Default::default() },
        ];
        assert_eq!(message.statuses, expected);
    }

    #[test]
    fn a_window_without_a_unit_is_of_unknown_unit() {
        let number = |unit| {
            let message = written(&Verdict { statuses: vec![status(unit)], ..verdict() });
            message.statuses[0].current_limit.as_ref().unwrap().unit
        };
        assert_eq!(number(None), 0);
        assert_eq!(Unit::ALL.map(|unit| number(Some(unit))), [1, 2, 3, 4, 7, 5, 6]);
    }

    #[test]
    fn headers_go_out_in_order_but_for_those_that_choose_the_upstream() {
        let headers = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect()
        };
        let message = written(&Verdict {
            response_headers: headers(&["x-b", ":status", "x-a"]),
            request_headers: headers(&["Host", "x-tier"]),
            ..verdict()
        });
        let names = |headers: &[HeaderValue]| -> Vec<String> {
            headers.iter().map(|header| format!("{}={}", header.key, header.value)).collect()
        };
        assert_eq!(names(&message.response_headers_to_add), ["x-b=v", "x-a=v"]);
        assert_eq!(names(&message.request_headers_to_add), ["x-tier=v"]);
    }

    #[test]
    fn body_and_metadata_go_out() {
        let metadata = serde_json::json!({ "a": [null, true, 1.5, "s", { "b": 2 }] });
        let message = written(&Verdict {
            body: b"slow down".to_vec(),
            metadata: metadata.as_object().cloned(),
            ..verdict()
        });
        assert_eq!(message.raw_body, b"slow down");

        let value = |kind| Value { kind: Some(kind) };
        let inner = Struct { fields: [("b".to_owned(), value(Kind::NumberValue(2.0)))].into() };
        let values = vec![
            value(Kind::NullValue(0)),
            value(Kind::BoolValue(true)),
            value(Kind::NumberValue(1.5)),
            value(Kind::StringValue("s".to_owned())),
            value(Kind::StructValue(inner)),
        ];
        let list = value(Kind::ListValue(ListValue { values }));
        let expected = Struct { fields: [("a".to_owned(), list)].into() };
        assert_eq!(message.dynamic_metadata, Some(expected));
    }

    #[test]
    fn long_texts_and_empty_ones_go_out_in_full() {
        for len in [0, 127, 128, 300, 70_000] {
            let text = "x".repeat(len);
            let metadata = serde_json::json!({ "a": { "b": [text] }, "": text });
            let headers =
                vec![("x-long".to_owned(), text.clone()), ("x-none".to_owned(), "".into())];
            let limit = StatusLimit { name: text.as_str().into(), amount: 0, unit: None };
            let told = Status { limit: Some(limit), ..status(None) };
            let message = written(&Verdict {
                statuses: vec![told; 2],
                response_headers: headers,
                metadata: metadata.as_object().cloned(),
                ..verdict()
            });
            let names =
                message.statuses.iter().map(|told| &told.current_limit.as_ref().unwrap().name);
            assert!(names.eq([&text, &text]), "{len}");
            assert_eq!(message.response_headers_to_add[0].value, text);
            assert_eq!(message.response_headers_to_add[1].value, "");
            let fields = message.dynamic_metadata.unwrap().fields;
            assert_eq!(fields[""].kind, Some(Kind::StringValue(text.clone())));
            let Some(Kind::StructValue(inner)) = &fields["a"].kind else { panic!("{fields:?}") };
            let Some(Kind::ListValue(list)) = &inner.fields["b"].kind else { panic!("{inner:?}") };
            assert_eq!(list.values[0].kind, Some(Kind::StringValue(text)));
        }
    }
}
