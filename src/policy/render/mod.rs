//! What people and programs read of policies: JSON, problems with excerpts, and how a descriptor matched.

mod json;
mod limit_json;
mod problems;
mod trace;

pub use json::{digest, metadata_json};
pub use problems::render;
pub use trace::{RuleTrace, TraceEnd, TraceStep};
