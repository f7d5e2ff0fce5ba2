//! The readiness of this process: one phase that every health check reports.
//!
//! gRPC health, `/readyz` and `/healthcheck` all read it, so they always agree. It does not include the store: while
//! the store is unavailable, `on_outage` answers, and a restart or another endpoint would not help.

use std::sync::Arc;

use tokio::sync::watch;

/// The phase of the process. Phases only advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No policy is in force yet.
    #[default]
    Starting,
    /// Requests are accepted.
    Ready,
    /// The process will end: requests are answered, but new ones should go elsewhere.
    Draining,
}

/// The process's phase, shared by its writers and readers.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    phase: Arc<watch::Sender<Phase>>,
}

impl Phase {
    /// The reason not to send requests now; None if they are accepted.
    pub fn objection(self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("no policy is loaded yet"),
            Self::Ready => None,
            Self::Draining => Some("the process is draining"),
        }
    }
}

impl Readiness {
    /// A policy is in force: requests are accepted, unless the process already drains.
    pub fn set_ready(&self) {
        self.enter(Phase::Ready);
    }

    /// The process will end.
    pub fn drain(&self) {
        self.enter(Phase::Draining);
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns the current phase, and then each change.
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
