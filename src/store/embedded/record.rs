//! What the embedded store keeps under one key: the states of one rule's limits for one path.

use std::sync::Arc;

use smallvec::SmallVec;

use super::kept::{BonusSpent, Correction, KeptBonus, KeptMark};
use crate::clock::Timestamp;
use crate::limit::{GraceBegun, Hits, Holdings, Limit, Reported, State};
use crate::store::{IdempotencyMark, IdempotencyToken, TOKEN_LIFE_MS};

/// The power of the used share in a weight: so high that a nearly exhausted limit outweighs a hardly used one whatever their
/// windows.
const SHARE_POWER: i32 = 8;

/// A share below this weighs as much: the count of a caller who has used little of a large limit must not be lost again and
/// again to names with a single hit, or it would never grow.
const SHARE_MIN: f64 = 0.1;

/// A factor for limits with one hit in use: the cheapest state that a sender can make, one for each name.
const SINGLE_HIT: f64 = 1e-7;

/// A factor for marks of retries, so low that each weighs less than any counter in use: a sender makes one for each request.
const MARK: f64 = 1e-30;

const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;

/// The states of one rule's limits for one path.
#[derive(Debug, Default)]
pub struct Record {
    /// Most records have one, which takes no allocation.
    pub states: SmallVec<[Entry; 1]>,
    /// What few records have.
    pub(super) extra: Option<Box<Extra>>,
    /// [`Record::expiry_ms`] when it was stored, [`u64::MAX`] for never. So a sweep reads nothing else of a record, which would
    /// be a cache miss or two.
    pub(super) sweep_ms: u64,
}

/// The state of one limit.
#[derive(Debug)]
pub struct Entry {
    /// The limit as it was when something was first spent of it: its tag tells which one it is.
    pub limit: Arc<Limit>,
    pub state: State,
    /// When the state is empty by itself; None for one that never is.
    pub expiry_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Extra {
    /// The level of the record's gauge. It lives as long as anything else here.
    pub(super) level: u8,
    pub(super) bonuses: Vec<BonusSpent>,
    pub(super) seen: Vec<Seen>,
    pub(super) reported: Vec<ReportedOf>,
    /// Mostly none, or one under a key of its own.
    pub(super) marks: SmallVec<[KeptMark; 1]>,
    pub(super) graces: Vec<GraceOf>,
    pub(super) corrections: Vec<Correction>,
    pub(super) holdings: Vec<HoldingsOf>,
}

/// The greatest number that was seen of a sidecar's charges on one limit that are made once.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) limit_tag: Arc<str>,
    pub(super) token: IdempotencyToken,
    pub(super) until_ms: u64,
}

/// What was told of the thresholds of one limit.
#[derive(Debug)]
pub(super) struct ReportedOf {
    pub(super) limit_tag: Arc<str>,
    pub(super) reported: Reported,
    /// When it is forgotten; None for when the state is empty.
    pub(super) expiry_ms: Option<u64>,
}

/// The grace of one limit that has begun.
#[derive(Debug)]
pub(super) struct GraceOf {
    pub(super) limit_tag: Arc<str>,
    pub(super) begun: GraceBegun,
}

/// What reservations hold of one limit.
#[derive(Debug)]
pub(super) struct HoldingsOf {
    pub(super) limit_tag: Arc<str>,
    pub(super) holdings: Holdings,
}

impl Entry {
    pub fn lives(&self, now: Timestamp) -> bool {
        !matches!(self.state, State::Empty)
            && self.expiry_ms.is_none_or(|end_ms| now.as_ms() < end_ms)
    }
}

impl Record {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty() && self.extra.is_none()
    }

    /// How much is lost with it: the weight of its heaviest limit or bonus. A limit weighs the milliseconds until it is empty by
    /// itself, at most a year, times the eighth power of the share that is used (a tenth at least), and far less with a single
    /// hit in use. A bonus weighs as an exhausted limit, and so do hits that are held; a mark less than any limit in use. At least
    /// 0, never NaN; 0 for a record that has expired.
    pub fn weight(&self, now: Timestamp) -> f64 {
        let left_ms = |end_ms: u64| end_ms.saturating_sub(now.as_ms()).min(YEAR_MS) as f64;
        let states = self.states.iter().map(|entry| {
            let capacity = entry.limit.capacity().max(1);
            let used = entry.limit.used(&entry.state, now);
            let effort = match used {
                0 => 0.0,
                1 => SINGLE_HIT,
                _ => 1.0,
            };
            let share = (used.min(capacity) as f64 / capacity as f64).max(SHARE_MIN);
            effort * share.powi(SHARE_POWER) * left_ms(entry.expiry_ms.unwrap_or(u64::MAX))
        });
        let bonuses = self.extra.iter().flat_map(|extra| &extra.bonuses);
        let bonuses = bonuses.map(|bonus| left_ms(bonus.until_ms));
        let marks = self.extra.iter().flat_map(|extra| &extra.marks);
        let marks = marks.map(|mark| MARK * left_ms(mark.until_ms));
        let holdings = self.extra.iter().flat_map(|extra| &extra.holdings);
        let held = holdings.map(|of| left_ms(of.holdings.last_ms()));
        states.chain(bonuses).chain(marks).chain(held).fold(0.0, f64::max)
    }

    /// When the whole record is empty by itself; None if it never is.
    pub fn expiry_ms(&self) -> Option<u64> {
        let bonuses = self.extra.iter().flat_map(|extra| &extra.bonuses);
        let seen = self.extra.iter().flat_map(|extra| &extra.seen);
        let marks = self.extra.iter().flat_map(|extra| &extra.marks);
        let reported = self.extra.iter().flat_map(|extra| &extra.reported);
        let ends = bonuses.map(|bonus| bonus.until_ms).chain(seen.map(|seen| seen.until_ms));
        let ends = ends.chain(marks.map(|mark| mark.until_ms));
        let ends = ends.chain(reported.filter_map(|reported| reported.expiry_ms));
        let graces = self.extra.iter().flat_map(|extra| &extra.graces);
        let ends = ends.chain(graces.filter_map(|grace| grace.begun.again_ms));
        let corrections = self.extra.iter().flat_map(|extra| &extra.corrections);
        let ends = ends.chain(corrections.map(Correction::until_ms));
        let holdings = self.extra.iter().flat_map(|extra| &extra.holdings);
        let ends = ends.chain(holdings.map(|of| of.holdings.last_ms()));
        let latest = ends.max().unwrap_or(0);
        self.states.iter().try_fold(latest, |latest, entry| Some(entry.expiry_ms?.max(latest)))
    }

    /// The place of a limit's state, which is new if it wasn't there.
    pub fn place(&mut self, limit: &Arc<Limit>) -> usize {
        self.find(limit).unwrap_or_else(|| {
            let (limit, state) = (limit.clone(), State::Empty);
            self.states.push(Entry { limit, state, expiry_ms: Some(0) });
            self.states.len() - 1
        })
    }

    /// The place of a limit's state.
    pub fn find(&self, limit: &Arc<Limit>) -> Option<usize> {
        let same = |known: &Arc<Limit>| Arc::ptr_eq(known, limit) || known.tag() == limit.tag();
        self.states.iter().position(|entry| same(&entry.limit))
    }

    /// The level of the record's gauge.
    pub fn level(&self) -> u8 {
        self.extra.as_ref().map_or(0, |extra| extra.level)
    }

    /// Keeps the level of the record's gauge.
    pub fn set_level(&mut self, level: u8) {
        if level != self.level() {
            self.extra.get_or_insert_default().level = level;
        }
    }

    /// What has been spent of a bonus on a limit; None if that is nothing.
    pub fn bonus(&mut self, limit_tag: &str, id: &str) -> Option<&mut BonusSpent> {
        let mut bonuses = self.extra.as_mut()?.bonuses.iter_mut();
        bonuses.find(|bonus| *bonus.limit_tag == *limit_tag && *bonus.id == *id)
    }

    /// Counts for the first time what has been spent of a bonus.
    pub fn add_bonus(&mut self, limit_tag: &Arc<str>, id: &Arc<str>, spent: (KeptBonus, u64)) {
        let (spent, until_ms) = spent;
        let (limit_tag, id) = (limit_tag.clone(), id.clone());
        let spent = BonusSpent { limit_tag, id, spent, until_ms };
        self.extra.get_or_insert_default().bonuses.push(spent);
    }

    /// Whether a charge on a limit that is made once has been made.
    pub fn has_seen(&self, limit_tag: &str, token: IdempotencyToken) -> bool {
        let mut seen = self.extra.iter().flat_map(|extra| &extra.seen);
        seen.any(|seen| {
            *seen.limit_tag == *limit_tag
                && seen.token.by == token.by
                && token.number <= seen.token.number
        })
    }

    /// Remembers that a charge on a limit has been made.
    pub fn see(&mut self, limit_tag: &Arc<str>, token: IdempotencyToken, now: Timestamp) {
        let seen = &mut self.extra.get_or_insert_default().seen;
        seen.retain(|known| known.limit_tag != *limit_tag || known.token.by != token.by);
        let until_ms = now.as_ms() + TOKEN_LIFE_MS;
        seen.push(Seen { limit_tag: limit_tag.clone(), token, until_ms });
    }

    /// What was told of a limit's thresholds.
    pub fn reported(&self, limit_tag: &str) -> Reported {
        let mut reported = self.extra.iter().flat_map(|extra| &extra.reported);
        reported
            .find(|known| *known.limit_tag == *limit_tag)
            .map_or(Reported::default(), |known| known.reported.clone())
    }

    /// When that is forgotten; None for as long as the limit has a state.
    pub fn reported_expiry_ms(&self, limit_tag: &str) -> Option<u64> {
        let mut reported = self.extra.iter().flat_map(|extra| &extra.reported);
        reported.find(|known| *known.limit_tag == *limit_tag)?.expiry_ms
    }

    /// Keeps what was told of a limit's thresholds, until that time; None for as long as the limit has a state.
    pub fn keep_reported(
        &mut self,
        limit_tag: &Arc<str>,
        reported: Reported,
        expiry_ms: Option<u64>,
    ) {
        if reported.is_empty() && self.extra.is_none() {
            return;
        }
        let all = &mut self.extra.get_or_insert_default().reported;
        all.retain(|known| known.limit_tag != *limit_tag);
        if !reported.is_empty() {
            all.push(ReportedOf { limit_tag: limit_tag.clone(), reported, expiry_ms });
        }
    }

    /// The mark of a charge on a limit.
    pub fn mark(&mut self, limit_tag: &str) -> Option<&mut KeptMark> {
        let mut marks = self.extra.as_mut()?.marks.iter_mut();
        marks.find(|mark| *mark.limit_tag == *limit_tag)
    }

    /// Marks a charge of so many hits on a limit, which may be of one bonus alone.
    pub fn set_mark(
        &mut self,
        (limit_tag, hits): (&Arc<str>, Hits),
        (asked, is_of_bonus): (IdempotencyMark, bool),
        now: Timestamp,
    ) {
        self.remove_mark(limit_tag);
        let until_ms = now.as_ms() + u64::from(asked.life_ms);
        let limit_tag = limit_tag.clone();
        let attempts = SmallVec::from_elem(asked.attempt, 1);
        let granted = hits.amount();
        let mark = KeptMark {
            limit_tag,
            hits,
            granted,
            bonuses: Box::default(),
            attempts,
            retries: 0,
            is_of_bonus,
            is_refused: false,
            until_ms,
        };
        self.extra.get_or_insert_default().marks.push(mark);
    }

    /// Removes the mark of a charge on a limit.
    pub fn remove_mark(&mut self, limit_tag: &str) {
        if let Some(extra) = &mut self.extra {
            extra.marks.retain(|mark| *mark.limit_tag != *limit_tag);
        }
    }

    /// The grace of a limit that has begun.
    pub fn grace(&self, limit_tag: &str) -> Option<GraceBegun> {
        let mut graces = self.extra.iter().flat_map(|extra| &extra.graces);
        graces.find(|known| *known.limit_tag == *limit_tag).map(|known| known.begun)
    }

    /// Keeps the grace of a limit that has begun, until another one may.
    pub fn keep_grace(&mut self, limit_tag: &Arc<str>, begun: Option<GraceBegun>) {
        if begun.is_none() && self.extra.is_none() {
            return;
        }
        let all = &mut self.extra.get_or_insert_default().graces;
        all.retain(|known| known.limit_tag != *limit_tag);
        all.extend(begun.map(|begun| GraceOf { limit_tag: limit_tag.clone(), begun }));
    }

    /// The last correction of the count of a limit.
    pub fn correction(&self, limit_tag: &str) -> Option<&Correction> {
        let mut corrections = self.extra.iter().flat_map(|extra| &extra.corrections);
        corrections.find(|known| *known.limit_tag == *limit_tag)
    }

    /// Remembers that the count of a limit was corrected by so many hits.
    pub fn set_correction(&mut self, limit_tag: &Arc<str>, hits: Hits, now: Timestamp) {
        let all = &mut self.extra.get_or_insert_default().corrections;
        all.retain(|known| known.limit_tag != *limit_tag);
        all.push(Correction { limit_tag: limit_tag.clone(), at_ms: now.as_ms(), hits });
    }

    /// What reservations hold of a limit.
    pub fn holdings(&self, limit_tag: &str) -> &Holdings {
        let mut all = self.extra.iter().flat_map(|extra| &extra.holdings);
        all.find(|of| *of.limit_tag == *limit_tag).map_or(Holdings::NONE, |of| &of.holdings)
    }

    /// The same, to be changed.
    pub fn holdings_mut(&mut self, limit_tag: &Arc<str>) -> &mut Holdings {
        let all = &mut self.extra.get_or_insert_default().holdings;
        let place = all.iter().position(|of| of.limit_tag == *limit_tag).unwrap_or_else(|| {
            let (limit_tag, holdings) = (limit_tag.clone(), Holdings::default());
            all.push(HoldingsOf { limit_tag, holdings });
            all.len() - 1
        });
        &mut all[place].holdings
    }

    /// Drops what is empty or was written to be gone by `now`.
    pub fn forget(&mut self, now: Timestamp) {
        self.states.retain(|entry| entry.lives(now));
        if let Some(extra) = &mut self.extra {
            extra.bonuses.retain(|bonus| !bonus.spent.is_empty() && now.as_ms() < bonus.until_ms);
            extra.seen.retain(|seen| now.as_ms() < seen.until_ms);
            extra.marks.retain(|mark| now.as_ms() < mark.until_ms);
            extra.corrections.retain(|correction| now.as_ms() < correction.until_ms());
            extra.holdings.iter_mut().for_each(|of| of.holdings.lapse(now));
            extra.holdings.retain(|of| !of.holdings.is_empty());
            let states = &self.states;
            let lives = |tag: &Arc<str>| states.iter().any(|entry| entry.limit.tag() == tag);
            extra.reported.retain(|reported| match reported.expiry_ms {
                Some(end_ms) => now.as_ms() < end_ms,
                None => lives(&reported.limit_tag),
            });
            extra.graces.retain(|grace| match grace.begun.again_ms {
                Some(again_ms) => now.as_ms() < again_ms,
                None => lives(&grace.limit_tag),
            });
            let level = if states.is_empty() { 0 } else { extra.level };
            let rest = extra.bonuses.len()
                + extra.seen.len()
                + extra.reported.len()
                + extra.marks.len()
                + extra.graces.len()
                + extra.corrections.len()
                + extra.holdings.len();
            if rest == 0 && level == 0 {
                self.extra = None;
            }
        }
    }
}
