//! A series: requests that differ only in their caller. Its names come from policies, so there are few series, and sums
//! refer to them by number.

use foldhash::fast::RandomState;
use indexmap::{Equivalent, IndexSet};

use crate::engine::Reason;

/// Maximum number of series, some 150 bytes each. More are counted under [`OTHER`].
pub const SERIES_MAX: usize = 8_192;

/// Stands for names beyond the maximum.
pub const OTHER: &str = "other";

/// The number of a series.
pub type SeriesId = u32;

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Allowed,
    Refused(Reason),
    /// For a limit: another limit refused the request.
    RefusedElsewhere,
    /// The store was unavailable.
    Error,
}

/// The subject of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject<S> {
    /// A request, counted once.
    Request,
    /// A limit that applied to a request, counted once per request, by its label.
    Limit(S),
    /// A request that was refused regardless of its limits.
    NoLimit,
    /// The money that a request cost, by kind of request. The hits of its counts are micro-units of the currency.
    Spend { currency: S, kind: S },
}

impl<S> Subject<S> {
    fn map<T>(self, to: impl Fn(S) -> T) -> Subject<T> {
        match self {
            Self::Request => Subject::Request,
            Self::Limit(limit) => Subject::Limit(to(limit)),
            Self::NoLimit => Subject::NoLimit,
            Self::Spend { currency, kind } => {
                Subject::Spend { currency: to(currency), kind: to(kind) }
            }
        }
    }

    fn as_ref(&self) -> Subject<&S> {
        match self {
            Self::Request => Subject::Request,
            Self::Limit(limit) => Subject::Limit(limit),
            Self::NoLimit => Subject::NoLimit,
            Self::Spend { currency, kind } => Subject::Spend { currency, kind },
        }
    }
}

/// The common properties of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series<S> {
    /// None if the domain is unknown.
    pub domain: Option<S>,
    /// None if the policy has no tiers.
    pub tier: Option<S>,
    /// The value of the request's first provider choice, else the provider of its price.
    pub provider: Option<S>,
    pub subject: Subject<S>,
    pub outcome: Outcome,
}

/// All series, by number.
#[derive(Debug, Default)]
pub struct SeriesTable(IndexSet<Series<Box<str>>, RandomState>);

impl Equivalent<Series<Box<str>>> for Series<&str> {
    fn equivalent(&self, other: &Series<Box<str>>) -> bool {
        *self == other.borrowed()
    }
}

impl Series<&str> {
    fn to_owned(self) -> Series<Box<str>> {
        Series {
            domain: self.domain.map(Box::from),
            tier: self.tier.map(Box::from),
            provider: self.provider.map(Box::from),
            subject: self.subject.map(Box::from),
            outcome: self.outcome,
        }
    }

    fn folded(self) -> Self {
        let subject = match self.subject {
            Subject::Limit(_) => Subject::Limit(OTHER),
            // Money stays in its currency.
            Subject::Spend { currency, .. } => Subject::Spend { currency, kind: OTHER },
            other => other,
        };
        Self { domain: Some(OTHER), tier: None, provider: None, subject, outcome: self.outcome }
    }
}

impl Series<Box<str>> {
    /// The same, borrowed.
    pub fn borrowed(&self) -> Series<&str> {
        Series {
            domain: self.domain.as_deref(),
            tier: self.tier.as_deref(),
            provider: self.provider.as_deref(),
            subject: self.subject.as_ref().map(|name| &**name),
            outcome: self.outcome,
        }
    }
}

impl SeriesTable {
    /// The number of a series, or of the series for all others.
    pub fn id(&mut self, series: Series<&str>) -> SeriesId {
        let known = self.0.get_index_of(&series).unwrap_or_else(|| {
            let counted = if self.0.len() < SERIES_MAX { series } else { series.folded() };
            self.0.insert_full(counted.to_owned()).0
        });
        SeriesId::try_from(known).unwrap_or(SeriesId::MAX)
    }

    /// The series with a number.
    pub fn get(&self, id: SeriesId) -> Option<Series<&str>> {
        self.0.get_index(usize::try_from(id).ok()?).map(Series::borrowed)
    }

    /// All series, by number.
    pub fn iter(&self) -> impl Iterator<Item = Series<&str>> {
        self.0.iter().map(Series::borrowed)
    }

    /// Removes series that are not marked in `used`, by number. Returns the new numbers by the old ones.
    pub fn retain(&mut self, used: impl Fn(SeriesId) -> bool) -> Vec<SeriesId> {
        let all = std::mem::take(&mut self.0);
        let mut renumbered = Vec::with_capacity(all.len());
        for (id, series) in (0..).zip(all) {
            renumbered.push(SeriesId::try_from(self.0.len()).unwrap_or(SeriesId::MAX));
            if used(id) {
                self.0.insert(series);
            }
        }
        renumbered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(limit: &str) -> Series<&str> {
        let subject = Subject::Limit(limit);
        Series { domain: Some("d"), tier: None, provider: None, subject, outcome: Outcome::Allowed }
    }

    #[test]
    fn series_beyond_the_bound_are_one_and_unused_ones_make_room() {
        let mut table = SeriesTable::default();
        let name = |number: usize| format!("limit-{number}");
        for number in 0..2 * SERIES_MAX {
            let id = table.id(series(&name(number)));
            assert_eq!(usize::try_from(id).unwrap(), number.min(SERIES_MAX));
        }
        let other = table.get(SeriesId::try_from(SERIES_MAX).unwrap()).unwrap();
        assert_eq!((other.domain, other.subject), (Some(OTHER), Subject::Limit(OTHER)));
        let numbers = table.retain(|id| id % 2 == 1);
        assert_eq!((numbers[1], numbers[3]), (0, 1));
        assert_eq!(table.get(1).map(|one| one.subject), Some(Subject::Limit("limit-3")));
        assert_eq!(table.id(series("limit-3")), 1);
        assert_eq!(table.id(series("new")), 4_096);
    }
}
