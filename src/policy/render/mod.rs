//! Rendering of policies: JSON, problems with excerpts, and the matching of a descriptor.

mod api_keys_json;
mod edits;
mod json;
mod limit_json;
mod problems;
mod trace;

pub use edits::{Edit, EditedPart, PolicyEdits};
pub use json::{digest, metadata_json};
pub use problems::render;
pub use trace::{RuleTrace, TraceEnd, TraceStep};
