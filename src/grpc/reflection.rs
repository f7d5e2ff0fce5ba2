//! gRPC reflection: tells clients such as grpcurl which messages the services speak.

use std::sync::LazyLock;

use prost_types::DescriptorProto;
use prost_types::EnumDescriptorProto;
use prost_types::EnumValueDescriptorProto;
use prost_types::FieldDescriptorProto;
use prost_types::FileDescriptorProto;
use prost_types::FileDescriptorSet;
use prost_types::MessageOptions;
use prost_types::MethodDescriptorProto;
use prost_types::OneofDescriptorProto;
use prost_types::ServiceDescriptorProto;
use prost_types::field_descriptor_proto::Label;
use prost_types::field_descriptor_proto::Type;
use tonic_reflection::server::Builder;
use tonic_reflection::server::v1;
use tonic_reflection::server::v1alpha;

use super::schema::Enum;
use super::schema::FILES;
use super::schema::Field;
use super::schema::File;
use super::schema::Kind;
use super::schema::Message;
use super::schema::Service;

/// Bytes of a question, which is a name.
const MESSAGE_LEN_MAX: usize = 4 * 1024;

static DESCRIPTORS: LazyLock<FileDescriptorSet> =
    LazyLock::new(|| FileDescriptorSet { file: FILES.iter().map(describe_file).collect() });

/// The service that newer clients ask.
pub fn v1() -> v1::ServerReflectionServer<impl v1::ServerReflection> {
    let server = builder().build_v1().expect("a test builds this very table");
    server.max_decoding_message_size(MESSAGE_LEN_MAX)
}

/// The service that older clients ask.
pub fn v1alpha() -> v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection> {
    let server = builder().build_v1alpha().expect("a test builds this very table");
    server.max_decoding_message_size(MESSAGE_LEN_MAX)
}

fn builder() -> Builder<'static> {
    Builder::configure()
        .register_file_descriptor_set(DESCRIPTORS.clone())
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn describe_file(file: &File) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(file.path.to_owned()),
        package: Some(file.package.to_owned()),
        dependency: file.imports.iter().map(|path| (*path).to_owned()).collect(),
        message_type: file.messages.iter().map(describe_message).collect(),
        enum_type: file.enums.iter().map(describe_enum).collect(),
        service: file.service.iter().map(describe_service).collect(),
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn describe_service(service: &Service) -> ServiceDescriptorProto {
    let method = MethodDescriptorProto {
        name: Some(service.method.to_owned()),
        input_type: Some(service.input.to_owned()),
        output_type: Some(service.output.to_owned()),
        ..MethodDescriptorProto::default()
    };
    ServiceDescriptorProto {
        name: Some(service.name.to_owned()),
        method: vec![method],
        ..ServiceDescriptorProto::default()
    }
}

fn describe_message(message: &Message) -> DescriptorProto {
    let options =
        MessageOptions { map_entry: Some(message.is_map_entry), ..MessageOptions::default() };
    let oneof =
        |name: &str| OneofDescriptorProto { name: Some(name.to_owned()), ..Default::default() };
    DescriptorProto {
        name: Some(message.name.to_owned()),
        field: message.fields.iter().map(describe_field).collect(),
        nested_type: message.messages.iter().map(describe_message).collect(),
        enum_type: message.enums.iter().map(describe_enum).collect(),
        oneof_decl: message.oneof.into_iter().map(oneof).collect(),
        options: message.is_map_entry.then_some(options),
        ..DescriptorProto::default()
    }
}

fn describe_enum(names: &Enum) -> EnumDescriptorProto {
    let value = |(name, number): &(&str, i32)| EnumValueDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(*number),
        options: None,
    };
    EnumDescriptorProto {
        name: Some(names.name.to_owned()),
        value: names.values.iter().map(value).collect(),
        ..EnumDescriptorProto::default()
    }
}

fn describe_field(field: &Field) -> FieldDescriptorProto {
    let label = if field.is_repeated { Label::Repeated } else { Label::Optional };
    let (of_type, type_name) = match field.kind {
        Kind::Bool => (Type::Bool, None),
        Kind::Bytes => (Type::Bytes, None),
        Kind::Double => (Type::Double, None),
        Kind::Int32 => (Type::Int32, None),
        Kind::Int64 => (Type::Int64, None),
        Kind::Text => (Type::String, None),
        Kind::Uint32 => (Type::Uint32, None),
        Kind::Uint64 => (Type::Uint64, None),
        Kind::Message(name) => (Type::Message, Some(name)),
        Kind::Enum(name) => (Type::Enum, Some(name)),
    };
    FieldDescriptorProto {
        name: Some(field.name.to_owned()),
        number: Some(field.number),
        label: Some(label.into()),
        r#type: Some(of_type.into()),
        type_name: type_name.map(str::to_owned),
        // A message of the table has one oneof at most.
        oneof_index: field.is_of_oneof.then_some(0),
        ..FieldDescriptorProto::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use envoy_types::pb::envoy::config::core::v3::HeaderValue;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
    use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
    use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
    use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::DescriptorStatus;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Quota;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::RateLimit;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::quota::ExpirationSpecifier;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit;
    use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
    use envoy_types::pb::google::protobuf::Duration;
    use envoy_types::pb::google::protobuf::ListValue;
    use envoy_types::pb::google::protobuf::Struct;
    use envoy_types::pb::google::protobuf::Timestamp;
    use envoy_types::pb::google::protobuf::UInt64Value;
    use envoy_types::pb::google::protobuf::Value;
    use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
    use prost::Message as _;
    use prost::encoding::DecodeContext;
    use prost::encoding::WireType;
    use prost::encoding::decode_key;
    use prost::encoding::decode_varint;
    use prost::encoding::skip_field;

    use super::*;

    /// Reads encoded messages by the table alone, and notes the fields that it has met.
    struct Reader {
        messages: BTreeMap<String, &'static Message>,
        met: BTreeSet<String>,
    }

    impl Reader {
        fn new() -> Self {
            let mut messages = BTreeMap::new();
            for file in FILES {
                collect(&format!(".{}", file.package), file.messages, &mut messages);
            }
            Self { messages, met: BTreeSet::new() }
        }

        fn read(&mut self, name: &str, mut bytes: &[u8]) {
            let message = *self.messages.get(name).unwrap_or_else(|| panic!("no {name}"));
            while !bytes.is_empty() {
                let (number, wire) = decode_key(&mut bytes).unwrap();
                let number = i32::try_from(number).unwrap();
                let field = message.fields.iter().find(|field| field.number == number);
                let field = field.unwrap_or_else(|| panic!("{name} has no field {number}"));
                assert_eq!(wire, wire_type(field.kind), "{name}.{}", field.name);
                self.met.insert(format!("{name}.{}", field.name));
                if let Kind::Message(inner) = field.kind {
                    let len = decode_varint(&mut bytes).unwrap();
                    let (body, rest) = bytes.split_at(len.try_into().unwrap());
                    self.read(inner, body);
                    bytes = rest;
                } else {
                    skip_field(wire, number.unsigned_abs(), &mut bytes, DecodeContext::default())
                        .unwrap();
                }
            }
        }

        fn all_fields(&self) -> BTreeSet<String> {
            let messages = self.messages.iter();
            let fields = messages.flat_map(|(name, message)| {
                message.fields.iter().map(move |field| format!("{name}.{}", field.name))
            });
            fields.collect()
        }
    }

    fn collect(
        prefix: &str,
        messages: &'static [Message],
        into: &mut BTreeMap<String, &'static Message>,
    ) {
        for message in messages {
            let name = format!("{prefix}.{}", message.name);
            collect(&name, message.messages, into);
            into.insert(name, message);
        }
    }

    fn wire_type(kind: Kind) -> WireType {
        match kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => {
                WireType::Varint
            }
            Kind::Enum(_) => WireType::Varint,
            Kind::Double => WireType::SixtyFourBit,
            Kind::Bytes | Kind::Text | Kind::Message(_) => WireType::LengthDelimited,
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
            value(ValueKind::NullValue(0)),
            value(ValueKind::NumberValue(1.0)),
            value(ValueKind::StringValue("s".to_owned())),
            value(ValueKind::BoolValue(true)),
            value(ValueKind::StructValue(Struct::default())),
        ];
        let list = value(ValueKind::ListValue(ListValue { values }));
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
    fn the_table_holds_every_field_that_envoy_types_encodes_and_no_other() {
        let mut reader = Reader::new();
        let package = ".envoy.service.ratelimit.v3";
        reader.read(&format!("{package}.RateLimitRequest"), &full_request().encode_to_vec());
        reader.read(&format!("{package}.RateLimitResponse"), &full_response().encode_to_vec());
        assert_eq!(reader.met, reader.all_fields());
    }

    #[test]
    fn the_tables_enums_are_those_of_envoy_types() {
        let check = |names: &Enum, number: fn(&str) -> Option<i32>| {
            for (name, expected) in names.values {
                assert_eq!(number(name), Some(*expected), "{} {name}", names.name);
            }
        };
        let rls = &FILES[0];
        let response = &rls.messages[1];
        check(&response.enums[0], |name| {
            rate_limit_response::Code::from_str_name(name).map(i32::from)
        });
        check(&response.messages[0].enums[0], |name| {
            rate_limit::Unit::from_str_name(name).map(i32::from)
        });
        let unit = FILES.iter().find(|file| file.package == "envoy.type.v3").unwrap();
        check(&unit.enums[0], |name| RateLimitUnit::from_str_name(name).map(i32::from));
    }

    #[test]
    fn every_name_and_import_of_the_table_is_in_the_table() {
        let reader = Reader::new();
        for message in reader.messages.values() {
            for field in message.fields {
                if let Kind::Message(name) = field.kind {
                    assert!(reader.messages.contains_key(name), "{name}");
                }
            }
        }
        for path in FILES.iter().flat_map(|file| file.imports) {
            assert!(FILES.iter().any(|file| file.path == *path), "{path}");
        }
    }

    #[test]
    fn both_versions_can_be_built() {
        let _ = (v1(), v1alpha());
    }
}
