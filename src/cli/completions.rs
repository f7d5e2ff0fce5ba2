//! `tollgate completions` and `tollgate man`: shell completions and the manual page.

use std::process::ExitCode;

use clap::builder::EnumValueParser;
use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{PROBLEMS, USAGE, complain, print, serve};
use crate::version::VERSION;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  tollgate completions bash > /etc/bash_completion.d/tollgate
  tollgate completions zsh > \"${fpath[1]}/_tollgate\"
  tollgate completions fish > ~/.config/fish/completions/tollgate.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  tollgate man > /usr/local/share/man/man1/tollgate.1
  tollgate man check > /usr/local/share/man/man1/tollgate-check.1
  tollgate man | man -l -                         Show it";

pub fn completions_command() -> Command {
    Command::new("completions")
        .about("Print a shell completion script")
        .after_help(COMPLETIONS_EXAMPLES)
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(EnumValueParser::<Shell>::new())
                .help("The shell"),
        )
}

pub fn man_command() -> Command {
    Command::new("man")
        .about("Print the man page of tollgate, or of one of its commands")
        .after_help(MAN_EXAMPLES)
        .arg(Arg::new("command").value_name("COMMAND").help("The command; the main page if absent"))
}

/// Prints the script for a shell.
pub fn complete(matches: &ArgMatches, mut command: Command) -> ExitCode {
    let Some(shell) = matches.get_one::<Shell>("shell") else { return ExitCode::from(USAGE) };
    let name = command.get_name().to_owned();
    command = serve::with_words(command);
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script).trim_end())
}

/// Prints a man page.
pub fn man(matches: &ArgMatches, mut command: Command) -> ExitCode {
    command = serve::with_words(command);
    // The full names of the commands, such as `tollgate-check`, are known only after this.
    command.build();
    let page = matches.get_one::<String>("command").and_then(|name| command.find_subcommand(name));
    let page = page.unwrap_or(&command).clone();
    let mut text = Vec::new();
    match Man::new(page).source(format!("tollgate {VERSION}")).render(&mut text) {
        Ok(()) => print(&String::from_utf8_lossy(&text).trim_end()),
        Err(error) => {
            complain(&format_args!("error: writing the page failed: {error}"));
            ExitCode::from(PROBLEMS)
        }
    }
}
