//! The settings of logs, metrics and traces.

use tracing::level_filters::LevelFilter;

use super::setting::{BOOLEAN, RATIO, component};
use super::value::{self, optional, or_default};
use crate::observe::logs;
use crate::observe::traces::OtlpProtocol;
use crate::usage::Retention;

const DAYS: &str = "a whole number from 1 to 3650";

fn days(text: &str) -> Option<u32> {
    value::number(text, 1..=3_650)
}

component! {
    /// Logs, metrics and traces.
    pub struct ObservingSettings in "Logs, metrics and traces";

    log_level: LevelFilter {
        name: "log_level",
        value: "LEVEL",
        default: "info",
        expected: "one of off, error, warn, info, debug and trace",
        help: "Minimum log level",
        read: value::level,
        words: &["off", "error", "warn", "info", "debug", "trace"],
    }

    log_format: logs::Format {
        name: "log_format",
        value: "FORMAT",
        default: "text",
        expected: "one of text and json",
        help: "Log format: text for people, json for machines",
        read: value::log_format,
        words: &["text", "json"],
    }

    /// The used share of a limit above which tollgate_near_limit_total counts.
    near_limit_ratio: f64 {
        name: "near_limit_ratio",
        value: "RATIO",
        default: "0.8",
        expected: RATIO,
        help: "Utilization of a limit above which tollgate_near_limit_total counts",
        read: |text| value::number(text, 0.0..=1.0),
    }

    reference_metrics: bool {
        name: "reference_metrics",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Export metrics under the names of envoyproxy/ratelimit too",
        read: value::boolean,
    }

    /// The maximum number of values of one rule in metrics.
    metric_values_max: usize {
        name: "metric_values_max",
        value: "NUMBER",
        default: "100",
        expected: "a whole number from 0 to 10000",
        help: "Number of values of a rule with detailed_metric or value_to_metric that have metrics of their own: the \
               busiest. All others are counted together, as other",
        read: |text| value::number(text, 0..=10_000),
    }

    usage: bool {
        name: "usage",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Count usage by minute, hour and day, in some 16 MiB of memory and in Redis if there is one, for /v1/usage, \
               /v1/denials and /v1/top",
        read: value::boolean,
    }

    usage_minute_days: u32 {
        name: "usage_minute_days",
        value: "DAYS",
        default: "2",
        expected: DAYS,
        help: "Days for which Redis or data_dir keeps usage by minute",
        read: days,
    }

    usage_hour_days: u32 {
        name: "usage_hour_days",
        value: "DAYS",
        default: "90",
        expected: DAYS,
        help: "Days for which Redis or data_dir keeps usage by hour",
        read: days,
    }

    usage_day_days: u32 {
        name: "usage_day_days",
        value: "DAYS",
        default: "730",
        expected: DAYS,
        help: "Days for which Redis or data_dir keeps usage by day",
        read: days,
    }

    /// None: no traces.
    otlp_endpoint: Option<String> {
        name: "otlp_endpoint",
        value: "URL",
        default: "",
        expected: "a URL such as http://localhost:4317",
        help: "OTLP endpoint for traces. If absent, no traces are sent",
        read: optional(|text| value::url(text, &["http"])),
    }

    otlp_protocol: OtlpProtocol {
        name: "otlp_protocol",
        value: "PROTOCOL",
        default: "grpc",
        expected: "one of grpc and http/protobuf",
        help: "How the endpoint is called: by gRPC, or by HTTP/1.1, with the path /v1/traces if the URL has none",
        read: value::otlp_protocol,
        words: &["grpc", "http/protobuf"],
    }

    /// Share of requests without a sampling decision of their caller.
    otlp_sample_ratio: f64 {
        name: "otlp_sample_ratio",
        value: "RATIO",
        default: "0.01",
        expected: RATIO,
        help: "Share of traced requests, among those without a sampling decision",
        read: |text| value::number(text, 0.0..=1.0),
    }

    /// Keys and values.
    otlp_resource: Vec<(String, String)> {
        name: "otlp_resource",
        value: "KEY=VALUE,...",
        default: "",
        expected: "a list of KEY=VALUE",
        help: "Attributes of the resource of traces, such as service.name=limits",
        read: or_default(|text| value::pairs(text, '=')),
    }
}

impl ObservingSettings {
    /// The retention of usage.
    pub fn retention(&self) -> Retention {
        Retention {
            minute_days: self.usage_minute_days,
            hour_days: self.usage_hour_days,
            day_days: self.usage_day_days,
        }
    }
}
