//! Gifts of hits from one caller to another, as a directory keeps them.

use std::sync::Arc;
use std::time::Duration;

use super::caller_record::Change;
use crate::clock::Timestamp;

/// How long the mark lives of hits that were taken for a gift, in milliseconds: 30 days.
pub const GIFT_MARK_MS: u32 = 30 * 24 * 3_600_000;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long a gift is known that has come to an end. Longer than the mark of its hits, or a gift of the same id could get
/// the hits that are marked.
pub const GIFT_KEPT: Duration = DAY.saturating_mul(31);

/// Maximum number of lines about gifts of one caller.
pub const GIFT_LOG_LEN_MAX: usize = 200;

/// How long the lines of a caller are kept after the last one.
pub const GIFT_LOG_LIFE: Duration = DAY.saturating_mul(90);

/// Hits of a bonus that one caller gives to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gift {
    pub id: String,
    pub from: String,
    pub to: String,
    /// The name of the limit.
    pub limit: String,
    pub hits: u64,
    /// The id of the giver's bonus that they are taken from.
    pub bonus: String,
    /// When they end. [`Timestamp::MAX`] for never.
    pub until: Timestamp,
    /// The counter of the giver: the domain and the entries after the caller's.
    pub domain: String,
    pub entries: Vec<(String, String)>,
    /// When it began.
    pub at: Timestamp,
    pub state: GiftState,
}

/// How far a gift has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiftState {
    /// The hits may have been taken from the giver, and nobody has got them yet.
    Pending,
    /// The receiver has them.
    Done,
    /// The giver did not have them; nothing was taken.
    Refused,
    /// The receiver could not take them, and the giver has them back as a bonus; nobody has them if neither caller is in the
    /// directory any more.
    Returned,
}

/// A change of a gift, with the caller that gets its hits by that change.
#[derive(Clone, Copy, Debug)]
pub struct GiftChange<'a> {
    /// As the writer saw it; None: it was not there.
    pub seen: Option<&'a Gift>,
    pub gift: &'a Gift,
    /// The caller that gets the hits; None: nobody does.
    pub credit: Option<Change<'a>>,
    pub log: &'a [GiftEvent],
}

/// What a caller is told of a gift later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiftEvent {
    /// The caller.
    pub caller: Arc<str>,
    pub at: Timestamp,
    pub kind: GiftEventKind,
    /// The gift's id.
    pub gift: String,
    pub limit: String,
    /// The caller's bonus that has them now, or had them.
    pub bonus: String,
    pub hits: u64,
    /// The other caller.
    pub with: String,
}

/// What happened to a caller's hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiftEventKind {
    /// They were taken from a bonus.
    Given,
    /// They came with a gift.
    Received,
    /// They came back, because the receiver could not take them.
    Returned,
}

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErasedGifts {
    /// Gifts and lines about gifts.
    pub count: u64,
    /// A gift has still to be carried on, for which its names are needed.
    pub is_pending: bool,
}

impl Gift {
    /// Whether both are the same gift, however far they have come.
    pub fn is_same(&self, other: &Self) -> bool {
        let what = |gift: &Self| {
            let Self { id, from, to, limit, hits, domain, entries, .. } = gift.clone();
            (id, from, to, limit, hits, domain, entries)
        };
        what(self) == what(other)
    }
}
