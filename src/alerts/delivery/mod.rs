//! Sends notifications to the receivers of their channels.

mod address;
mod chat;
mod event;
mod files;
mod http;
mod mail;
mod needs;
mod retry;
mod send_error;
mod senders;
mod signature;
mod templated;
mod tls;
mod wording;

pub use needs::check_need;
pub use send_error::SendError;
pub use senders::Senders;
