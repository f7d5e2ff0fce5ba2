//! The policy language: invalid files, edits, explanations, configurations of envoyproxy/ratelimit.

mod adjust;
mod edits;
mod explain;
pub mod policies;
mod reference;
mod season;
mod workspace;
