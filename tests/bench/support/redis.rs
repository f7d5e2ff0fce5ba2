//! Usage figures of a Redis.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail};

/// Commands that run a script. Calls inside the script are not calls of a client.
const SCRIPT_CALLS: [&str; 6] = [
    "cmdstat_eval:",
    "cmdstat_evalsha:",
    "cmdstat_fcall:",
    "cmdstat_eval_ro:",
    "cmdstat_evalsha_ro:",
    "cmdstat_fcall_ro:",
];

/// Commands of this benchmark, or of a new connection.
const OTHER_CALLS: [&str; 9] =
    ["info:", "dbsize:", "ping:", "hello:", "client|", "script|", "command:", "auth:", "select:"];

/// A connection to a Redis.
#[derive(Debug)]
pub struct Redis {
    connection: BufReader<Box<dyn Connection>>,
    /// Its process id.
    pub process: u32,
}

trait Connection: Read + Write + Debug {}

impl<T: Read + Write + Debug> Connection for T {}

/// Its usage so far, and its memory.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Calls of its clients: of scripts, if there were any, otherwise of commands.
    pub calls: u64,
    pub memory_bytes: u64,
    pub keys: u64,
}

impl Redis {
    /// Connects to a socket, if the address has a slash, or to `HOST:PORT`.
    pub fn connect(address: &str) -> Result<Self> {
        let connection: Box<dyn Connection> = match address.contains('/') {
            true => Box::new(UnixStream::connect(address).with_context(|| address.to_owned())?),
            false => Box::new(TcpStream::connect(address).with_context(|| address.to_owned())?),
        };
        let mut redis = Self { connection: BufReader::new(connection), process: 0 };
        let server = redis.ask("INFO server")?;
        redis.process = number(&server, "process_id:").context("a Redis without process_id")?;
        Ok(redis)
    }

    /// Its current figures.
    pub fn state(&mut self) -> Result<State> {
        let stats = self.ask("INFO commandstats")?;
        let memory = self.ask("INFO memory")?;
        let memory_bytes = number(&memory, "used_memory:").context("no used_memory")?;
        let keys = self.ask("DBSIZE")?.parse()?;
        Ok(State { calls: calls(&stats), memory_bytes, keys })
    }

    /// The answer to a command without spaces in its arguments.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        write!(self.connection.get_mut(), "{command}\r\n")?;
        let mut head = String::new();
        self.connection.read_line(&mut head)?;
        let text = head.get(1..).unwrap_or_default().trim_end();
        match head.as_bytes().first() {
            Some(b'$') => {
                let mut bytes = vec![0; text.parse::<usize>()? + "\r\n".len()];
                self.connection.read_exact(&mut bytes)?;
                Ok(String::from_utf8(bytes)?)
            }
            Some(b'+' | b':') => Ok(text.to_owned()),
            _ => bail!("Redis answers {command} with {head:?}"),
        }
    }
}

/// `cmdstat_evalsha:calls=12,usec=...` for each command.
fn calls(stats: &str) -> u64 {
    let of = |counts: &dyn Fn(&str) -> bool| {
        let lines = stats.lines().filter(|line| line.starts_with("cmdstat_") && counts(line));
        lines.filter_map(|line| number::<u64>(line.split_once(':')?.1, "calls=")).sum()
    };
    let scripts: u64 = of(&|line| SCRIPT_CALLS.iter().any(|call| line.starts_with(call)));
    match scripts {
        0 => of(&|line| !OTHER_CALLS.iter().any(|call| line["cmdstat_".len()..].starts_with(call))),
        scripts => scripts,
    }
}

/// The number after `name` at the start of a line.
fn number<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
