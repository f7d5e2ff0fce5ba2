//! Sends requests to the engines of tests, and renders their verdicts.

use super::{Answer, render};
use crate::engine::testing::{Bench, descriptor};
use crate::engine::{Code, Descriptor, Request};

impl Bench {
    /// Sends a request.
    pub async fn ask(&self, descriptors: Vec<Descriptor<'_>>) -> Answer {
        let snapshot = self.engine.snapshot();
        let request = Request::try_new("d", descriptors).unwrap();
        render(&*self.engine.check(&snapshot, &request).await)
    }

    /// Sends descriptors with one hit each.
    pub async fn ask_for(&self, descriptors: &[&str]) -> Answer {
        self.ask(descriptors.iter().map(|text| descriptor(text)).collect()).await
    }

    /// The overall code, and the remaining hits of each descriptor.
    pub async fn check(&self, descriptors: &[&str], code: Code, remaining: &[u32]) {
        let answer = self.ask_for(descriptors).await;
        let left: Vec<u32> = answer.statuses.iter().map(|status| status.remaining).collect();
        assert_eq!((answer.code, left.as_slice()), (code, remaining), "{descriptors:?}");
    }
}
