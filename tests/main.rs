//! Everything that a user can see, tested from outside, and the rules of the code; `README.md` says where what is.

// A test fails by panicking, and says on stderr why it could not run.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod cli;
mod faults;
mod gateway;
mod house;
mod model;
mod policy;
mod store;
mod support;
