//! The number of sidecars that share a store: fixed by a setting, or counted by their heartbeats.

use std::sync::Mutex;

use crate::lock::lock;

/// How often in a row a lower number must be reported before it applies: after a store was emptied, each sidecar is
/// alone in it at first.
const FEWER_MAX: u32 = 16;

/// The number of sidecars that share a limit.
#[derive(Debug)]
pub enum Sidecars {
    /// Fixed by the setting.
    Set(u32),
    /// Counted by the store.
    Counted(Mutex<Counted>),
}

/// The counted number.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    sidecars: u32,
    /// How often in a row a lower number was reported.
    fewer: u32,
}

impl Sidecars {
    /// The number of the setting, or else the counted one.
    pub fn new(sidecars: Option<u32>) -> Self {
        let counted = Counted { sidecars: 1, fewer: 0 };
        sidecars.map_or(Self::Counted(Mutex::new(counted)), |sidecars| Self::Set(sidecars.max(1)))
    }

    /// Records a reported number; 0 means unknown.
    pub fn record(&self, sidecars: u32) {
        let Self::Counted(counted) = self else { return };
        if sidecars == 0 {
            return;
        }
        let mut counted = lock(counted);
        counted.fewer = if sidecars < counted.sidecars { counted.fewer + 1 } else { 0 };
        if counted.sidecars <= sidecars || FEWER_MAX <= counted.fewer {
            *counted = Counted { sidecars, fewer: 0 };
        }
    }

    /// The number of sidecars.
    pub fn number(&self) -> u32 {
        match self {
            Self::Set(sidecars) => *sidecars,
            Self::Counted(counted) => lock(counted).sidecars,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_sidecars_are_believed_late() {
        let sidecars = Sidecars::new(None);
        let record = |number, times| (0..times).for_each(|_| sidecars.record(number));
        assert_eq!(sidecars.number(), 1);
        record(0, 100);
        record(7, 1);
        assert_eq!(sidecars.number(), 7);
        record(2, FEWER_MAX - 1);
        record(7, 1);
        record(2, FEWER_MAX - 1);
        assert_eq!(sidecars.number(), 7);
        record(2, 1);
        assert_eq!(sidecars.number(), 2);
    }
}
