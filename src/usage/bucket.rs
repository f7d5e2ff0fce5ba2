//! The sums of one minute, hour or day: for the busiest callers one by one, for the others together.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use compact_str::CompactString;
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::counts::Counts;
use super::parts::PARTS;
use super::series::SeriesId;

/// Memory of a caller without its name and rows, and memory of a row, with the overhead of hash maps and allocations.
const CALLER_BYTES: usize = 128;
const ROW_BYTES: usize = 80;

type Rows = HashMap<SeriesId, Counts, RandomState>;

/// The sums of one minute, hour or day.
#[derive(Debug, Default)]
pub struct Bucket {
    /// Requests without a caller.
    rows: Rows,
    /// Requests of callers beyond the busiest.
    other: Rows,
    /// Names come from requests, so the map has a hash that can't be attacked.
    callers: HashMap<CompactString, Vec<(SeriesId, Counts)>>,
    caller_bytes: usize,
}

/// The name of a row in one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowName<'a> {
    None,
    Name(&'a str),
    /// For callers: all beyond the busiest.
    Other,
}

impl Bucket {
    /// Number of rows without a caller.
    pub fn len(&self) -> usize {
        self.rows.len() + self.other.len()
    }

    /// Adds counts by series. If callers take more than `bytes_max`, the busiest ones are kept in half of it.
    pub fn add(&mut self, caller: Option<&str>, counts: &[(SeriesId, Counts)], bytes_max: usize) {
        match caller {
            Some(caller) if 0 < bytes_max => self.add_caller(caller, counts, bytes_max),
            // There is no room for callers: all are one.
            _ => add_all(&mut self.rows, counts.iter().copied()),
        }
    }

    fn add_caller(&mut self, caller: &str, counts: &[(SeriesId, Counts)], bytes_max: usize) {
        if let Some(rows) = self.callers.get_mut(caller) {
            let missing =
                counts.iter().filter(|(id, _)| !rows.iter().any(|(known, _)| known == id));
            if self.caller_bytes + missing.count() * ROW_BYTES <= bytes_max {
                self.caller_bytes += add_rows(rows, counts) * ROW_BYTES;
                return;
            }
        }
        self.add_beyond(caller, counts, bytes_max);
    }

    /// Adds another bucket, whose series have these numbers here.
    pub fn absorb(&mut self, added: &Self, numbers: &[SeriesId], bytes_max: usize) {
        let plain = added.rows.iter().map(|(id, counts)| (*id, *counts));
        add_all(&mut self.rows, renumbered(plain, numbers));
        let other = added.other.iter().map(|(id, counts)| (*id, *counts));
        add_all(&mut self.other, renumbered(other, numbers));
        // Callers beyond the busiest of the other bucket would soon have to make room.
        let mut cut = added.cut(bytes_max / 2);
        for (caller, rows) in &added.callers {
            let is_busy = cut.keeps(caller, rows) || self.callers.contains_key(caller);
            let rows = renumbered(rows.iter().copied(), numbers);
            match is_busy {
                true => {
                    let rows: SmallVec<[_; PARTS]> = rows.collect();
                    self.add_caller(caller, &rows, bytes_max);
                }
                false => add_all(&mut self.other, rows),
            }
        }
    }

    /// Keeps the busiest callers in that many bytes, if they take more.
    pub fn shrink(&mut self, bytes_max: usize) {
        if bytes_max < self.caller_bytes {
            self.keep_busiest(bytes_max);
        }
    }

    /// Adds counts of a caller that has no place yet, for itself or for some of its series.
    fn add_beyond(&mut self, caller: &str, counts: &[(SeriesId, Counts)], bytes_max: usize) {
        // Of a known caller, more than it takes.
        let most = CALLER_BYTES + caller.len() + counts.len() * ROW_BYTES;
        if bytes_max < self.caller_bytes + most {
            self.keep_busiest(bytes_max / 2);
        }
        if bytes_max < self.caller_bytes + most {
            return add_all(&mut self.other, counts.iter().copied());
        }
        let rows = match self.callers.entry(caller.into()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.caller_bytes += CALLER_BYTES + caller.len();
                new.insert(Vec::with_capacity(counts.len()))
            }
        };
        self.caller_bytes += add_rows(rows, counts) * ROW_BYTES;
    }

    /// Every caller, with its rows.
    pub fn callers(&self) -> impl Iterator<Item = (&str, &[(SeriesId, Counts)])> {
        self.callers.iter().map(|(name, rows)| (&**name, &**rows))
    }

    /// Every row, with its caller.
    pub fn rows(&self) -> impl Iterator<Item = (RowName<'_>, SeriesId, &Counts)> {
        let plain = self.rows.iter().map(|(id, counts)| (RowName::None, *id, counts));
        let other = self.other.iter().map(|(id, counts)| (RowName::Other, *id, counts));
        let callers = self.callers.iter().flat_map(|(name, rows)| {
            rows.iter().map(|(id, counts)| (RowName::Name(name), *id, counts))
        });
        plain.chain(other).chain(callers)
    }

    /// Adds the counts of callers to the others, without their names, which are added to `names`.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool, names: &mut BTreeSet<String>) {
        let erased: Vec<CompactString> =
            self.callers.keys().filter(|name| is_erased(name)).cloned().collect();
        for name in erased {
            let rows = self.callers.remove(&name).unwrap_or_default();
            self.caller_bytes -= bytes_of(&name, &rows);
            add_all(&mut self.other, rows);
            names.insert(name.into());
        }
    }

    /// Renumbers series: the index is the old number.
    pub fn renumber(&mut self, numbers: &[SeriesId]) {
        for rows in [&mut self.rows, &mut self.other] {
            let old = std::mem::take(rows);
            rows.extend(renumbered(old, numbers));
        }
        for (id, _) in self.callers.values_mut().flatten() {
            *id = number(*id, numbers).unwrap_or(*id);
        }
    }

    /// Keeps the callers with the most requests, as far as memory allows, and sums the others.
    fn keep_busiest(&mut self, bytes_max: usize) {
        let mut cut = self.cut(bytes_max);
        let other = &mut self.other;
        let mut kept = 0;
        self.callers.retain(|name, rows| {
            let is_busy = cut.keeps(name, rows);
            match is_busy {
                true => kept += bytes_of(name, rows),
                false => add_all(other, rows.iter().copied()),
            }
            is_busy
        });
        self.caller_bytes = kept;
    }

    /// The callers with the most requests in that many bytes.
    fn cut(&self, bytes_max: usize) -> Cut {
        if self.caller_bytes <= bytes_max {
            return Cut { least: 0, of_equals: bytes_max };
        }
        let mut sizes: Vec<_> = self
            .callers
            .iter()
            .map(|(name, rows)| (requests(rows), bytes_of(name, rows)))
            .collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        let mut cut = Cut { least: u64::MAX, of_equals: bytes_max };
        let mut left = bytes_max;
        for (requests, bytes) in sizes {
            if requests != cut.least {
                cut = Cut { least: requests, of_equals: left };
            }
            if left < bytes {
                break;
            }
            left -= bytes;
        }
        cut
    }
}

/// The busiest callers of a bucket.
struct Cut {
    /// The fewest requests of one of them.
    least: u64,
    /// The bytes for callers with as many.
    of_equals: usize,
}

impl Cut {
    /// Whether a caller is among them; ask once for each.
    fn keeps(&mut self, name: &str, rows: &[(SeriesId, Counts)]) -> bool {
        let bytes = bytes_of(name, rows);
        match requests(rows).cmp(&self.least) {
            Ordering::Less => false,
            Ordering::Equal if self.of_equals < bytes => false,
            Ordering::Equal => {
                self.of_equals -= bytes;
                true
            }
            Ordering::Greater => true,
        }
    }
}

fn number(id: SeriesId, numbers: &[SeriesId]) -> Option<SeriesId> {
    numbers.get(usize::try_from(id).ok()?).copied()
}

/// Counts by the new numbers of series; the index is the old one.
fn renumbered(
    counts: impl IntoIterator<Item = (SeriesId, Counts)>,
    numbers: &[SeriesId],
) -> impl Iterator<Item = (SeriesId, Counts)> {
    counts.into_iter().filter_map(|(id, counts)| Some((number(id, numbers)?, counts)))
}

fn requests(rows: &[(SeriesId, Counts)]) -> u64 {
    rows.iter().map(|(_, counts)| counts.requests).sum()
}

/// The memory of a caller.
fn bytes_of(name: &str, rows: &[(SeriesId, Counts)]) -> usize {
    CALLER_BYTES + name.len() + rows.len() * ROW_BYTES
}

fn add_all(rows: &mut Rows, counts: impl IntoIterator<Item = (SeriesId, Counts)>) {
    for (series, counts) in counts {
        rows.entry(series).or_default().add(&counts);
    }
}

/// Adds counts to the rows of a caller, which take no more memory than they need. Returns how many are new.
fn add_rows(rows: &mut Vec<(SeriesId, Counts)>, counts: &[(SeriesId, Counts)]) -> usize {
    let before = rows.len();
    for (series, counts) in counts {
        match rows.iter_mut().find(|(id, _)| id == series) {
            Some((_, row)) => row.add(counts),
            None => {
                rows.reserve_exact(1);
                rows.push((*series, *counts));
            }
        }
    }
    rows.len() - before
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 64 * 1024;

    /// Adds a request.
    fn add(bucket: &mut Bucket, series: SeriesId, caller: Option<&str>, bytes_max: usize) {
        let counts = Counts { requests: 1, ..Counts::default() };
        bucket.add(caller, &[(series, counts)], bytes_max);
    }

    fn requests(bucket: &Bucket, of: RowName<'_>) -> u64 {
        let rows = bucket.rows().filter(|(caller, ..)| *caller == of);
        rows.map(|(_, _, counts)| counts.requests).sum()
    }

    #[test]
    fn a_flood_of_callers_takes_no_more_memory_and_hides_no_busy_caller() {
        let mut bucket = Bucket::default();
        for flood in 0..100_000_u32 {
            add(&mut bucket, 0, Some(&format!("flood-{flood:0200}")), BYTES_MAX);
            if flood % 10 == 0 {
                add(&mut bucket, 0, Some("busy"), BYTES_MAX);
                add(&mut bucket, flood % 7, None, BYTES_MAX);
            }
            assert!(bucket.caller_bytes <= BYTES_MAX);
        }
        let bytes = bucket.callers.iter().map(|(name, rows)| {
            assert_eq!(rows.capacity(), rows.len());
            bytes_of(name, rows)
        });
        assert_eq!(bytes.sum::<usize>(), bucket.caller_bytes);
        assert_eq!(requests(&bucket, RowName::Name("busy")), 10_000);
        assert_eq!(requests(&bucket, RowName::None), 10_000);
        let all: u64 = bucket.rows().map(|(_, _, counts)| counts.requests).sum();
        assert_eq!(all, 120_000);
        assert_eq!(bucket.len(), 8);
    }

    #[test]
    fn an_erased_caller_is_summed_without_its_name() {
        let mut bucket = Bucket::default();
        for caller in ["a", "b", "a"] {
            add(&mut bucket, 0, Some(caller), BYTES_MAX);
        }
        let mut names = BTreeSet::new();
        bucket.erase(&|caller| caller == "a", &mut names);
        assert_eq!(names, BTreeSet::from(["a".to_owned()]));
        let counted = [RowName::Name("a"), RowName::Name("b"), RowName::Other];
        assert_eq!(counted.map(|name| requests(&bucket, name)), [0, 1, 2]);
        assert_eq!(bucket.caller_bytes, CALLER_BYTES + 1 + ROW_BYTES);
    }

    #[test]
    fn a_caller_beyond_the_bound_by_itself_is_summed() {
        let mut bucket = Bucket::default();
        for series in 0..1_000 {
            add(&mut bucket, series, Some("many"), 4_096);
        }
        add(&mut bucket, 0, Some(&"x".repeat(10_000)), 4_096);
        assert!(bucket.caller_bytes <= 4_096);
        let all: u64 = bucket.rows().map(|(_, _, counts)| counts.requests).sum();
        assert_eq!(all, 1_001);
    }
}
