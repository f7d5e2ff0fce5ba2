//! What the benchmarks share: children, load, and what the operating system and Redis say of them.

// Each benchmark uses a part.
#![allow(dead_code)]

pub mod children;
pub mod drive;
pub mod engine;
pub mod latencies;
pub mod message;
pub mod redis;
pub mod usage;
