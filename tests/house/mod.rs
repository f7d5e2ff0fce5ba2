//! The code and its documentation: rules of the code, and what the pages and the files to deploy say is true.

mod config;
mod deploy;
mod descriptors;
mod pages;
mod readme;
mod tidy;
