//! Whether hits of a limit may be taken ahead.

/// Whether a sidecar may take hits of a limit ahead and spend them by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// Every hit is charged when it is spent.
    #[default]
    Off,
    /// Hits are taken ahead where it pays.
    Auto,
}
