//! Any bytes as a reply of the code in Redis: an outcome with a decision for each charge and a level for each gauge, or
//! an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::store::redis::{BatchSize, Replies, Reply};

/// Maximum number of charges and gauges in the batches of the replies.
const CHARGES_MAX: usize = 3;
const GAUGES_MAX: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    let Ok(replies) = Replies::read(bytes) else { return };
    for charges in 0..=CHARGES_MAX {
        for gauges in 0..=GAUGES_MAX {
            let mut replies = replies;
            let has_notices = charges == CHARGES_MAX;
            let has_parts = gauges == GAUGES_MAX;
            let asked = BatchSize { charges, gauges, has_notices, has_parts };
            if let Ok(Reply::Decided(outcome)) = replies.next(asked) {
                assert_eq!(outcome.decisions.len(), charges);
                assert_eq!(outcome.levels.len(), gauges);
                assert!(outcome.notices.iter().all(|notice| notice.charge < charges));
            }
        }
    }
});
