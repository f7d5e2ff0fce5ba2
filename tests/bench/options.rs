//! What the load run is asked to do.

use anyhow::Context;
use anyhow::Error;
use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use clap::value_parser;

/// How much load, and on whom besides our own servers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decisions of one run.
    pub requests: usize,
    /// How often each server has its turn.
    pub rounds: usize,
    pub connections: usize,
    /// Requests in flight on one connection.
    pub streams: usize,
    pub peers: Vec<Peer>,
    /// Whether this process is to be the floor instead.
    pub serves_floor: bool,
}

/// Another server that somebody has started.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    pub address: String,
    pub process: u32,
}

impl Options {
    /// Reads the command line, or ends the process with help.
    pub fn read() -> Self {
        let matches = command().get_matches();
        Self {
            requests: number(&matches, "requests"),
            rounds: number(&matches, "rounds"),
            connections: number(&matches, "connections"),
            streams: number(&matches, "streams"),
            peers: matches.get_many("peer").into_iter().flatten().cloned().collect(),
            serves_floor: matches.get_flag("serve-floor"),
        }
    }
}

fn command() -> Command {
    let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue).hide(true);
    let count = |name, default, help| {
        let parser = value_parser!(u64).range(1..=10_000_000);
        Arg::new(name).long(name).default_value(default).value_parser(parser).help(help)
    };
    let peer = Arg::new("peer")
        .long("peer")
        .value_name("NAME=HOST:PORT=PID")
        .action(ArgAction::Append)
        .value_parser(peer)
        .help("Another RLS server, with the process whose CPU time counts; may be repeated");
    Command::new("load")
        .about("Drives rate-limit servers in turns and prints what a decision costs each of them")
        .arg(count("requests", "20000", "Decisions of one run"))
        .arg(count("rounds", "5", "How often each server has its turn"))
        .arg(count("connections", "2", "Connections to a server"))
        .arg(count("streams", "16", "Requests in flight on a connection"))
        .arg(peer)
        .arg(flag("serve-floor"))
        // What cargo says to every benchmark.
        .arg(flag("bench"))
}

fn number(matches: &ArgMatches, name: &str) -> usize {
    let number = *matches.get_one::<u64>(name).expect("it has a default");
    usize::try_from(number).expect("the parser's range fits")
}

fn peer(text: &str) -> Result<Peer, Error> {
    let (name, rest) = text.split_once('=').context("expected NAME=HOST:PORT=PID")?;
    let (address, process) = rest.rsplit_once('=').context("expected NAME=HOST:PORT=PID")?;
    let process = process.parse().context("the PID is no number")?;
    Ok(Peer { name: name.to_owned(), address: address.to_owned(), process })
}
