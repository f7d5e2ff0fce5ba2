//! The settings of statsd.

use std::time::Duration;

use super::setting::{BOOLEAN, component};
use super::value::{self, StatsdProtocol, optional, or_default};

/// The minimum time between two transmissions.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

component! {
    /// Where and how metrics are sent.
    pub struct StatsdReceiverSettings in "Logs, metrics and traces";

    /// None: they are not sent.
    address: Option<(String, u16)> {
        name: "statsd_address",
        value: "HOST:PORT",
        default: "",
        expected: "a host and a port, such as localhost:8125",
        help: "Receiver of statsd or DogStatsD, to which the metrics of envoyproxy/ratelimit are sent. If absent, none are sent",
        read: optional(value::node),
    }

    protocol: StatsdProtocol {
        name: "statsd_protocol",
        value: "PROTOCOL",
        default: "udp",
        expected: "one of udp and tcp",
        help: "Protocol to the receiver of statsd",
        read: value::statsd_protocol,
        words: &["udp", "tcp"],
    }

    interval: Duration {
        name: "statsd_interval",
        value: "DURATION",
        default: "10s",
        expected: "a duration from 100ms to an hour, such as 10s",
        help: "Time between two transmissions, each with the sums since the one before",
        read: |text| value::some_time(text).filter(|interval| INTERVAL_MIN <= *interval),
    }

    /// Names and values.
    tags: Vec<(String, String)> {
        name: "statsd_tags",
        value: "NAME=VALUE,...",
        default: "",
        expected: "a list of NAME=VALUE",
        help: "Tags of all metrics that are sent, such as env=prod: with statsd_dog as tags, otherwise at the end of names",
        read: or_default(|text| value::pairs(text, '=')),
    }

    dog: bool {
        name: "statsd_dog",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Send in the format of DogStatsD, which has tags",
        read: value::boolean,
    }

    rule_tags: bool {
        name: "statsd_rule_tags",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "With statsd_dog, name rules by the tags domain, key1 and key2 instead of a part of the metric's name",
        read: value::boolean,
    }
}
