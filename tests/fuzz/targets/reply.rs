//! Any bytes as Redis's reply: an outcome with a decision for each charge and a level for each gauge, or an
//! error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::store::redis::Asked;
use tollgate::store::redis::Reply;
use tollgate::store::redis::parse_reply;

/// Charges and gauges of the batches that the bytes are read as replies to: from none to this many.
const CHARGES_MAX: usize = 3;
const GAUGES_MAX: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = redis::parse_redis_value(bytes) else { return };
    for charges in 0..=CHARGES_MAX {
        for gauges in 0..=GAUGES_MAX {
            if let Ok(Reply::Decided(outcome)) = parse_reply(&value, Asked { charges, gauges }) {
                assert_eq!(outcome.decisions.len(), charges);
                assert_eq!(outcome.levels.len(), gauges);
            }
        }
    }
});
