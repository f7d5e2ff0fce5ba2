//! Requests through a real Envoy, or to the gRPC and HTTP ports of a running process.

mod api_commands;
mod audit;
mod callers;
mod charging;
mod choice;
mod connections;
mod counted;
mod edges;
mod envoy;
mod hostile;
mod modes;
mod overload;
mod quota;
mod recipes;
mod reload;
mod reservations;
mod resources;
mod retries;
mod season;
mod signals;
mod thresholds;
mod tls;
mod tokens;
mod travel;
mod upgrade;
mod usage;
