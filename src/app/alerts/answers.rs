//! Gives the answers of alerts: restricts their callers.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::alerts::{AlertAnswer, Claimed, Keeper};
use crate::clock::Timestamp;
use crate::http::{Restriction, Restrictor};

/// Gives answers.
#[derive(Debug)]
pub struct Answers {
    restrictor: Restrictor,
    /// Whether the last change made answers wait because too many callers are restricted.
    is_full: bool,
}

impl Answers {
    /// Gives them by this restrictor.
    pub fn new(restrictor: Restrictor) -> Self {
        Self { restrictor, is_full: false }
    }

    /// Gives the answers that a change of the book has claimed. One that fails is told in the log; the alert stays open.
    pub async fn give(&mut self, keeper: &Arc<Keeper>, claimed: Claimed) {
        let Claimed { answers, delayed } = claimed;
        if delayed != 0 && !self.is_full {
            tracing::warn!(delayed, "answers of alerts wait: too many callers are restricted");
        }
        self.is_full = delayed != 0;
        let mut failed = BTreeSet::new();
        for AlertAnswer { alert, rule, caller, domain, tier, until_ms } in &answers {
            let restriction = Restriction {
                rule,
                caller,
                domain: domain.as_deref(),
                tier,
                until: Timestamp::from_ms(*until_ms),
            };
            match self.restrictor.restrict(&restriction).await {
                Ok(limits) => {
                    tracing::warn!(
                        rule,
                        alert = alert.as_str(),
                        tier,
                        limits,
                        "a caller is restricted"
                    );
                }
                Err(reason) => {
                    failed.insert(alert);
                    tracing::warn!(
                        rule,
                        alert = alert.as_str(),
                        tier,
                        reason,
                        "the answer of an alert can't be given"
                    );
                }
            }
        }
        if !failed.is_empty() {
            keeper.change(|book, _| failed.iter().for_each(|id| book.release_answer(id))).await;
        }
    }
}
