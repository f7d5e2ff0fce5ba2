//! gRPC reflection: describes the services and their messages to clients such as grpcurl.
//!
//! envoy-types does not publish its descriptors, so `descriptors.bin` has those of the services here, and of every file
//! that they import. `tests/house/descriptors.rs` compares it with envoy-types and updates it.

use tonic_reflection::server::{Builder, v1, v1alpha};

/// An encoded `FileDescriptorSet`.
const DESCRIPTORS: &[u8] = include_bytes!("descriptors.bin");

/// Maximum bytes of a question, which is a name.
const MESSAGE_LEN_MAX: usize = 4 * 1024;

/// The service for newer clients.
pub fn v1() -> v1::ServerReflectionServer<impl v1::ServerReflection> {
    let server = builder().build_v1().expect("a test builds these very descriptors");
    server.max_decoding_message_size(MESSAGE_LEN_MAX)
}

/// The service for older clients.
pub fn v1alpha() -> v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection> {
    let server = builder().build_v1alpha().expect("a test builds these very descriptors");
    server.max_decoding_message_size(MESSAGE_LEN_MAX)
}

fn builder() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use envoy_types::pb::envoy::config::core::v3::HeaderValue;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
        Entry, RateLimitOverride,
    };
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::quota::ExpirationSpecifier;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
        Code, DescriptorStatus, Quota, RateLimit,
    };
    use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
    use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
    use envoy_types::pb::google::protobuf::value::Kind;
    use envoy_types::pb::google::protobuf::{
        Duration, ListValue, Struct, Timestamp, UInt64Value, Value,
    };
    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value as Dynamic};

    use super::*;

    const PACKAGE: &str = "envoy.service.ratelimit.v3";

    /// Fails if an import or a type is missing.
    fn pool() -> DescriptorPool {
        DescriptorPool::decode(DESCRIPTORS).unwrap()
    }

    /// The fields in the descriptors of encoded messages, and the fields that are set in one of the messages.
    #[derive(Default)]
    struct Fields {
        all: BTreeSet<String>,
        set: BTreeSet<String>,
    }

    impl Fields {
        fn note(&mut self, message: &DynamicMessage) {
            let descriptor = message.descriptor();
            let unknown: Vec<_> = message.unknown_fields().collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", descriptor.full_name());
            self.all.extend(descriptor.fields().map(|field| field.full_name().to_owned()));
            for (field, value) in message.fields() {
                self.set.insert(field.full_name().to_owned());
                match value {
                    Dynamic::Message(inner) => self.note(inner),
                    Dynamic::List(list) => list.iter().for_each(|value| self.note_inner(value)),
                    Dynamic::Map(map) => map.values().for_each(|value| self.note_inner(value)),
                    _ => {}
                }
            }
        }

        fn note_inner(&mut self, value: &Dynamic) {
            if let Dynamic::Message(inner) = value {
                self.note(inner);
            }
        }
    }

    /// A request with every field set.
    fn full_request() -> RateLimitRequest {
        let descriptor = RateLimitDescriptor {
            entries: vec![Entry { key: "k".to_owned(), value: "v".to_owned() }],
            limit: Some(RateLimitOverride { requests_per_unit: 1, unit: 2 }),
            hits_addend: Some(UInt64Value { value: 3 }),
            is_negative_hits: true,
        };
        RateLimitRequest { domain: "d".to_owned(), descriptors: vec![descriptor], hits_addend: 4 }
    }

    /// A response with every field set.
    fn full_response() -> RateLimitResponse {
        let instant = Timestamp { seconds: 1, nanos: 2 };
        let quota = Quota {
            requests: 1,
            id: "q".to_owned(),
            expiration_specifier: Some(ExpirationSpecifier::ValidUntil(instant)),
        };
        let limit = RateLimit { name: "n".to_owned(), requests_per_unit: 1, unit: 2 };
        let status = DescriptorStatus {
            code: 1,
            current_limit: Some(limit),
            limit_remaining: 3,
            duration_until_reset: Some(Duration { seconds: 1, nanos: 2 }),
            quota: Some(quota.clone()),
        };
        let mut header = HeaderValue { key: "k".to_owned(), ..Default::default() };
        header.value = "v".to_owned();
        header.raw_value = b"r".to_vec();
        let value = |kind| Value { kind: Some(kind) };
        let values = vec![
            value(Kind::NullValue(0)),
            value(Kind::NumberValue(1.0)),
            value(Kind::StringValue("s".to_owned())),
            value(Kind::BoolValue(true)),
            value(Kind::StructValue(Struct::default())),
        ];
        let list = value(Kind::ListValue(ListValue { values }));
        RateLimitResponse {
            overall_code: 1,
            statuses: vec![status],
            response_headers_to_add: vec![header.clone()],
            request_headers_to_add: vec![header],
            raw_body: b"b".to_vec(),
            dynamic_metadata: Some(Struct { fields: [("a".to_owned(), list)].into() }),
            quota: Some(quota),
        }
    }

    #[test]
    fn the_descriptors_hold_every_field_that_envoy_types_encodes_and_no_other() {
        let pool = pool();
        let mut fields = Fields::default();
        let mut check = |name: &str, encoded: &[u8]| {
            let name = format!("{PACKAGE}.{name}");
            let descriptor = pool.get_message_by_name(&name).unwrap();
            fields.note(&DynamicMessage::decode(descriptor, encoded).unwrap());
        };
        check("RateLimitRequest", &full_request().encode_to_vec());
        check("RateLimitResponse", &full_response().encode_to_vec());
        assert_eq!(fields.set, fields.all);
    }

    #[test]
    fn the_descriptors_enums_are_those_of_envoy_types() {
        let pool = pool();
        let check = |name: &str, number: fn(&str) -> Option<i32>| {
            for value in pool.get_enum_by_name(name).unwrap().values() {
                assert_eq!(number(value.name()), Some(value.number()), "{}", value.full_name());
            }
        };
        check(&format!("{PACKAGE}.RateLimitResponse.Code"), |name| {
            Code::from_str_name(name).map(i32::from)
        });
        check(&format!("{PACKAGE}.RateLimitResponse.RateLimit.Unit"), |name| {
            Unit::from_str_name(name).map(i32::from)
        });
        check("envoy.type.v3.RateLimitUnit", |name| {
            RateLimitUnit::from_str_name(name).map(i32::from)
        });
    }

    #[test]
    fn both_versions_can_be_built() {
        let _ = (v1(), v1alpha());
    }
}
