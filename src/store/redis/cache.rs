//! A bounded cache of records in Redis that change there: of callers and API keys, unknown ones included.
//!
//! Its contents are used only while every change is certainly received (`subscription.rs`). A fetch must not overwrite
//! a change that arrives meanwhile. So a fetch first reads the number of changes, and its result is dropped if there
//! was one since. A change first counts and then removes; a fetch first stores and then compares: so one of them sees
//! the other.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foldhash::fast::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, UnitWeighter};

use crate::policy::Member;

/// Changes are counted by parts of the names, so that those of other names rarely affect a fetch.
const PARTS: usize = 256;

/// The cached callers by name; None for unknown names.
pub type CallerCache = ChangeCache<Arc<str>, Option<Member>>;

/// Cached records by name.
pub struct ChangeCache<K, V> {
    entries: Cache<K, V, UnitWeighter, RandomState>,
    changes: [AtomicU64; PARTS],
    parts: RandomState,
    is_trusted: AtomicBool,
}

/// The number of changes at the start of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// What hears of changes in Redis.
pub trait ChangeListener: fmt::Debug + Send + Sync {
    /// From now on every change is heard; earlier ones may have been missed.
    fn trust(&self);

    /// Changes may be missed from now on.
    fn distrust(&self);

    /// Everything may have changed.
    fn forget(&self);

    /// A message about a change; perhaps for another listener.
    fn hear(&self, message: &str);
}

impl<K: Hash + Eq + Clone, V: Clone> ChangeCache<K, V> {
    /// A cache of at most `entries_max`, which is not used yet.
    pub fn new(entries_max: usize) -> Self {
        let weight_max = u64::try_from(entries_max).unwrap_or(u64::MAX);
        let lifecycle = DefaultLifecycle::default();
        let hasher = RandomState::default();
        Self {
            entries: Cache::with(entries_max, weight_max, UnitWeighter, hasher, lifecycle),
            changes: std::array::from_fn(|_| AtomicU64::new(0)),
            parts: RandomState::default(),
            is_trusted: AtomicBool::new(false),
        }
    }

    /// The cached record of a name, if it is up to date.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, name: &Q) -> Option<V> {
        if self.is_trusted() { self.last_known(name) } else { None }
    }

    /// The last record of a name, perhaps out of date: better than none while Redis does not answer.
    pub fn last_known<Q: Hash + Equivalent<K> + ?Sized>(&self, name: &Q) -> Option<V> {
        self.entries.get(name)
    }

    /// Whether every change is certainly received.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::SeqCst)
    }

    /// The number of cached names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Must be taken before a fetch of `name`.
    pub fn mark<Q: Hash + ?Sized>(&self, name: &Q) -> Mark {
        Mark(self.part(name).load(Ordering::SeqCst))
    }

    /// Stores the result of a fetch, unless there was a change since its mark.
    pub fn keep(&self, name: &K, entry: V, mark: Mark) {
        self.entries.insert(name.clone(), entry);
        if self.mark(name).0 != mark.0 {
            self.entries.remove(name);
        }
    }

    /// Removes a name, because it was changed.
    pub fn changed<Q: Hash + Equivalent<K> + ?Sized>(&self, name: &Q) {
        self.part(name).fetch_add(1, Ordering::SeqCst);
        self.entries.remove(name);
    }

    /// Uses all records from now on, and no earlier ones.
    pub fn trust(&self) {
        self.forget();
        self.is_trusted.store(true, Ordering::SeqCst);
    }

    /// Removes all names.
    pub fn forget(&self) {
        self.changes.iter().for_each(|count| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        self.entries.clear();
    }

    /// Stops using the records.
    pub fn distrust(&self) {
        self.is_trusted.store(false, Ordering::SeqCst);
    }

    fn part<Q: Hash + ?Sized>(&self, name: &Q) -> &AtomicU64 {
        let hash =
            usize::try_from(self.parts.hash_one(name) % PARTS as u64).expect("it is below PARTS");
        &self.changes[hash]
    }
}

impl ChangeListener for CallerCache {
    fn trust(&self) {
        Self::trust(self);
    }

    fn distrust(&self) {
        Self::distrust(self);
    }

    fn forget(&self) {
        Self::forget(self);
    }

    fn hear(&self, message: &str) {
        self.changed(message);
    }
}

impl<K: Hash + Eq + Clone, V: Clone> fmt::Debug for ChangeCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeCache")
            .field("len", &self.len())
            .field("is_trusted", &self.is_trusted())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Caller;

    fn member(name: &str) -> Option<Member> {
        Some(Member { name: name.into(), caller: Arc::new(Caller::default()) })
    }

    fn fetched(cache: &CallerCache, name: &str) {
        let mark = cache.mark(name);
        cache.keep(&name.into(), member(name), mark);
    }

    #[test]
    fn nothing_is_known_for_sure_until_changes_are_heard_of() {
        let cache = CallerCache::new(10);
        fetched(&cache, "a");
        assert!(cache.get("a").is_none() && cache.last_known("a").is_some());
        cache.trust();
        assert!(cache.last_known("a").is_none(), "what came before may be out of date");
        fetched(&cache, "a");
        assert!(cache.get("a").unwrap().is_some());
        cache.distrust();
        assert!(cache.get("a").is_none() && cache.last_known("a").is_some());
    }

    #[test]
    fn a_fetch_does_not_bring_back_what_was_changed_meanwhile() {
        let cache = CallerCache::new(10);
        cache.trust();
        let mark = cache.mark("a");
        cache.changed("a");
        cache.keep(&"a".into(), member("a"), mark);
        assert!(cache.get("a").is_none());
        let mark = cache.mark("a");
        cache.trust();
        cache.keep(&"a".into(), member("a"), mark);
        assert!(cache.get("a").is_none());
    }

    #[test]
    fn a_flood_of_unknown_names_stays_within_the_bound() {
        let cache = CallerCache::new(100);
        cache.trust();
        for index in 0..10_000 {
            let name = format!("{index}");
            let mark = cache.mark(name.as_str());
            cache.keep(&name.as_str().into(), None, mark);
        }
        assert!((50..=100).contains(&cache.len()), "{}", cache.len());
    }
}
