//! Sends notifications to the receivers of their channels.

mod address;
mod chat;
mod event;
mod http;
mod mail;
mod retry;
mod send_error;
mod senders;
mod signature;
mod tls;

pub use send_error::SendError;
pub use senders::Senders;
