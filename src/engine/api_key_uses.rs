//! The last uses of API keys that are not yet written to the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;

use crate::api_keys::LastUse;
use crate::lock::lock;

/// Maximum number of API keys between two writes. The uses of others are not noted.
const USES_MAX: usize = 10_000;

/// Last uses by the id of the API key.
#[derive(Debug, Default)]
pub struct ApiKeyUses(Mutex<HashMap<Arc<str>, LastUse, RandomState>>);

impl ApiKeyUses {
    /// Notes a use.
    pub fn note(&self, id: &Arc<str>, last: LastUse) {
        let mut uses = lock(&self.0);
        if let Some(known) = uses.get_mut(id) {
            *known = last.later(Some(*known));
        } else if uses.len() < USES_MAX {
            uses.insert(id.clone(), last);
        }
    }

    /// The last use of an API key.
    pub fn get(&self, id: &str) -> Option<LastUse> {
        lock(&self.0).get(id).copied()
    }

    /// All of them, which are no longer kept here.
    pub fn take(&self) -> Vec<(Arc<str>, LastUse)> {
        std::mem::take(&mut *lock(&self.0)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn only_the_last_use_is_kept_and_memory_is_bounded() {
        let uses = ApiKeyUses::default();
        let last = |ms| LastUse { at: Timestamp::from_ms(ms), address: None };
        let id: Arc<str> = "key_1".into();
        for ms in [5, 9, 7] {
            uses.note(&id, last(ms));
        }
        assert_eq!(uses.get("key_1"), Some(last(9)));
        for index in 0..2 * USES_MAX {
            uses.note(&format!("key_{index}").into(), last(1));
        }
        assert_eq!(uses.take().len(), USES_MAX);
        assert!(uses.take().is_empty());
    }
}
