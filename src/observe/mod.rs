//! Observability: logs, the audit log, and optional traces.

pub mod audit;
pub mod invalid;
pub mod logs;
pub mod traces;

mod text;
