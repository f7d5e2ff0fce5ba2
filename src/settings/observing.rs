//! The settings of metrics and traces.

use super::setting::Setting;
use super::value;
use super::value::optional;
use super::value::put;

/// The group of these, and of the settings of logs.
pub const GROUP: &str = "Logs, metrics and traces";

const RATIO: &str = "a number from 0 to 1";

pub const NEAR_LIMIT_RATIO: Setting = Setting {
    name: "near_limit_ratio",
    group: GROUP,
    value: "RATIO",
    default: "0.8",
    expected: RATIO,
    help: "How much of a limit is in use when tollgate_near_limit_total counts",
    set: |settings, text| put(&mut settings.near_limit_ratio, value::number(text, 0.0..=1.0)),
};

pub const OTLP_ENDPOINT: Setting = Setting {
    name: "otlp_endpoint",
    group: GROUP,
    value: "URL",
    default: "",
    expected: "a URL such as http://localhost:4317",
    help: "Where traces go, by OTLP over gRPC. Without it there are none",
    set: |settings, text| {
        let endpoint = optional(text, |text| value::url(text, &["http"]));
        put(&mut settings.otlp_endpoint, endpoint)
    },
};

pub const OTLP_SAMPLE_RATIO: Setting = Setting {
    name: "otlp_sample_ratio",
    group: GROUP,
    value: "RATIO",
    default: "0.01",
    expected: RATIO,
    help: "How many of the requests are traced whose caller doesn't say",
    set: |settings, text| put(&mut settings.otlp_sample_ratio, value::number(text, 0.0..=1.0)),
};
