//! Sends notifications to the receivers of their channels.

mod address;
mod event;
mod http;
mod retry;
mod send_error;
mod senders;
mod signature;
mod tls;

pub use send_error::SendError;
pub use senders::Senders;
