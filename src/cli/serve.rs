//! `tollgate serve`: reads the settings and runs the process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::runtime::{Builder, Runtime};

use super::{PROBLEMS, USAGE, complain};
use crate::app;
use crate::observe::logs;
use crate::settings::{FILE_VARIABLE, Loaded, Setting, Settings, table};

/// Stack size of a thread; only the used part costs memory. The deepest YAML takes half of the default 2 MiB, and more
/// than all of it in a debug build.
const STACK_LEN: usize = 8 * 1024 * 1024;

/// Flags for all settings, and for the settings file.
pub fn args() -> Vec<Arg> {
    let config = Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(format!("Settings file, such as config/tollgate.yaml [env: {FILE_VARIABLE}]"));
    [config].into_iter().chain(table().map(arg)).collect()
}

fn arg(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        default => format!("[default: {default}] "),
    };
    let arg = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.value)
        .help_heading(setting.group)
        .action(ArgAction::Append)
        .help(format!("{} {default}[env: {}]", setting.help, setting.variable()));
    if setting.is_switch() {
        // `--shadow-mode` alone means true.
        arg.num_args(0..=1).default_missing_value("true")
    } else {
        arg
    }
}

/// The same flags with all their valid values, for shells and man pages. On the command line, the settings report
/// invalid values, all at once and with their places.
pub fn with_words(command: Command) -> Command {
    named(command).mut_subcommand("serve", named)
}

fn named(command: Command) -> Command {
    table().fold(command, |command, setting| {
        let words: &[&str] = if setting.is_switch() { &["true", "false"] } else { setting.words };
        match words {
            [] => command,
            words => command
                .mut_arg(setting.name, |arg| arg.value_parser(PossibleValuesParser::new(words))),
        }
    })
}

/// Serves until a signal says to end.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let flags: Vec<(&'static Setting, String)> =
        table().filter_map(|setting| Some((setting, text(setting, matches)?))).collect();
    let file = matches.get_one::<PathBuf>("config");
    match Settings::load(file.map(PathBuf::as_path), &flags) {
        Ok(loaded) => serve(loaded),
        Err(errors) => {
            errors.iter().for_each(|error| complain(error));
            ExitCode::from(USAGE)
        }
    }
}

/// The value of a flag: all values of a list, otherwise the last one.
fn text(setting: &Setting, matches: &ArgMatches) -> Option<String> {
    let mut texts = matches.get_many::<String>(setting.name)?.cloned();
    if setting.is_list() { Some(texts.collect::<Vec<_>>().join(",")) } else { texts.next_back() }
}

fn serve(Loaded { settings, unread, unused }: Loaded) -> ExitCode {
    logs::start(settings.observing.log_level, settings.observing.log_format);
    for variable in unread {
        tracing::warn!(variable = variable.name, "{variable}");
    }
    for (variable, reason) in unused {
        tracing::info!("{variable} of envoyproxy/ratelimit has no effect: {reason}");
    }
    let ended = runtime(&settings).map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(app::run(settings));
        // A policy that is still being compiled is not needed any more.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(PROBLEMS)
        }
    }
}

/// The number of task turns after which a thread checks for new events. A turn of a flooding connection takes half a
/// millisecond. With tokio's default of 61 turns, a quiet connection would wait for thirty.
const EVENT_INTERVAL: u32 = 8;

fn runtime(settings: &Settings) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = settings.process.worker_threads {
        builder.worker_threads(threads);
    }
    builder.event_interval(EVENT_INTERVAL);
    builder.thread_stack_size(STACK_LEN).thread_name(env!("CARGO_PKG_NAME")).enable_all().build()
}
