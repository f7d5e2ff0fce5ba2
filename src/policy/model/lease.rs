//! Leases: whether sidecars may take its hits ahead.

/// Whether a sidecar may take hits of a limit ahead and spend them by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// Every hit is charged when it is spent.
    #[default]
    Off,
    /// Hits are taken ahead where that is possible and pays.
    Auto,
}

/// The smallest amount of which a sidecar takes hits ahead.
pub const LEASED_AMOUNT_MIN: u64 = 64;
