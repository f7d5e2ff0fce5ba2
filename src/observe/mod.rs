//! What operators see of Tollgate's work: logs, the audit log, and traces if they ask for them.

pub mod audit;
pub mod invalid;
pub mod logs;
pub mod traces;

mod text;
