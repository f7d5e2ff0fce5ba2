//! Everything that a user can see, tested from outside: gRPC, HTTP, the command line and files.

// A test fails by panicking, and says on stderr why it could not run.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod choice;
mod callers;
mod charging;
mod cli;
mod cluster;
mod config;
mod connections;
mod counted;
mod deploy;
mod descriptors;
mod directory;
mod edges;
mod edits;
mod explain;
mod faults;
mod gateway;
mod hostile;
mod leases;
mod model;
mod overload;
mod pages;
mod parity;
mod policies;
mod readme;
mod recipes;
mod redis_store;
mod reference;
mod reload;
mod sharing_races;
mod store_contract;
mod store_debits;
mod store_allowance;
mod support;
mod tidy;
mod tls;
mod tokens;
mod travel;
mod upgrade;
