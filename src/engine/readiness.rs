//! The readiness of this process: one phase that every health check reports.
//!
//! gRPC health, `/readyz` and `/healthcheck` all look here, so they can't disagree. The store is not part of
//! it: while it is out, the policy's `on_outage` answers, and a restart or another endpoint would not help.

use std::sync::Arc;

use tokio::sync::watch;

/// Where the process is in its life. It only ever goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No policy is in force yet.
    #[default]
    Starting,
    /// Requests are welcome.
    Ready,
    /// The process is about to end: requests are answered, but should go elsewhere.
    Draining,
}

/// The process's phase, shared by its writers and readers.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    phase: Arc<watch::Sender<Phase>>,
}

impl Phase {
    /// Why requests should not come now; None if they may.
    pub fn objection(self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("no policy is loaded yet"),
            Self::Ready => None,
            Self::Draining => Some("the process is draining"),
        }
    }
}

impl Readiness {
    /// A policy is in force: requests are welcome, unless the process already drains.
    pub fn set_ready(&self) {
        self.enter(Phase::Ready);
    }

    /// The process is about to end.
    pub fn drain(&self) {
        self.enter(Phase::Draining);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Tells each change of the phase, and first the phase now.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = *phase < next;
            *phase = next.max(*phase);
            forward
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_only_goes_forward() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.drain();
        readiness.set_ready();
        assert_eq!(readiness.phase(), Phase::Draining);
    }

    #[test]
    fn a_clone_sees_and_watches_the_same_phase() {
        let readiness = Readiness::default();
        let twin = readiness.clone();
        let watch = twin.watch();
        assert_eq!(watch.borrow().objection(), Some("no policy is loaded yet"));
        readiness.set_ready();
        assert!(watch.has_changed().unwrap());
        assert_eq!((watch.borrow().objection(), twin.phase()), (None, Phase::Ready));
    }
}
