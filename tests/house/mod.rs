//! The code and its documentation: rules for the code, and checks of the pages and of the files to deploy.

mod config;
mod deploy;
mod descriptors;
mod helm;
mod monitoring;
mod pages;
mod readme;
mod tidy;
mod tools;
