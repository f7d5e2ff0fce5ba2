//! What providers have counted themselves, by hour, to be compared with what was decided.

use super::Book;
use super::kept::ProviderCount;
use super::outage::Deed;

/// Maximum number of counts: those of two days of some 40 providers. The oldest gives way.
const COUNTS_MAX: usize = 2_000;

impl Book {
    /// Takes a count. It replaces an earlier one of the same hour.
    pub fn note_count(&mut self, count: &ProviderCount) {
        self.add_count(count);
        self.note(|| Deed::Counted(count.clone()));
    }

    pub(super) fn add_count(&mut self, count: &ProviderCount) {
        let key = |one: &ProviderCount| (one.domain.clone(), one.provider.clone(), one.start_ms);
        match self.counts.iter_mut().find(|known| key(known) == key(count)) {
            Some(known) => known.hits = count.hits,
            None => self.counts.push(count.clone()),
        }
        if COUNTS_MAX < self.counts.len() {
            self.counts.sort_by_key(|one| one.start_ms);
            self.counts.remove(0);
        }
    }

    /// The counts of providers.
    pub fn counts(&self) -> &[ProviderCount] {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_kept_once_for_each_hour_and_the_oldest_gives_way() {
        let mut book = Book::default();
        let mut note = |start_ms, hits| {
            let (domain, provider) = ("d".to_owned(), "near".to_owned());
            book.note_count(&ProviderCount { domain, provider, start_ms, hits });
        };
        note(7, 1);
        note(7, 2);
        (8..8 + COUNTS_MAX as u64).for_each(|start_ms| note(start_ms, 3));
        let counts = book.counts();
        assert_eq!(counts.len(), COUNTS_MAX);
        assert!(
            counts.iter().all(|one| one.hits == 3),
            "the one of 7 was replaced, and has given way"
        );
        assert_eq!(Book::decode(&book.encode()).unwrap().counts(), counts);
    }
}
