//! Leases: whether sidecars may take hits ahead.

/// Whether a sidecar may take hits of a limit ahead and spend them locally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// Every hit is charged when it is spent.
    #[default]
    Off,
    /// Hits are taken ahead for frequently used keys.
    Auto,
}

/// Minimum amount for leases.
pub const LEASED_AMOUNT_MIN: u64 = 64;
