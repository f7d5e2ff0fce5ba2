//! Joins policy and store: what a request asks, which limits it meets, and what the answer is.

mod request;
mod verdict;

pub use request::DESCRIPTORS_MAX;
pub use request::Descriptor;
pub use request::ENTRIES_MAX;
pub use request::Override;
pub use request::Request;
pub use request::RequestError;
pub use verdict::Code;
pub use verdict::Status;
pub use verdict::StatusLimit;
pub use verdict::Verdict;
