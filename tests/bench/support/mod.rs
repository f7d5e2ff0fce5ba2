//! Shared code of the benchmarks: child processes, load, and usage figures of the operating system and Redis.

// Each benchmark uses a part.
#![allow(dead_code)]

pub mod children;
pub mod drive;
pub mod engine;
pub mod latencies;
pub mod message;
pub mod redis;
pub mod usage;
