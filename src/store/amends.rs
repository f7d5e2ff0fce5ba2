//! What is put right of a charge that another shard refused, or made less of: hits go back to the bonuses that they came
//! from, its thresholds are to be reported again, and the grace that it began has not begun.

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::Bonus;

/// Thresholds of one limit that are taken back at a time, whatever edits of a policy made of them.
const CROSSED_MAX: usize = 16;

/// What is put right of an earlier charge, by one that gives its hits back. One that has no hits reports the thresholds that
/// are crossed after that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amends {
    /// When the earlier charge was made.
    pub at: Timestamp,
    /// Hits that come back to each of the charge's bonuses, in their order. They are part of its hits.
    pub bonuses: SmallVec<[u64; 1]>,
    /// Thresholds that the earlier charge has crossed, in percent: the next charge reports those that it finds crossed.
    pub crossed: SmallVec<[u16; 4]>,
    /// When the earlier charge began a grace, if it did: it has not begun, unless a part of the charge stays and more than the
    /// limit is in use.
    pub grace_since: Option<Timestamp>,
    /// Whether all hits of the earlier charge come back.
    pub is_whole: bool,
}

impl Amends {
    /// Adds what is put right of another charge of the same limit with these bonuses, to one with those that are `known`.
    pub fn join(&mut self, known: &mut Vec<Bonus>, other: Self, bonuses: Vec<Bonus>) {
        self.at = self.at.min(other.at);
        self.bonuses.resize(known.len(), 0);
        for (bonus, hits) in bonuses.into_iter().zip(other.bonuses) {
            match known.iter().position(|known| known.id == bonus.id) {
                Some(place) => {
                    self.bonuses[place] = self.bonuses[place].saturating_add(hits);
                    known[place] = bonus;
                }
                None if hits != 0 => {
                    known.push(bonus);
                    self.bonuses.push(hits);
                }
                None => {}
            }
        }
        for percent in other.crossed {
            if self.crossed.len() < CROSSED_MAX && !self.crossed.contains(&percent) {
                self.crossed.push(percent);
            }
        }
        if other.grace_since.is_some() {
            (self.grace_since, self.is_whole) = (other.grace_since, other.is_whole);
        }
    }
}
