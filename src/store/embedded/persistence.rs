//! How the embedded store's counters of lasting limits, and what is spent of bonuses, get into a file, and back from it after a
//! restart.
//!
//! Each shard notes which records have changed. Once in a while they are encoded, a few with each lock, so no request waits
//! for long, and written while no lock is held. What is written is the state of one instant.

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use indexmap::IndexSet;

use super::durability::Durability;
use super::journal::{Changed, Journal};
use super::kept::{BonusSpent, KeptBonus, KeptMark};
use super::memory::{Memory, Shard};
use super::record::{Entry, Extra, Record};
use super::record_code::encode;
use crate::clock::Timestamp;
use crate::limit::{BonusUse, Hits, is_lasting};
use crate::lock::lock;
use crate::policy::Key;
use crate::store::Batch;

/// Records that are encoded with one lock.
const ENCODED_AT_ONCE: usize = 64;

/// Maximum number of rounds before the last one, however many records change meanwhile.
const ROUNDS_MAX: usize = 8;

/// Where changed records go.
pub trait RecordSink {
    type Error;

    /// Forgets all records, because all follow.
    fn clear(&mut self) -> Result<(), Self::Error>;

    /// Writes a record; None: there is none under this key any more.
    fn write(&mut self, key: &Key, bytes: Option<&[u8]>) -> Result<(), Self::Error>;
}

impl Memory {
    /// The same store, which notes changes from now on.
    pub fn keeping(mut self) -> Self {
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
            let hasher = shard.records.hasher().clone();
            shard.journal = Some(Box::new(Journal::new(shard.keys_max, hasher)));
        }
        self.durability = Some(Durability::default());
        self
    }

    /// The writes to the file of its counters; None without a file.
    pub fn durability(&self) -> Option<&Durability> {
        self.durability.as_ref()
    }

    /// Whether a record that is kept in the file, or a change of a provider, has changed since the last write.
    pub fn has_changed(&self) -> bool {
        let is_empty = |shard: &Shard| shard.journal.as_ref().is_none_or(|known| known.is_empty());
        self.has_new_controls.load(Ordering::SeqCst)
            || self.shards.iter().any(|shard| !is_empty(&lock(shard)))
    }

    /// Writes what has changed since the last call, or everything. After an error everything has to be written.
    ///
    /// A charge may change several records, in any shards, and the sink gets all of them or none. So records that change while
    /// others are written follow in a next round, which is shorter, and the last few are taken while no shard can change.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn write_changes<S: RecordSink>(&self, all: bool, sink: &mut S) -> Result<(), S::Error> {
        let take =
            |shard: &Mutex<Shard>| lock(shard).journal.as_mut().map(|journal| journal.take());
        let changes: Vec<Changed> = self.shards.iter().filter_map(take).collect();
        let all = all || changes.iter().any(|changed| matches!(changed, Changed::All));
        if all {
            sink.clear()?;
        }
        for (shard, changed) in self.shards.iter().zip(changes) {
            match changed {
                Changed::Keys(keys) if !all => write_keys(shard, &keys, sink)?,
                _ => write_all(shard, sink)?,
            }
        }
        for _ in 0..ROUNDS_MAX {
            let mut count = 0;
            for shard in &self.shards {
                let keys = take_keys(&mut lock(shard));
                count += keys.len();
                write_keys(shard, &keys, sink)?;
            }
            if count <= ENCODED_AT_ONCE {
                break;
            }
        }
        let mut encoded = Encoded::default();
        let mut shards: Vec<_> = self.shards.iter().map(lock).collect();
        for shard in &mut shards {
            let keys = take_keys(shard);
            keys.iter().for_each(|key| encoded.add(key, shard.records.get(key)));
        }
        drop(shards);
        encoded.write(sink)
    }

    /// Takes a record back from a file. If its key has been charged meanwhile, both are added up. False: it has expired.
    pub fn restore(&self, key: &Key, mut record: Record, now: Timestamp) -> bool {
        record.forget(now);
        if record.is_empty() {
            return false;
        }
        let mut position = self.position(key);
        let mut shard = lock(&self.shards[position.shard]);
        let mut known = shard.take(&mut position);
        known.add_earlier(record, now);
        let evicted = shard.put(&position, known, now.as_ms());
        drop(shard);
        self.count_evicted(evicted);
        true
    }
}

/// The keys that have changed in a shard since they were taken last.
fn take_keys(shard: &mut Shard) -> IndexSet<Key, RandomState> {
    shard.journal.as_mut().map(|journal| journal.take_keys()).unwrap_or_default()
}

/// Writes the records under keys of a shard, a few with each lock.
fn write_keys<S: RecordSink>(
    shard: &Mutex<Shard>,
    keys: &IndexSet<Key, RandomState>,
    sink: &mut S,
) -> Result<(), S::Error> {
    let mut encoded = Encoded::default();
    let mut keys = keys.iter().peekable();
    while keys.peek().is_some() {
        {
            let shard = lock(shard);
            let some = keys.by_ref().take(ENCODED_AT_ONCE);
            some.for_each(|key| encoded.add(key, shard.records.get(key)));
        }
        encoded.write(sink)?;
    }
    Ok(())
}

/// Writes all records of a shard, a few with each lock.
fn write_all<S: RecordSink>(shard: &Mutex<Shard>, sink: &mut S) -> Result<(), S::Error> {
    let mut encoded = Encoded::default();
    // From the end on: where a record is removed meanwhile, the last one comes to stand, which was written.
    let mut end = lock(shard).records.len();
    while end != 0 {
        {
            let shard = lock(shard);
            let from = end.saturating_sub(ENCODED_AT_ONCE);
            let records = (from..end).filter_map(|at| shard.records.get_index(at));
            records.for_each(|(key, record)| encoded.add(key, Some(record)));
            end = from;
        }
        encoded.write(sink)?;
    }
    Ok(())
}

impl Batch {
    /// Whether it charges a lasting limit or bonuses under one of its keys, or leaves a mark there for that.
    pub(super) fn changes_kept(&self, key_index: usize) -> bool {
        self.charges.iter().any(|charge| {
            let mark = charge.once.as_ref().and_then(|once| once.mark());
            let has_mark = mark.is_some_and(|mark| usize::from(mark.key_index) == key_index);
            let is_kept = is_lasting(charge.limit.tag()) || !charge.bonuses.is_empty();
            (charge.key_index == key_index || has_mark) && is_kept
        })
    }
}

impl Record {
    /// Adds an earlier record of the same key. What was spent since counts as if it were spent now.
    fn add_earlier(&mut self, earlier: Self, now: Timestamp) {
        for Entry { limit, mut state, expiry_ms } in earlier.states {
            let Some(place) = self.find(&limit) else {
                self.states.push(Entry { limit, state, expiry_ms });
                continue;
            };
            let known = &mut self.states[place];
            known.limit.settle(&mut known.state, now);
            known.limit.settle(&mut state, now);
            let since = Hits::Spend(known.limit.used(&known.state, now));
            known.limit.charge(&mut state, since, now);
            known.expiry_ms = known.limit.latest_expiry_ms(&state);
            known.state = state;
        }
        match (&mut self.extra, earlier.extra) {
            (Some(extra), Some(earlier)) => extra.add_earlier(*earlier),
            (None, earlier) => self.extra = earlier,
            (Some(_), None) => {}
        }
    }
}

impl Extra {
    /// Adds what an earlier process has spent of bonuses, and its marks, and takes over what is not known here.
    fn add_earlier(&mut self, earlier: Self) {
        for bonus in earlier.bonuses {
            let is_same = |known: &&mut BonusSpent| {
                known.limit_tag == bonus.limit_tag && known.id == bonus.id
            };
            match self.bonuses.iter_mut().find(is_same) {
                Some(known) => known.add_earlier(&bonus),
                None => self.bonuses.push(bonus),
            }
        }
        add_unknown(&mut self.seen, earlier.seen, |one, other| {
            (&one.limit_tag, one.token.by) == (&other.limit_tag, other.token.by)
        });
        add_of_limits(&mut self.marks, earlier.marks, |one: &KeptMark| &one.limit_tag);
        add_of_limits(&mut self.reported, earlier.reported, |one| &one.limit_tag);
        add_of_limits(&mut self.graces, earlier.graces, |one| &one.limit_tag);
        add_of_limits(&mut self.corrections, earlier.corrections, |one| &one.limit_tag);
        add_of_limits(&mut self.holdings, earlier.holdings, |one| &one.limit_tag);
    }
}

impl BonusSpent {
    /// Adds what was spent of the same bonus before.
    fn add_earlier(&mut self, earlier: &Self) {
        self.until_ms = self.until_ms.max(earlier.until_ms);
        match (&mut self.spent, earlier.spent) {
            (KeptBonus::Once(spent), KeptBonus::Once(before)) => {
                *spent = spent.saturating_add(before);
            }
            // What was carried into the period is known to the earlier one alone.
            (KeptBonus::Recurring(used), KeptBonus::Recurring(before))
                if used.period == before.period =>
            {
                let spent = used.spent.saturating_add(before.spent);
                *used = BonusUse { spent, ..before };
            }
            _ => {}
        }
    }
}

/// Adds those of limits that none is known of.
fn add_of_limits<T, L>(known: &mut L, earlier: L, tag: fn(&T) -> &str)
where
    L: Extend<T> + IntoIterator<Item = T> + Deref<Target = [T]>,
{
    add_unknown(known, earlier, |one, other| tag(one) == tag(other));
}

/// Adds those that are not the same as a known one.
fn add_unknown<T, L>(known: &mut L, earlier: L, is_same: impl Fn(&T, &T) -> bool)
where
    L: Extend<T> + IntoIterator<Item = T> + Deref<Target = [T]>,
{
    for one in earlier {
        if !known.iter().any(|other| is_same(&one, other)) {
            known.extend([one]);
        }
    }
}

/// Encoded records on their way to a sink.
#[derive(Default)]
struct Encoded {
    records: Vec<(Key, Option<Vec<u8>>)>,
    buffer: Vec<u8>,
}

impl Encoded {
    fn add(&mut self, key: &Key, record: Option<&Record>) {
        let is_kept = record.is_some_and(|record| encode(key.as_str(), record, &mut self.buffer));
        let bytes = is_kept.then(|| self.buffer.clone());
        self.records.push((key.clone(), bytes));
    }

    fn write<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let mut records = self.records.drain(..);
        records.try_for_each(|(key, bytes)| sink.write(&key, bytes.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::super::limit_code::Limits;
    use super::super::record_code::decode;
    use super::*;
    use crate::limit::{Algorithm, Fixed, Limit};
    use crate::store::Charge;

    const AT: Timestamp = Timestamp::from_ms(1_750_000_000_000);
    const DAY_MS: u64 = 86_400_000;
    const PAIRS: usize = 400;

    /// A file for records, while the store goes on.
    struct Busy<'m> {
        memory: &'m Memory,
        limit: Arc<Limit>,
        records: HashMap<String, Vec<u8>>,
        /// Charges that are made between the writes.
        left: usize,
    }

    fn key(side: char, pair: usize) -> Key {
        let mut key = Key::of_domain("d");
        key.push_value("name", &format!("{side}{pair}"));
        key
    }

    fn charge(memory: &Memory, limit: &Arc<Limit>, pair: usize) {
        let mut batch = Batch::default();
        for side in ['a', 'b'] {
            let index = batch.key_index(key(side, pair));
            batch.charges.push(Charge::plain(index, limit.clone(), Hits::Spend(1)));
        }
        assert!(memory.charge_at(&batch, AT).admitted);
    }

    impl Busy<'_> {
        fn used(&self, side: char, pair: usize) -> u64 {
            let key = key(side, pair);
            let Some(bytes) = self.records.get(key.as_str()) else { return 0 };
            let record = decode(key.as_str(), bytes, &mut Limits::default()).unwrap();
            self.limit.used(&record.states[0].state, AT)
        }
    }

    impl RecordSink for Busy<'_> {
        type Error = Infallible;

        fn clear(&mut self) -> Result<(), Infallible> {
            self.records.clear();
            Ok(())
        }

        fn write(&mut self, key: &Key, bytes: Option<&[u8]>) -> Result<(), Infallible> {
            if let Some(left) = self.left.checked_sub(1) {
                self.left = left;
                charge(self.memory, &self.limit, left % PAIRS);
            }
            match bytes {
                Some(bytes) => self.records.insert(key.as_str().to_owned(), bytes.to_owned()),
                None => self.records.remove(key.as_str()),
            };
            Ok(())
        }
    }

    #[test]
    fn a_charge_of_several_records_is_written_whole_or_not_at_all() {
        let memory = Memory::new(1 << 20).keeping();
        let limit = Arc::new(Limit::new(1_000_000, Algorithm::Fixed(Fixed::new(DAY_MS))));
        (0..PAIRS).for_each(|pair| charge(&memory, &limit, pair));
        let mut sink = Busy { memory: &memory, limit, records: HashMap::new(), left: 0 };
        // Some with a few changes meanwhile, and some with one at each write.
        for (all, charges) in [(true, 300), (false, 50), (false, 100_000), (true, 100_000)] {
            sink.left = charges;
            memory.write_changes(all, &mut sink).unwrap();
            let written = (0..PAIRS).map(|pair| sink.used('a', pair));
            let expected: Vec<u64> = (0..PAIRS).map(|pair| sink.used('b', pair)).collect();
            assert_eq!(written.collect::<Vec<_>>(), expected, "{all}, {charges}");
            (0..PAIRS).for_each(|pair| charge(&memory, &sink.limit, pair));
        }
    }
}
