//! How many hits the descriptors of a request ask of one charge together.

use crate::engine::request::HitsSource;
use crate::limit::Hits;

/// Hits that meet on one charge.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestedHits {
    /// By descriptors that end at the rule; they add up.
    own: Sum,
    /// By descriptors that pass through a cascading rule; together they are one request, so the most
    /// of them counts, and only what exceeds the rule's own.
    inherited: Sum,
    /// Whether any of them asks, if only for a look.
    spends: bool,
    /// Whether any of them doesn't say itself for how many.
    pub unnamed: bool,
    /// Whether any of them only asks how the limit stands.
    pub peeks: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    spent: u64,
    given_back: u64,
}

impl RequestedHits {
    /// Adds what one descriptor asks for.
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

    /// What all descriptors together ask for.
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
