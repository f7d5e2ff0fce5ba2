//! Tollgate: a rate-limit and quota sidecar for Envoy.
//!
//! The modules stand in reading order; each uses only those before it.

pub mod version;
pub mod lock;
pub mod printable;
pub mod api_token;
pub mod tls_client;
pub mod clock;
pub mod metrics;
pub mod limit;
pub mod policy;
pub mod api_keys;
pub mod store;
pub mod engine;
pub mod answer;
pub mod usage;
pub mod alerts;
pub mod observe;
pub mod listen;
pub mod grpc;
pub mod http;
pub mod settings;
pub mod app;
pub mod cli;
