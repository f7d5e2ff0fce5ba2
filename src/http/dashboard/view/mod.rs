//! The HTML of pages, made of what the queries beside this folder have read. All texts are escaped.

pub mod alerts;
pub mod api_keys;
pub mod audit;
pub mod caller;
pub mod callers;
pub mod change;
pub mod layout;
pub mod limit;
pub mod login;
pub mod me;
pub mod overview;
pub mod parts;
pub mod policies;
mod provider_changes;
pub mod providers;
pub mod replay;
pub mod usage;
