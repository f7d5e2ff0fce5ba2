//! The program: runs the command line.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::run(env::args_os())
}
