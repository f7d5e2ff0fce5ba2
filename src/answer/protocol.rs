//! The semantics of the rate limit protocol, shared by its gRPC and JSON encodings.

use std::time::Duration;

use crate::engine::HitsSource;
use crate::limit::Hits;
use crate::policy::Unit;

/// The units of a limit that a request brings along, by their numbers (`envoy.type.v3.RateLimitUnit`). The protocol has
/// no week there.
const OVERRIDE_UNITS: [(i32, Unit); 6] = [
    (1, Unit::Second),
    (2, Unit::Minute),
    (3, Unit::Hour),
    (4, Unit::Day),
    (5, Unit::Month),
    (6, Unit::Year),
];

/// The error for a request that can't be decided.
pub const UNAVAILABLE: &str = "the store of the counters is unavailable, and a limit of the request has `on_outage: \
                               error`; or no policies are loaded yet";

/// The hits of a descriptor: its own, where 0 is a peek; otherwise those of the request, where 0 means that they are
/// not set.
pub fn hits(own: Option<u64>, of_request: u32, gives_back: bool) -> Hits {
    let hits = own.unwrap_or(u64::from(of_request.max(1)));
    if gives_back { Hits::GiveBack(hits) } else { Hits::Spend(hits) }
}

/// The source of the hits of a descriptor.
pub fn hits_source(own: Option<u64>) -> HitsSource {
    if own.is_some() { HitsSource::Descriptor } else { HitsSource::Request }
}

/// The unit with this number, in a limit that a request brings along.
pub fn override_unit(number: i32) -> Option<Unit> {
    OVERRIDE_UNITS.into_iter().find(|(known, _)| *known == number).map(|(_, unit)| unit)
}

/// The unit with this name, such as `MINUTE`, in a limit that a request brings along.
pub fn override_unit_named(name: &str) -> Option<Unit> {
    let mut units = OVERRIDE_UNITS.into_iter().map(|(_, unit)| unit);
    units.find(|unit| unit_name(*unit) == name)
}

/// The unit's name in the protocol's enums, such as `MINUTE`.
pub fn unit_name(unit: Unit) -> String {
    unit.name().to_ascii_uppercase()
}

/// A reset in whole seconds, rounded up: Envoy truncates fractions, and a caller that retried that much too early would
/// be refused again.
pub fn whole_seconds(reset: Duration) -> u64 {
    reset.as_secs().saturating_add(u64::from(0 < reset.subsec_nanos()))
}

/// Whether a header with this name may be sent. Envoy appends to the caller's value even for `:path` and `host`, so a
/// policy could redirect requests. The policy compiler rejects such names too.
pub fn may_forward(name: &str) -> bool {
    !name.starts_with(':') && !name.eq_ignore_ascii_case("host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptors_hits_beat_the_requests() {
        let check = |own, of_request, gives_back, expected| {
            assert_eq!(hits(own, of_request, gives_back), expected);
        };
        check(None, 0, false, Hits::Spend(1));
        check(None, 7, false, Hits::Spend(7));
        check(Some(0), 7, false, Hits::Spend(0));
        check(Some(u64::MAX), 7, false, Hits::Spend(u64::MAX));
        check(None, 0, true, Hits::GiveBack(1));
        check(Some(3), 7, true, Hits::GiveBack(3));
    }

    #[test]
    fn an_override_knows_the_protocols_units_only() {
        for (number, unit) in OVERRIDE_UNITS {
            assert_eq!(override_unit(number), Some(unit));
            assert_eq!(override_unit_named(&unit_name(unit)), Some(unit));
        }
        for number in [i32::MIN, -1, 0, 7, i32::MAX] {
            assert_eq!(override_unit(number), None, "{number}");
        }
        for name in ["UNKNOWN", "WEEK", "minute", ""] {
            assert_eq!(override_unit_named(name), None, "{name}");
        }
    }

    #[test]
    fn a_reset_is_never_told_too_short() {
        let check = |ms, seconds| assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds);
        check(0, 0);
        check(1, 1);
        check(12_000, 12);
        check(12_001, 13);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn headers_that_choose_the_upstream_stay() {
        for name in [":path", ":authority", "host", "Host"] {
            assert!(!may_forward(name), "{name}");
        }
        assert!(may_forward("x-tier"));
        assert!(may_forward("hostname"));
    }
}
