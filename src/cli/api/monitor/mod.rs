//! `tollgate quota monitor`: the callers nearest to their limits, refusals and providers, refreshed in place until a key ends
//! it. A thread asks the API; this one draws and reads keys, so a slow answer holds nothing up.

mod reading;
mod screen;
mod view;

use std::io;
use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::args::{duration_arg, entries_json, entry_arg, with_address};
use super::client::{Client, ClientError};
use crate::cli::{PROBLEMS, USAGE, complain};
use crate::clock::Clock;
use reading::{Reading, Subjects};
use screen::{Ending, Screen};
use view::View;

/// How long a key or a new reading waits to be noticed.
const TURN: Duration = Duration::from_millis(100);

/// The exit status of a process that SIGTERM has ended.
const TERMINATED: u8 = 128 + 15;

const KEYS: &str = "Keys: q, Esc and Ctrl-C end it.";

pub fn command() -> Command {
    let command = Command::new("monitor")
        .about("Watch the callers nearest to their limits, refusals and providers")
        .after_help(KEYS)
        .arg(
            Arg::new("caller")
                .value_name("CALLER")
                .action(ArgAction::Append)
                .num_args(0..)
                .help("Callers to watch; the busiest ones if absent"),
        )
        .arg(entry_arg())
        .arg(duration_arg("interval", "2s").help("Time between two readings"));
    with_address(command)
}

pub fn run(matches: &ArgMatches, client: Result<Client, ClientError>) -> ExitCode {
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            complain(&format_args!("{error}"));
            return ExitCode::from(USAGE);
        }
    };
    if !stdout().is_terminal() {
        complain(
            &"error: `quota monitor` needs a terminal; in a pipe, use `tollgate top` and `tollgate quota status`",
        );
        return ExitCode::from(USAGE);
    }
    let interval = matches.get_one::<Duration>("interval").copied().unwrap_or(TURN);
    let callers = matches.get_many::<String>("caller").unwrap_or_default().cloned().collect();
    let entries = entries_json(matches).map(|entries| entries.to_string());
    let view = View::new(client.url(), interval, Clock::system());
    match watch(view, &read_often(client, Subjects { callers, entries }, interval)) {
        Ok(Ending::Asked) => ExitCode::SUCCESS,
        Ok(Ending::Terminated) => ExitCode::from(TERMINATED),
        Err(error) => {
            complain(&format_args!("error: the terminal failed: {error}"));
            ExitCode::from(PROBLEMS)
        }
    }
}

/// Reads again and again, until nobody takes the readings.
fn read_often(client: Client, subjects: Subjects, interval: Duration) -> Receiver<Reading> {
    // One waits at most, so that no old reading is shown.
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        while sender.send(subjects.read(&client)).is_ok() {
            // The pause between readings, which a key does not wait for: this is not the thread that draws.
            thread::sleep(interval);
        }
    });
    receiver
}

/// Draws until a key or a signal ends it.
fn watch(mut view: View, readings: &Receiver<Reading>) -> io::Result<Ending> {
    let mut screen = Screen::start()?;
    loop {
        screen.draw(|frame| view.draw(frame))?;
        if let Some(ending) = screen.ending(TURN)? {
            return Ok(ending);
        }
        match readings.recv_timeout(Duration::ZERO) {
            Ok(reading) => view.take(reading),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("reading the API ended unexpectedly"));
            }
        }
    }
}
