//! Converts an answer to a gRPC message.

use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    DescriptorStatus, RateLimit, rate_limit,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitResponse, rate_limit_response};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Duration, ListValue, NullValue, Struct, Value};

use crate::answer::{Answer, Status, StatusLimit, protocol};
use crate::engine::Code;
use crate::policy::Unit;

/// The message of the answer.
///
/// # Errors
/// If the request was not decided: Envoy's `failure_mode_deny` then applies to the failed call.
pub fn write(answer: Answer) -> Result<RateLimitResponse, tonic::Status> {
    if answer.code == Code::Unavailable {
        return Err(tonic::Status::unavailable(protocol::UNAVAILABLE));
    }
    Ok(RateLimitResponse {
        overall_code: write_code(answer.code),
        statuses: answer.statuses.iter().map(write_status).collect(),
        response_headers_to_add: write_headers(answer.response_headers),
        request_headers_to_add: write_headers(answer.request_headers),
        raw_body: answer.body,
        dynamic_metadata: answer.metadata.map(write_struct),
        // For clients that count locally; Envoy does not read it.
        quota: None,
    })
}

fn write_code(code: Code) -> i32 {
    let code = match code {
        Code::Ok => rate_limit_response::Code::Ok,
        Code::OverLimit => rate_limit_response::Code::OverLimit,
        Code::Unavailable => rate_limit_response::Code::Unknown,
    };
    code.into()
}

fn write_status(status: &Status) -> DescriptorStatus {
    DescriptorStatus {
        code: write_code(status.code),
        current_limit: status.limit.as_ref().map(write_limit),
        limit_remaining: status.remaining,
        duration_until_reset: status.reset.map(write_reset),
        quota: None,
    }
}

fn write_limit(limit: &StatusLimit) -> RateLimit {
    RateLimit {
        name: limit.name.to_string(),
        requests_per_unit: limit.amount,
        unit: limit.unit.map_or(rate_limit::Unit::Unknown, write_unit).into(),
    }
}

fn write_unit(unit: Unit) -> rate_limit::Unit {
    match unit {
        Unit::Second => rate_limit::Unit::Second,
        Unit::Minute => rate_limit::Unit::Minute,
        Unit::Hour => rate_limit::Unit::Hour,
        Unit::Day => rate_limit::Unit::Day,
        Unit::Week => rate_limit::Unit::Week,
        Unit::Month => rate_limit::Unit::Month,
        Unit::Year => rate_limit::Unit::Year,
    }
}

fn write_reset(reset: std::time::Duration) -> Duration {
    let seconds = i64::try_from(protocol::whole_seconds(reset)).unwrap_or(i64::MAX);
    Duration { seconds, nanos: 0 }
}

fn write_headers(headers: Vec<(String, String)>) -> Vec<HeaderValue> {
    let headers = headers.into_iter().filter(|(name, _)| protocol::may_forward(name));
    headers.map(|(key, value)| HeaderValue { key, value, ..HeaderValue::default() }).collect()
}

fn write_struct(fields: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, value)| (name, write_value(value))).collect() }
}

fn write_value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        // Protobuf's numbers are doubles; every JSON number has a nearest double.
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(write_value).collect() })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(write_struct(fields)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer::new(Code::Ok)
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
    fn a_bare_answer_is_a_bare_message() {
        let expected = RateLimitResponse { overall_code: 1, ..RateLimitResponse::default() };
        assert_eq!(write(answer()).unwrap(), expected);
        let over = Answer { code: Code::OverLimit, ..answer() };
        assert_eq!(write(over).unwrap().overall_code, 2);
        let unknown = write(Answer { code: Code::Unavailable, ..answer() }).unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::Unavailable, "{unknown}");
    }

    #[test]
    fn a_status_goes_out_in_full() {
        let unmet = Status { code: Code::Ok, limit: None, remaining: u32::MAX, reset: None };
        let statuses = vec![status(Some(Unit::Day)), unmet];
        let message = write(Answer { statuses, ..answer() }).unwrap();
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
        let number = |unit| write_status(&status(unit)).current_limit.unwrap().unit;
        assert_eq!(number(None), 0);
        assert_eq!(Unit::ALL.map(|unit| number(Some(unit))), [1, 2, 3, 4, 7, 5, 6]);
    }

    #[test]
    fn headers_go_out_in_order_but_for_those_that_choose_the_upstream() {
        let headers = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect()
        };
        let message = write(Answer {
            response_headers: headers(&["x-b", ":status", "x-a"]),
            request_headers: headers(&["Host", "x-tier"]),
            ..answer()
        })
        .unwrap();
        let names = |headers: &[HeaderValue]| -> Vec<String> {
            headers.iter().map(|header| format!("{}={}", header.key, header.value)).collect()
        };
        assert_eq!(names(&message.response_headers_to_add), ["x-b=v", "x-a=v"]);
        assert_eq!(names(&message.request_headers_to_add), ["x-tier=v"]);
    }

    #[test]
    fn body_and_metadata_go_out() {
        let metadata = serde_json::json!({ "a": [null, true, 1.5, "s", { "b": 2 }] });
        let message = write(Answer {
            body: b"slow down".to_vec(),
            metadata: metadata.as_object().cloned(),
            ..answer()
        })
        .unwrap();
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
}
