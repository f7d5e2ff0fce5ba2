//! What operators see of Tollgate's work: logs, and traces if they ask for them.

pub mod logs;
pub mod traces;
