//! The number of sidecars that share a store, as set or as known from their heartbeats.

use std::sync::Mutex;

use crate::lock::lock;

/// How often in a row fewer sidecars must be heard of before that is believed: after a store was emptied, each is
/// alone in it at first.
const FEWER_MAX: u32 = 16;

/// How many sidecars there are to share a limit.
#[derive(Debug)]
pub enum Sidecars {
    /// As the settings say.
    Set(u32),
    /// As the store says.
    Heard(Mutex<Heard>),
}

/// What was heard of them.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    sidecars: u32,
    /// How often fewer were heard of since.
    fewer: u32,
}

impl Sidecars {
    /// So many, or as many as are heard of.
    pub fn new(sidecars: Option<u32>) -> Self {
        let heard = Heard { sidecars: 1, fewer: 0 };
        sidecars.map_or(Self::Heard(Mutex::new(heard)), |sidecars| Self::Set(sidecars.max(1)))
    }

    /// Hears how many there are; 0 tells nothing.
    pub fn hear(&self, sidecars: u32) {
        let Self::Heard(heard) = self else { return };
        if sidecars == 0 {
            return;
        }
        let mut heard = lock(heard);
        heard.fewer = if sidecars < heard.sidecars { heard.fewer + 1 } else { 0 };
        if heard.sidecars <= sidecars || FEWER_MAX <= heard.fewer {
            *heard = Heard { sidecars, fewer: 0 };
        }
    }

    /// How many there are.
    pub fn number(&self) -> u32 {
        match self {
            Self::Set(sidecars) => *sidecars,
            Self::Heard(heard) => lock(heard).sidecars,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_sidecars_are_believed_late() {
        let sidecars = Sidecars::new(None);
        let hear = |number, times| (0..times).for_each(|_| sidecars.hear(number));
        assert_eq!(sidecars.number(), 1);
        hear(0, 100);
        hear(7, 1);
        assert_eq!(sidecars.number(), 7);
        hear(2, FEWER_MAX - 1);
        hear(7, 1);
        hear(2, FEWER_MAX - 1);
        assert_eq!(sidecars.number(), 7);
        hear(2, 1);
        assert_eq!(sidecars.number(), 2);
    }
}
