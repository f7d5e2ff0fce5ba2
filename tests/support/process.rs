//! A child process: its output is kept and shown if the test fails, and it ends with the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use super::eventually;

/// A program that a test started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<String>>,
    stdout: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `command` under the name `name`.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (output, stdout) = (Arc::default(), Arc::default());
        collect(child.stdout.take().unwrap(), vec![Arc::clone(&output), Arc::clone(&stdout)]);
        collect(child.stderr.take().unwrap(), vec![Arc::clone(&output)]);
        Self { name: name.to_owned(), child, output, stdout }
    }

    /// All of its output so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM, like an operator or Kubernetes.
    pub fn terminate(&self) {
        signal(self.child.id(), "TERM");
    }

    /// Waits for the program's end.
    pub async fn exit(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, async || self.child.try_wait().unwrap()).await
    }

    /// Its maximum memory so far, in bytes.
    pub fn memory_peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix(" kB"));
        line.unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// Fails if the program has ended, so that no test waits for it.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended early: {status}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {} printed:\n{}---", self.name, self.output());
        }
    }
}

/// Sends a signal to a process.
pub fn signal(id: u32, name: &str) {
    // Through the shell's built-in `kill`: a small image has no such program.
    let kill = format!("kill -{name} {id}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

/// Copies lines as they come. The thread ends with the program.
fn collect(stream: impl Read + Send + 'static, outputs: Vec<Arc<Mutex<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            for output in &outputs {
                let mut output = output.lock().unwrap();
                output.push_str(&line);
                output.push('\n');
            }
        }
    });
}
