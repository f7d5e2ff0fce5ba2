//! Black-box tests of all features, and the rules of the code; `README.md` describes the folders.

// A test fails by panicking, and prints the reason to stderr.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod cli;
mod faults;
mod gateway;
mod house;
mod model;
mod policy;
mod store;
mod support;
