//! The protocol's messages as a table, for reflection: envoy-types does not expose their descriptors.
//!
//! It holds what a caller of the rate limit service needs: its messages in full, and of the files that
//! they import the types that they use. A test holds it against what envoy-types encodes.

/// A `.proto` file.
pub struct File {
    pub path: &'static str,
    pub package: &'static str,
    pub imports: &'static [&'static str],
    pub messages: &'static [Message],
    pub enums: &'static [Enum],
    pub service: Option<Service>,
}

/// A service of one method.
pub struct Service {
    pub name: &'static str,
    pub method: &'static str,
    pub input: &'static str,
    pub output: &'static str,
}

/// A message and the types that stand inside it.
pub struct Message {
    pub name: &'static str,
    pub fields: &'static [Field],
    pub messages: &'static [Message],
    pub enums: &'static [Enum],
    /// The name of the `oneof` that some of the fields form.
    pub oneof: Option<&'static str>,
    /// Whether it is the pair that a map is made of.
    pub is_map_entry: bool,
}

/// Names of numbers.
pub struct Enum {
    pub name: &'static str,
    pub values: &'static [(&'static str, i32)],
}

/// A field of a message.
pub struct Field {
    pub name: &'static str,
    pub number: i32,
    pub kind: Kind,
    pub is_repeated: bool,
    pub is_of_oneof: bool,
}

/// What a field holds; types by their full names.
#[derive(Clone, Copy)]
pub enum Kind {
    Bool,
    Bytes,
    Double,
    Int32,
    Int64,
    Text,
    Uint32,
    Uint64,
    Message(&'static str),
    Enum(&'static str),
}

impl Field {
    const fn one(name: &'static str, number: i32, kind: Kind) -> Self {
        Self { name, number, kind, is_repeated: false, is_of_oneof: false }
    }

    const fn many(name: &'static str, number: i32, kind: Kind) -> Self {
        Self { is_repeated: true, ..Self::one(name, number, kind) }
    }

    const fn of_oneof(name: &'static str, number: i32, kind: Kind) -> Self {
        Self { is_of_oneof: true, ..Self::one(name, number, kind) }
    }
}

/// What the entries of the table have unless they say otherwise.
const FILE: File =
    File { path: "", package: "", imports: &[], messages: &[], enums: &[], service: None };
const MESSAGE: Message =
    Message { name: "", fields: &[], messages: &[], enums: &[], oneof: None, is_map_entry: false };

const RLS: &str = "envoy/service/ratelimit/v3/rls.proto";
const DESCRIPTOR: &str = "envoy/extensions/common/ratelimit/v3/ratelimit.proto";
const BASE: &str = "envoy/config/core/v3/base.proto";
const UNIT: &str = "envoy/type/v3/ratelimit_unit.proto";
const DURATION: &str = "google/protobuf/duration.proto";
const STRUCT: &str = "google/protobuf/struct.proto";
const TIMESTAMP: &str = "google/protobuf/timestamp.proto";
const WRAPPERS: &str = "google/protobuf/wrappers.proto";

/// Every file.
pub const FILES: &[File] = &[
    File {
        path: RLS,
        package: "envoy.service.ratelimit.v3",
        imports: &[BASE, DESCRIPTOR, DURATION, STRUCT, TIMESTAMP],
        messages: &[REQUEST, RESPONSE],
        service: Some(Service {
            name: "RateLimitService",
            method: "ShouldRateLimit",
            input: ".envoy.service.ratelimit.v3.RateLimitRequest",
            output: ".envoy.service.ratelimit.v3.RateLimitResponse",
        }),
        ..FILE
    },
    File {
        path: DESCRIPTOR,
        package: "envoy.extensions.common.ratelimit.v3",
        imports: &[UNIT, WRAPPERS],
        messages: &[RATE_LIMIT_DESCRIPTOR],
        ..FILE
    },
    File { path: BASE, package: "envoy.config.core.v3", messages: &[HEADER_VALUE], ..FILE },
    File { path: UNIT, package: "envoy.type.v3", enums: &[RATE_LIMIT_UNIT], ..FILE },
    File { path: DURATION, package: "google.protobuf", messages: &[SPAN], ..FILE },
    File { path: TIMESTAMP, package: "google.protobuf", messages: &[INSTANT], ..FILE },
    File { path: WRAPPERS, package: "google.protobuf", messages: &[UINT64_VALUE], ..FILE },
    File {
        path: STRUCT,
        package: "google.protobuf",
        messages: &[STRUCT_MESSAGE, VALUE, LIST_VALUE],
        enums: &[Enum { name: "NullValue", values: &[("NULL_VALUE", 0)] }],
        ..FILE
    },
];

const REQUEST: Message = Message {
    name: "RateLimitRequest",
    fields: &[
        Field::one("domain", 1, Kind::Text),
        Field::many(
            "descriptors",
            2,
            Kind::Message(".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor"),
        ),
        Field::one("hits_addend", 3, Kind::Uint32),
    ],
    ..MESSAGE
};

const RESPONSE: Message = Message {
    name: "RateLimitResponse",
    fields: &[
        Field::one("overall_code", 1, CODE),
        Field::many(
            "statuses",
            2,
            Kind::Message(".envoy.service.ratelimit.v3.RateLimitResponse.DescriptorStatus"),
        ),
        Field::many("response_headers_to_add", 3, HEADER),
        Field::many("request_headers_to_add", 4, HEADER),
        Field::one("raw_body", 5, Kind::Bytes),
        Field::one("dynamic_metadata", 6, Kind::Message(".google.protobuf.Struct")),
        Field::one("quota", 7, QUOTA),
    ],
    enums: &[Enum { name: "Code", values: &[("UNKNOWN", 0), ("OK", 1), ("OVER_LIMIT", 2)] }],
    messages: &[
        Message {
            name: "RateLimit",
            fields: &[
                Field::one("name", 3, Kind::Text),
                Field::one("requests_per_unit", 1, Kind::Uint32),
                Field::one(
                    "unit",
                    2,
                    Kind::Enum(".envoy.service.ratelimit.v3.RateLimitResponse.RateLimit.Unit"),
                ),
            ],
            enums: &[Enum {
                name: "Unit",
                values: &[
                    ("UNKNOWN", 0),
                    ("SECOND", 1),
                    ("MINUTE", 2),
                    ("HOUR", 3),
                    ("DAY", 4),
                    ("WEEK", 7),
                    ("MONTH", 5),
                    ("YEAR", 6),
                ],
            }],
            ..MESSAGE
        },
        Message {
            name: "Quota",
            fields: &[
                Field::one("requests", 1, Kind::Uint32),
                Field::of_oneof("valid_until", 2, Kind::Message(".google.protobuf.Timestamp")),
                Field::one("id", 3, Kind::Text),
            ],
            oneof: Some("expiration_specifier"),
            ..MESSAGE
        },
        Message {
            name: "DescriptorStatus",
            fields: &[
                Field::one("code", 1, CODE),
                Field::one(
                    "current_limit",
                    2,
                    Kind::Message(".envoy.service.ratelimit.v3.RateLimitResponse.RateLimit"),
                ),
                Field::one("limit_remaining", 3, Kind::Uint32),
                Field::one("duration_until_reset", 4, Kind::Message(".google.protobuf.Duration")),
                Field::one("quota", 5, QUOTA),
            ],
            ..MESSAGE
        },
    ],
    ..MESSAGE
};

const CODE: Kind = Kind::Enum(".envoy.service.ratelimit.v3.RateLimitResponse.Code");
const QUOTA: Kind = Kind::Message(".envoy.service.ratelimit.v3.RateLimitResponse.Quota");
const HEADER: Kind = Kind::Message(".envoy.config.core.v3.HeaderValue");

const RATE_LIMIT_DESCRIPTOR: Message = Message {
    name: "RateLimitDescriptor",
    fields: &[
        Field::many(
            "entries",
            1,
            Kind::Message(".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry"),
        ),
        Field::one(
            "limit",
            2,
            Kind::Message(
                ".envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride",
            ),
        ),
        Field::one("hits_addend", 3, Kind::Message(".google.protobuf.UInt64Value")),
        Field::one("is_negative_hits", 4, Kind::Bool),
    ],
    messages: &[
        Message {
            name: "Entry",
            fields: &[Field::one("key", 1, Kind::Text), Field::one("value", 2, Kind::Text)],
            ..MESSAGE
        },
        Message {
            name: "RateLimitOverride",
            fields: &[
                Field::one("requests_per_unit", 1, Kind::Uint32),
                Field::one("unit", 2, Kind::Enum(".envoy.type.v3.RateLimitUnit")),
            ],
            ..MESSAGE
        },
    ],
    ..MESSAGE
};

const HEADER_VALUE: Message = Message {
    name: "HeaderValue",
    fields: &[
        Field::one("key", 1, Kind::Text),
        Field::one("value", 2, Kind::Text),
        Field::one("raw_value", 3, Kind::Bytes),
    ],
    ..MESSAGE
};

const RATE_LIMIT_UNIT: Enum = Enum {
    name: "RateLimitUnit",
    values: &[
        ("UNKNOWN", 0),
        ("SECOND", 1),
        ("MINUTE", 2),
        ("HOUR", 3),
        ("DAY", 4),
        ("MONTH", 5),
        ("YEAR", 6),
    ],
};

const SPAN: Message = Message {
    name: "Duration",
    fields: &[Field::one("seconds", 1, Kind::Int64), Field::one("nanos", 2, Kind::Int32)],
    ..MESSAGE
};

const INSTANT: Message = Message { name: "Timestamp", ..SPAN };

const UINT64_VALUE: Message =
    Message { name: "UInt64Value", fields: &[Field::one("value", 1, Kind::Uint64)], ..MESSAGE };

const STRUCT_MESSAGE: Message = Message {
    name: "Struct",
    fields: &[Field::many("fields", 1, Kind::Message(".google.protobuf.Struct.FieldsEntry"))],
    messages: &[Message {
        name: "FieldsEntry",
        fields: &[
            Field::one("key", 1, Kind::Text),
            Field::one("value", 2, Kind::Message(".google.protobuf.Value")),
        ],
        is_map_entry: true,
        ..MESSAGE
    }],
    ..MESSAGE
};

const VALUE: Message = Message {
    name: "Value",
    fields: &[
        Field::of_oneof("null_value", 1, Kind::Enum(".google.protobuf.NullValue")),
        Field::of_oneof("number_value", 2, Kind::Double),
        Field::of_oneof("string_value", 3, Kind::Text),
        Field::of_oneof("bool_value", 4, Kind::Bool),
        Field::of_oneof("struct_value", 5, Kind::Message(".google.protobuf.Struct")),
        Field::of_oneof("list_value", 6, Kind::Message(".google.protobuf.ListValue")),
    ],
    oneof: Some("kind"),
    ..MESSAGE
};

const LIST_VALUE: Message = Message {
    name: "ListValue",
    fields: &[Field::many("values", 1, Kind::Message(".google.protobuf.Value"))],
    ..MESSAGE
};
