//! The options of the load benchmark.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Error};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::workload::Workload;
use crate::support::drive::Shape;

/// The amount of load, and other servers to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub workloads: Vec<Workload>,
    /// Number of decisions in one run.
    pub requests: usize,
    /// Number of rounds.
    pub rounds: usize,
    pub shape: Shape,
    pub with_leases: bool,
    /// The Envoy for the gateway benchmark, instead of the servers themselves.
    pub envoy: Option<PathBuf>,
    /// The timeout of the client of the flood benchmark, if it is to be run.
    pub flood: Option<Duration>,
    pub markdown: bool,
    /// Other builds of Tollgate.
    pub builds: Vec<Build>,
    /// This build with further arguments.
    pub variants: Vec<Variant>,
    pub peers: Vec<Peer>,
    /// Parts of the names of the servers to run; all if empty.
    pub only: Vec<String>,
    /// Whether this process is the floor.
    pub serves_floor: bool,
}

/// An existing build of Tollgate.
#[derive(Clone, Debug)]
pub struct Build {
    pub name: String,
    pub program: PathBuf,
}

/// This build with further arguments.
#[derive(Clone, Debug)]
pub struct Variant {
    pub name: String,
    pub arguments: Vec<String>,
}

/// Another server that is already running.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    pub address: String,
    pub process: u32,
    /// The address of the Redis that only it uses.
    pub redis: Option<String>,
}

impl Options {
    /// Parses the command line, or ends the process with help.
    pub fn read() -> Self {
        let matches = command().get_matches();
        let texts = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned();
        let asked: Vec<String> = texts("workload").collect();
        let is_asked =
            |one: &Workload| asked.is_empty() || asked.iter().any(|name| name == one.name());
        Self {
            workloads: Workload::ALL.into_iter().filter(is_asked).collect(),
            requests: number(&matches, "requests"),
            rounds: number(&matches, "rounds"),
            shape: Shape {
                connections: number(&matches, "connections"),
                streams: number(&matches, "streams"),
            },
            with_leases: matches.get_flag("leases"),
            envoy: matches.get_one("envoy").cloned(),
            flood: matches.get_one("flood").copied().map(Duration::from_millis),
            markdown: matches.get_flag("markdown"),
            builds: matches.get_many("tollgate").into_iter().flatten().cloned().collect(),
            variants: matches.get_many("with").into_iter().flatten().cloned().collect(),
            peers: matches.get_many("peer").into_iter().flatten().cloned().collect(),
            only: texts("only").collect(),
            serves_floor: matches.get_flag("serve-floor"),
        }
    }
}

fn command() -> Command {
    let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let list = |name, value| Arg::new(name).long(name).value_name(value).action(ArgAction::Append);
    let count = |name, default, help| {
        let parser = value_parser!(u64).range(1..=10_000_000);
        Arg::new(name).long(name).default_value(default).value_parser(parser).help(help)
    };
    let workload = list("workload", "NAME")
        .value_parser(PossibleValuesParser::new(Workload::ALL.map(Workload::name)))
        .help("What is asked; may be repeated; all if not given");
    let build = list("tollgate", "[NAME=]PATH")
        .value_parser(|text: &str| Ok::<_, Error>(build(text)))
        .help("Another build of Tollgate, run embedded and on Redis; may be repeated");
    let variant = list("with", "NAME=ARGUMENTS")
        .value_parser(variant)
        .help("This build with these arguments too, between blanks; may be repeated");
    let peer = list("peer", "NAME=HOST:PORT=PID[=REDIS]").value_parser(peer).help(
        "Another RLS server, with the process whose CPU time counts and the address of the Redis that is its own \
         (HOST:PORT or a socket's path); may be repeated",
    );
    let envoy =
        list("envoy", "PATH").action(ArgAction::Set).value_parser(value_parser!(PathBuf)).help(
            "Measure what asking our servers adds to the way through this Envoy, and nothing else",
        );
    let flood = list("flood", "MS").action(ArgAction::Set).value_parser(value_parser!(u64)).help(
        "Measure what a client is answered that waits so many milliseconds and has far too much in flight, and nothing \
         else",
    );
    Command::new("load")
        .about("Drives rate-limit servers in turns and prints what a decision costs each of them")
        .arg(workload)
        .arg(count("requests", "20000", "Decisions of one run"))
        .arg(count("rounds", "5", "How often each server has its turn"))
        .arg(count("connections", "2", "Connections to a server"))
        .arg(count("streams", "16", "Requests in flight on a connection"))
        .arg(flag("leases").help("Run Tollgate on Redis with `lease: auto` too"))
        .arg(flood)
        .arg(flag("markdown").help("Print the tables as Markdown"))
        .arg(build)
        .arg(variant)
        .arg(envoy)
        .arg(peer)
        .arg(
            list("only", "TEXT")
                .help("Run the floor and the servers whose names hold this; may be repeated"),
        )
        .arg(flag("serve-floor").hide(true))
        // cargo adds this to every benchmark.
        .arg(flag("bench").hide(true))
}

fn number(matches: &ArgMatches, name: &str) -> usize {
    let number = *matches.get_one::<u64>(name).expect("it has a default");
    usize::try_from(number).expect("the parser's range fits")
}

fn build(text: &str) -> Build {
    let (name, program) = text.split_once('=').unwrap_or((text, text));
    Build { name: name.to_owned(), program: program.into() }
}

fn variant(text: &str) -> Result<Variant, Error> {
    let (name, arguments) = text.split_once('=').context("expected NAME=ARGUMENTS")?;
    let arguments = arguments.split_whitespace().map(str::to_owned).collect();
    Ok(Variant { name: name.to_owned(), arguments })
}

fn peer(text: &str) -> Result<Peer, Error> {
    let mut parts = text.splitn(4, '=').map(str::to_owned);
    let mut part = || parts.next().context("expected NAME=HOST:PORT=PID[=REDIS]");
    let (name, address, process) = (part()?, part()?, part()?);
    let process = process.parse().context("the PID is no number")?;
    Ok(Peer { name, address, process, redis: parts.next() })
}
