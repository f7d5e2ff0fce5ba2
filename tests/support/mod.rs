//! What several tests need.

pub mod batch;
pub mod redis;
