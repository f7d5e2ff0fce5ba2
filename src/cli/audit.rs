//! `tollgate audit`: verifies files of the audit log.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{PROBLEMS, complain, print};
use crate::observe::audit::{Verified, verify};

const EXAMPLES: &str = "\
Examples:
  tollgate audit verify audit.jsonl*              The file and the rotated ones, in any order
  tollgate audit verify audit.jsonl --end 812:9f2c...
                                                  Line 812 still has the hash that was noted before

Exit status: 0 if no line was changed or removed, 1 if one was.";

pub fn command() -> Command {
    let verify = Command::new("verify")
        .about("Verify that no line of the audit log was changed or removed")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("Files of one audit log"),
        )
        .arg(Arg::new("end").long("end").value_name("SEQ:HASH").value_parser(known_line).help(
            "Also check that a line has this hash: the end that an earlier verification printed",
        ));
    Command::new("audit")
        .about("Verify files of the audit log")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(verify)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let Some(("verify", matches)) = matches.subcommand() else { return ExitCode::from(PROBLEMS) };
    let paths: Vec<PathBuf> = matches.get_many("file").unwrap_or_default().cloned().collect();
    let known = matches.get_one::<(u64, String)>("end");
    match verify(&paths, known.map(|(number, hash)| (*number, hash.as_str()))) {
        Ok(verified) => report(&verified),
        Err(error) => {
            complain(&format_args!("error: {error}"));
            ExitCode::from(PROBLEMS)
        }
    }
}

fn report(verified: &Verified) -> ExitCode {
    for problem in &verified.problems {
        complain(&format_args!("error: {problem}"));
    }
    if !verified.problems.is_empty() {
        return ExitCode::from(PROBLEMS);
    }
    let Verified { lines, first, end, erased, unchained, .. } = verified;
    if *lines == 0 && *unchained == 0 {
        return print(&"there are no lines");
    }
    if *lines == 0 {
        complain(&"error: no line has a hash");
        return ExitCode::from(PROBLEMS);
    }
    let mut text = format!(
        "{lines} lines from {first} on are unchanged; the end is {}:{}",
        end.number, end.hash
    );
    for (count, what) in [
        (*erased, "without a caller that was erased"),
        (*unchained, "of an older version, without a hash"),
    ] {
        if count != 0 {
            text += &format!("\n{count} lines {what}");
        }
    }
    print(&text)
}

/// A number and a hash.
fn known_line(text: &str) -> Result<(u64, String), String> {
    let parsed = text.split_once(':').and_then(|(number, hash)| {
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some((number.parse().ok()?, hash.to_ascii_lowercase())).filter(|_| is_hash)
    });
    parsed.ok_or_else(|| "use SEQ:HASH, as `tollgate audit verify` prints it".to_owned())
}
