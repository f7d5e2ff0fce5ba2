//! How the bonuses of a caller stand on a limit.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::limit::Bonus;
use crate::store::{BonusStand, Charge, Notice};

/// A bonus as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BonusStanding {
    pub bonus: Bonus,
    pub stand: BonusStand,
    /// When its hits end that count now: with its period, if it recurs. None for never.
    pub expires: Option<Timestamp>,
}

impl BonusStanding {
    /// Those of a charge that are valid, in the order in which they are spent, of which the store reported so at that time.
    pub fn all(charge: &Charge, notice: Option<&Notice>, at: Timestamp) -> Vec<Self> {
        let stands = notice.map_or(&[][..], |notice| &notice.bonuses);
        let valid = charge.bonuses.iter().filter(|bonus| at < bonus.until);
        let standings = valid.zip(stands).map(|(bonus, stand)| {
            let expires = bonus.expires(at);
            Self {
                bonus: bonus.clone(),
                stand: *stand,
                expires: (expires != Timestamp::MAX).then_some(expires),
            }
        });
        standings.collect()
    }

    /// Hits that it has in all, with those that were carried over.
    pub fn amount(&self) -> u64 {
        self.bonus.amount.saturating_add(self.stand.carried)
    }

    /// Hits that are left.
    pub fn remaining(&self) -> u64 {
        self.amount().saturating_sub(self.stand.spent)
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.bonus.id
    }
}
