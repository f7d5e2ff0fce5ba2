//! Observability: logs, the audit log, explanations of refusals, and optional traces.

pub mod audit;
pub mod eraser;
pub mod invalid;
pub mod logs;
pub mod recent_refusals;
pub mod refusal;
pub mod statsd;
pub mod traces;

mod instant;
mod otlp_http;
mod text;
