//! Tollgate: a rate-limit and quota sidecar for Envoy.
//!
//! The modules stand in reading order; each uses only those before it.

pub mod app;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod grpc;
pub mod http;
pub mod limit;
pub mod metrics;
pub mod observe;
pub mod policy;
pub mod settings;
pub mod store;
