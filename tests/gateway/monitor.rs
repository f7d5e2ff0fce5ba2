//! `tollgate quota monitor` on a terminal, which tmux plays.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::support::ask::DomainClient;
use crate::support::process::signal;
use crate::support::store::Store;
use crate::support::tollgate::{PROGRAM, Tollgate, command};
use crate::support::{eventually, find_program};

const POLICY: &str = "
domain: shop
caller: { key: user }
descriptors: [{ key: user, limits: [{ name: daily, rate: 10/day }] }]
";

/// A terminal with a shell that runs the monitor, and says how it ended.
struct Terminal {
    program: PathBuf,
    folder: TempDir,
}

impl Terminal {
    /// None without tmux.
    fn start(tollgate: &Tollgate, flags: &str) -> Option<Self> {
        Self::start_at(&format!("http://{}", tollgate.http_address), flags)
    }

    /// The same, with the address of an API.
    fn start_at(url: &str, flags: &str) -> Option<Self> {
        let program = find_program("tmux", "TMUX_PROGRAM", None)?;
        let terminal = Self { program, folder: TempDir::new().unwrap() };
        let script = format!(
            "{PROGRAM} quota monitor --api-url {url} --interval 100ms {flags}; echo ended $?; stty -a; cat"
        );
        terminal.tmux(&["new-session", "-d", "-x", "100", "-y", "30", "sh", "-c", &script]);
        Some(terminal)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("tmux")
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.arg("-S").arg(self.socket()).args(["-f", "/dev/null"]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn picture(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    async fn shows(&self, texts: &[&str]) -> String {
        let what = format!("{texts:?} on the terminal");
        eventually(&what, async || {
            let picture = self.picture();
            texts.iter().all(|text| picture.contains(text)).then_some(picture)
        })
        .await
    }

    /// Waits for the end with that status, after which the terminal is as before.
    async fn ended(&self, status: i32) {
        let picture = self.shows(&[&format!("ended {status}"), "icanon"]).await;
        for wrong in ["-icanon", "-echo ", "-isig", "quits"] {
            assert!(!picture.contains(wrong), "{wrong}: {picture}");
        }
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1");
    }

    /// The process of the monitor.
    fn monitor(&self) -> u32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        children.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let mut command = Command::new(&self.program);
        command.arg("-S").arg(self.socket()).arg("kill-server").output().ok();
    }
}

async fn serve() -> Tollgate {
    Tollgate::serve_with(POLICY, &Store::Embedded, &["--usage=true"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_refreshes_in_place_until_q() {
    let tollgate = serve().await;
    let mut client = DomainClient::new(&tollgate, "shop").await;
    client.ask(&["user=ann"], 1).await;
    for _ in 0..9 {
        client.ask(&["user=bob"], 1).await;
    }
    let Some(terminal) = Terminal::start(&tollgate, "") else { return };
    let picture =
        terminal.shows(&["Nearest to their limits", "Refusals", "Providers", "bob", "90.0"]).await;
    let row = |name: &str| picture.lines().position(|line| line.starts_with(name));
    assert!(row("bob") < row("ann"), "{picture}");
    for _ in 0..3 {
        client.ask(&["user=bob"], 1).await;
    }
    terminal.shows(&["100.0", "over_limit"]).await;
    terminal.tmux(&["send-keys", "q"]);
    terminal.ended(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_out_restores_the_terminal() {
    let tollgate = serve().await;
    for (key, status) in [(Some("C-c"), 0), (Some("Escape"), 0), (None, 143)] {
        let Some(terminal) = Terminal::start(&tollgate, "ann") else { return };
        terminal.shows(&["Nearest to their limits"]).await;
        match key {
            Some(key) => drop(terminal.tmux(&["send-keys", key])),
            None => signal(terminal.monitor(), "TERM"),
        }
        terminal.ended(status).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_of_any_size_and_a_lost_connection_do_not_end_the_monitor() {
    let tollgate = serve().await;
    let Some(terminal) = Terminal::start(&tollgate, "ann --timeout 500ms") else { return };
    terminal.shows(&["ann", "daily"]).await;
    for (width, height) in [("1", "1"), ("7", "40"), ("300", "2"), ("60", "20")] {
        terminal.tmux(&["resize-window", "-x", width, "-y", height]);
    }
    terminal.shows(&["ann", "daily"]).await;
    signal(tollgate.id(), "STOP");
    let picture = terminal.shows(&["no answer since", "timeout"]).await;
    assert!(picture.contains("daily"), "what was read stays: {picture}");
    signal(tollgate.id(), "CONT");
    eventually("a reading", async || (!terminal.picture().contains("no answer")).then_some(()))
        .await;
    // A process that ends is a lost connection, too.
    drop(tollgate);
    terminal.shows(&["no answer since", "refused"]).await;
    terminal.tmux(&["send-keys", "q"]);
    terminal.ended(0).await;
}

/// An API that accepts connections and never answers, and one that stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_reading_is_old_long_before_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let Some(terminal) = Terminal::start_at(&url, "ann --timeout 60m") else { return };
    terminal.shows(&["no answer since", "Z ("]).await;

    let tollgate = serve().await;
    let Some(terminal) = Terminal::start(&tollgate, "ann --timeout 60m") else { return };
    terminal.shows(&["ann", "daily"]).await;
    signal(tollgate.id(), "STOP");
    let picture = terminal.shows(&["no answer since", "Z ("]).await;
    assert!(picture.contains("daily"), "what was read stays: {picture}");
    signal(tollgate.id(), "CONT");
    eventually("a reading", async || (!terminal.picture().contains("no answer")).then_some(()))
        .await;
    terminal.tmux(&["send-keys", "q"]);
    terminal.ended(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_usage_named_callers_are_shown() {
    let tollgate = Tollgate::serve(POLICY, &Store::Embedded).await;
    let Some(terminal) = Terminal::start(&tollgate, "ann eve") else { return };
    terminal.shows(&["ann", "eve", "usage"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_ends_with_its_terminal() {
    let tollgate = serve().await;
    let Some(terminal) = Terminal::start(&tollgate, "ann") else { return };
    terminal.shows(&["Nearest to their limits"]).await;
    let process = PathBuf::from(format!("/proc/{}", terminal.monitor()));
    assert!(process.exists());
    drop(terminal);
    eventually("the end of the monitor", async || (!process.exists()).then_some(())).await;
}

#[test]
fn a_pipe_is_no_terminal() {
    let output = command().args(["quota", "monitor"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("needs a terminal"), "{text}");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
}
