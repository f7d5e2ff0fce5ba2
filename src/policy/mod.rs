//! What the policy files say.

mod key;
mod mode;
mod problem;
mod unit;

pub use key::Key;
pub use mode::Mode;
pub use problem::Problem;
pub use problem::Severity;
pub use problem::Source;
pub use unit::Unit;
