//! A limit that follows a signal: which signal, how, and the scale that is in force.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::limit::{Adjusted, Adjustment, AdjustmentState, Scale};
use crate::lock::lock;

/// How a limit follows a signal. A request reads the scale that is in force; whoever knows the signals sets it.
#[derive(Debug)]
pub struct Adjust {
    /// Tells it apart from all others: the same for the same domain, rule and limit, in every process.
    pub id: Box<str>,
    pub signal: SignalSource,
    pub adjustment: Adjustment,
    /// In hundredths of a percent.
    scale: AtomicU32,
    /// What the scale comes from. Locked for as long as it takes to copy a few words; requests don't look.
    in_force: Mutex<Option<InForce>>,
}

/// Where a signal comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalSource {
    /// It is reported under this name.
    Reported(Box<str>),
    /// It is the utilization of the limits that a descriptor with these entries meets, from 0 to 1.
    Utilization(Box<[(Box<str>, Box<str>)]>),
}

/// The scale that is in force, and what it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InForce {
    pub adjusted: Adjusted,
    /// None before the first signal.
    pub state: Option<AdjustmentState>,
}

impl Adjust {
    /// With all of the limit in force.
    pub fn new(id: Box<str>, signal: SignalSource, adjustment: Adjustment) -> Self {
        let scale = AtomicU32::new(Scale::ALL.hundredths());
        Self { id, signal, adjustment, scale, in_force: Mutex::new(None) }
    }

    /// How much of the limit is in force; never more than all.
    pub fn scale(&self) -> Scale {
        Scale::of_hundredths(self.scale.load(Ordering::Relaxed))
    }

    /// What the scale comes from; None if it was never set.
    pub fn in_force(&self) -> Option<InForce> {
        *lock(&self.in_force)
    }

    /// Sets the scale.
    pub fn put_in_force(&self, in_force: InForce) {
        self.scale.store(in_force.adjusted.scale.min(Scale::ALL).hundredths(), Ordering::Relaxed);
        *lock(&self.in_force) = Some(in_force);
    }
}

impl fmt::Display for SignalSource {
    /// The name of a signal, or the entries of a utilization, as in `utilization of provider=hotelbeds`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported(name) => f.write_str(name),
            Self::Utilization(entries) => {
                f.write_str("utilization of ")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{key}={value}")?;
                }
                Ok(())
            }
        }
    }
}
