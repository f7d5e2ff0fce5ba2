//! The HTML of pages, made of what the queries beside this folder have read. All texts are escaped.

pub mod layout;
pub mod login;
pub mod overview;
pub mod parts;
