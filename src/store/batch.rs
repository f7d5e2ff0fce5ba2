//! What one request asks of a store, and what the store answers.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Amends, Notice, Once, Reservation, Retry};
use crate::clock::Timestamp;
use crate::limit::{Algorithm, Bonus, Fit, Hits, Limit, Overdraft, Standing};
use crate::policy::{Key, Lease, Mode, OnOutage, Refused};

/// Elements that are kept inline, without an allocation: the charges of a usual request.
pub const INLINE_CAP: usize = 4;

/// Levels of a gauge.
pub const LEVELS_MAX: u8 = 4;

/// Tells the limit of a look from others under the same key, of which there are fewer.
const LOOKING: &str = "#looking";

/// Bytes of a bonus's id.
pub const BONUS_ID_LEN_MAX: usize = 32;

/// All the charges of one request. They are made together or not at all. No two of them have both key and
/// tag in common: whoever builds the batch adds up what meets on one counter.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The counters that the charges use; each stands here once.
    pub keys: SmallVec<[Key; INLINE_CAP]>,
    /// The charges, those of one group side by side.
    pub charges: Vec<Charge>,
    /// What follows how much of a counter is used; mostly nothing.
    pub gauges: Vec<Gauge>,
}

/// Spend these hits of this limit under this key.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Which of the batch's keys.
    pub key_index: usize,
    /// Charges of one group stand or fall together: the limits of one rule in one mode.
    pub group: usize,
    /// What it means when the limit does not have the hits.
    pub mode: Mode,
    pub limit: Arc<Limit>,
    pub hits: Hits,
    /// How much of the limit's capacity is open to this request.
    pub open: Open,
    /// Hits on top of it, the soonest to end first; spent when what is open has none left. No two have the
    /// same id, and an id has at most [`BONUS_ID_LEN_MAX`] bytes.
    pub bonuses: Vec<Bonus>,
    /// Which of the bonuses alone has its hits, by index, if only one may: what is held of the limit must be left beside them, of
    /// all that is open and all bonuses. No wait is promised for them. For a charge without overdraft and grace that takes all
    /// its hits or none.
    pub bonus_alone: Option<usize>,
    /// Whether to report how the bonuses stand.
    pub tells_bonuses: bool,
    /// Whether hits of it may be taken ahead.
    pub lease: Lease,
    /// What to answer while the store is out.
    pub on_outage: OnOutage,
    /// What becomes of its hits when the request is refused.
    pub refused: Refused,
    /// Hits to take on top when the request passes, for a lease; zero for none. Only a charge of a sliding
    /// limit that is plain otherwise asks for any.
    pub ahead: u64,
    /// For hits that come back because they were spent in vain: until when they count (`limit/refund.rs`). From
    /// then on nothing is taken, and never the hits of others. None for all other charges.
    pub until: Option<Timestamp>,
    /// What else is put right of the charge that spent them; None where nothing is.
    pub amends: Option<Box<Amends>>,
    /// For charges that may arrive again: they are made once, however often they do.
    pub once: Option<Once>,
    /// From 1 to [`super::PARTS_MAX`] for hits that may be taken in part: the charges of one part all take as many as the enforced one
    /// of them has that has least. 0 for hits of which all are taken or none.
    pub part: u8,
    /// Whether reservations count as used, and what it does with them; None where they don't count. One that settles is
    /// [`Refused::Booked`], one that holds, extends or releases is [`Refused::Free`]; none takes hits ahead.
    pub reservation: Option<Box<Reservation>>,
}

/// How much of a limit's capacity is open to one request: all of it unless something says less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// While no gauge presses, of the limit's reference capacity; more than that is all of it.
    pub hits: u64,
    /// While gauges press: the least of all that do.
    pub pressed: Vec<Pressed>,
}

/// What is open of a limit at each level of a gauge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// Which of the batch's gauges.
    pub gauge: usize,
    /// By level from 1 on, of the limit's reference capacity; as many as the gauge has levels, none more than the one before.
    pub hits: SmallVec<[u64; 2]>,
}

/// A level that follows how much of a counter is used, for all sidecars alike: it stands in the record
/// under its key. It rises when a mark of a higher level is passed, and falls when all marks of its level
/// are back at a lower point, so that it does not flap. A key has at most one gauge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Which of the batch's keys.
    pub key_index: usize,
    /// What makes it rise and fall.
    pub marks: SmallVec<[Mark; INLINE_CAP]>,
}

/// Two points of a limit's use, in hits of its reference capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which of the batch's charges tells the use; one under the gauge's key.
    pub charge: usize,
    /// The level, from 1 to [`LEVELS_MAX`].
    pub level: u8,
    /// The gauge stands at this level or above once more than this is used.
    pub rise: u64,
    /// And does until every mark of this level or above has at most this in use; at most `rise`.
    pub fall: u64,
}

/// The store's answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the request passes. If not, nothing was spent but what was counted all the same.
    pub admitted: bool,
    /// The time by which the store decided.
    pub at: Timestamp,
    /// One for each charge, in order.
    pub decisions: Vec<Decision>,
    /// The level by which the store decided, one for each gauge, in order.
    pub levels: SmallVec<[u8; 1]>,
    /// What there is to report beside, by charge; mostly nothing.
    pub notices: Vec<Notice>,
    /// The store was out, and this process decided by what the charges say of that.
    pub fallback: bool,
}

/// The answer to one charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether this limit had the hits; if not, when it would.
    pub fit: Fit,
    /// How the limit stands after the request.
    pub standing: Standing,
    /// Hits that were taken ahead, which the standing has as spent.
    pub ahead: u64,
    /// Hits that don't count: they passed, and the limit's overdraft clips them; of a charge that is made in part, they did not
    /// pass; of hits that come back, the limit had not so many in use, or they did not come back ([`Charge::comes_back`]).
    pub clipped: u64,
    /// The store was out and the limit's `on_outage` is `error`: it is unknown whether it had the hits.
    pub failed: bool,
    /// The hits count although the request, or the charge's group, was refused: see [`Refused::Counted`].
    pub counted: bool,
    /// For charges with an idempotency key: what was found under it.
    pub retry: Option<Retry>,
}

impl Decision {
    /// Nothing but this.
    pub fn new(fit: Fit, standing: Standing) -> Self {
        Self { fit, standing, ahead: 0, clipped: 0, failed: false, counted: false, retry: None }
    }
}

impl Outcome {
    /// Whether anything was spent, or may have been.
    pub fn is_charged(&self) -> bool {
        self.admitted || self.decisions.iter().any(|decision| decision.counted)
    }

    /// Hits that a grace would let pass beyond what remains of a charge's limit, as far as it was reported.
    pub fn grace_left(&self, charge: usize) -> u64 {
        let notice = self.notices.iter().find(|notice| notice.charge == charge);
        notice.map_or(0, |notice| notice.grace_left)
    }

    /// The answer to a batch without charges.
    pub fn nothing(at: Timestamp) -> Self {
        let (decisions, levels, notices) = (Vec::new(), SmallVec::new(), Vec::new());
        Self { admitted: true, at, decisions, levels, notices, fallback: false }
    }
}

impl Charge {
    /// A plain charge that is enforced, in a group of its own if it is the batch's first.
    pub fn plain(key_index: usize, limit: Arc<Limit>, hits: Hits) -> Self {
        Self {
            key_index,
            group: 0,
            mode: Mode::Enforce,
            limit,
            hits,
            open: Open::all(),
            bonuses: Vec::new(),
            bonus_alone: None,
            tells_bonuses: false,
            lease: Lease::Off,
            on_outage: OnOutage::default(),
            refused: Refused::Free,
            ahead: 0,
            until: None,
            amends: None,
            once: None,
            part: 0,
            reservation: None,
        }
    }

    /// Whether all of the limit's capacity is open to it, whatever any gauge says, and nothing else.
    pub fn is_plain(&self) -> bool {
        self.limit.capacity() <= self.open.hits && self.open.pressed.is_empty() && self.is_simple()
    }

    /// Whether nothing but how much of the capacity is open makes it special.
    pub fn is_simple(&self) -> bool {
        self.once.is_none()
            && self.limit.scheduled().is_none()
            && self.limit.thresholds().is_none()
            && self.is_nearly_simple()
    }

    /// Whether nothing but that, its limit's schedule and thresholds, and an idempotency key makes it special.
    pub fn is_nearly_simple(&self) -> bool {
        matches!(self.once, None | Some(Once::Mark(_)))
            && self.ahead == 0
            && self.part == 0
            && self.until.is_none()
            && self.amends.is_none()
            && self.reservation.is_none()
            && self.bonuses.is_empty()
            && self.alone().is_none()
            && self.limit.overdraft() == Overdraft::None
            && self.limit.grace().is_none()
            && self.refused == Refused::Free
    }

    /// Whether it looks whether its limit is overdrawn.
    pub fn is_peek(&self) -> bool {
        self.refused == Refused::Counted
            && self.limit.overdraft() == Overdraft::None
            && self.hits == Hits::Spend(0)
    }

    /// Whether hits come back that are given back later, if the store is out.
    pub fn may_come_back_later(&self) -> bool {
        let is_held = self.reservation.as_ref().is_some_and(|step| step.id().is_some());
        matches!(self.hits, Hits::GiveBack(1..)) && self.on_outage == OnOutage::Local && !is_held
    }

    /// Whether its hits come back to what is spent of its limit: then its decision tells how many did not. What settles or
    /// releases a reservation does not.
    pub fn comes_back(&self) -> bool {
        let is_spent = || {
            let step = self.step();
            matches!(step, None | Some(Reservation::Count | Reservation::ReleaseEstimates { .. }))
        };
        matches!(self.hits, Hits::GiveBack(_)) && is_spent()
    }

    /// Whether its hits may count although the request is refused.
    pub fn is_debit(&self) -> bool {
        self.refused != Refused::Free && matches!(self.hits, Hits::Spend(1..))
    }

    /// Whether it is made although the limits of other rules refuse the request: its hits were used, or it settles a
    /// reservation or an estimate, be it for none.
    pub fn is_booked(&self) -> bool {
        let settles_none = || self.only_estimates() && matches!(self.hits, Hits::Spend(_));
        self.refused == Refused::Booked && (self.is_debit() || self.settles() || settles_none())
    }

    /// What becomes of hits that count and that the limit does not have.
    pub fn overdraft(&self) -> Overdraft {
        match self.limit.overdraft() {
            Overdraft::None if self.refused != Refused::Free => Overdraft::Allow,
            overdraft => overdraft,
        }
    }
}

impl Open {
    /// All of the limit's capacity, whatever any gauge says.
    pub fn all() -> Self {
        Self { hits: u64::MAX, pressed: Vec::new() }
    }
}

impl Batch {
    /// The index of `key` among the batch's keys, which it joins if it is new.
    pub fn key_index(&mut self, key: Key) -> usize {
        match self.keys.iter().position(|known| *known == key) {
            Some(index) => index,
            None => {
                self.keys.push(key);
                self.keys.len() - 1
            }
        }
    }

    /// Takes over a charge of a batch with these keys. Its own key and that of its mark join this batch's.
    pub fn adopt(&mut self, charge: &Charge, keys: &[Key]) -> Charge {
        let key_index = self.key_index(keys[charge.key_index].clone());
        let once = charge.once.map(|once| match once.mark() {
            Some(mark) => once.under(self.key_index(keys[usize::from(mark.key_index)].clone())),
            None => once,
        });
        Charge { key_index, once, ..charge.clone() }
    }

    /// Has it only be looked at: adds a charge that is refused, so nothing is spent. Its decision comes last.
    pub fn look(&mut self) {
        let nothing = Limit::new(0, Algorithm::Total).marked(LOOKING);
        let group = self.charges.last().map_or(0, |last| last.group + 1);
        let refused = Charge::plain(0, Arc::new(nothing), Hits::Spend(1));
        self.charges.push(Charge { group, on_outage: OnOutage::Deny, ..refused });
    }

    /// Whether all debits of a request that these decisions refuse count all the same: only debits are refused. What any
    /// other limit refuses costs nothing but what is booked ([`Charge::is_booked`]).
    pub fn counts_refused(&self, decisions: &[Decision]) -> bool {
        let mut left = decisions;
        self.groups().all(|charges| {
            let (group, rest) = left.split_at(charges.len());
            left = rest;
            !charges[0].mode.refuses() || lacks_debits_only(charges, group)
        })
    }

    /// Whether it is not to be charged any more once nobody waits for the answer. What comes back, and is counted nowhere else
    /// meanwhile, is still to be given back then; so is what is sent until an answer comes.
    pub fn expires(&self) -> bool {
        let stays = |charge: &Charge| {
            let is_sent_again = matches!(charge.once, Some(Once::Token(_)));
            is_sent_again || charge.until.is_some() || charge.may_come_back_later()
        };
        !self.charges.iter().all(stays)
    }

    /// The charges by group.
    pub fn groups(&self) -> impl Iterator<Item = &[Charge]> {
        self.charges.chunk_by(|one, next| one.group == next.group)
    }
}

/// Whether a group's limits have all hits that are no debits.
pub fn lacks_debits_only(charges: &[Charge], decisions: &[Decision]) -> bool {
    let mut all = charges.iter().zip(decisions);
    all.all(|(charge, decision)| decision.fit == Fit::Now || charge.is_debit())
}
