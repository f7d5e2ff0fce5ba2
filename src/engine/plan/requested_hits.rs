//! The sum of the hits that the descriptors of a request ask of one charge.

use crate::engine::request::HitsSource;
use crate::limit::Hits;

/// The requested hits of one charge.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestedHits {
    /// Of descriptors that end at the rule; they are added.
    own: Sum,
    /// Of descriptors that pass through a cascading rule. Together they are one request, so only the largest counts,
    /// and only the part above the rule's own hits.
    inherited: Sum,
    /// Whether any descriptor requests hits, or is a peek.
    spends: bool,
    /// Whether any descriptor has no hits of its own.
    pub unnamed: bool,
    /// Whether any descriptor is a peek.
    pub peeks: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    spent: u64,
    given_back: u64,
}

impl RequestedHits {
    /// Adds the hits of one descriptor.
    pub fn add(&mut self, (hits, source): (Hits, HitsSource), inherited: bool) {
        let sum = if inherited { &mut self.inherited } else { &mut self.own };
        self.unnamed |= source == HitsSource::Request;
        let amount = hits.amount();
        self.spends |= matches!(hits, Hits::Spend(_));
        let total = match hits {
            Hits::Spend(_) => &mut sum.spent,
            Hits::GiveBack(_) => &mut sum.given_back,
        };
        *total = if inherited { amount.max(*total) } else { total.saturating_add(amount) };
    }

    /// The hits of all descriptors together.
    pub fn hits(self) -> Hits {
        let spent = self.own.spent.max(self.inherited.spent);
        let given_back = self.own.given_back.max(self.inherited.given_back);
        match spent.checked_sub(given_back) {
            Some(hits) if self.spends => Hits::Spend(hits),
            Some(_) => Hits::GiveBack(0),
            None => Hits::GiveBack(given_back - spent),
        }
    }
}
