//! Fixed windows, aligned to the Unix epoch: cheap, but up to twice the amount passes around an edge.

use super::window::Periods;

/// The shape of a fixed window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    window_ms: u64,
}

impl Fixed {
    /// Windows of `window_ms` (at least 1).
    pub fn new(window_ms: u64) -> Self {
        Self { window_ms }
    }

    /// The window's length in milliseconds.
    pub fn window_ms(&self) -> u64 {
        self.window_ms
    }
}

impl Periods for Fixed {
    fn end_ms(&self, now_ms: u64) -> u64 {
        (now_ms / self.window_ms + 1) * self.window_ms
    }
}
