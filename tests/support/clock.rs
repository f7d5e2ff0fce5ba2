//! The system's clock for one program, which a test may step.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::find_program;

/// A clock that is ahead of the system's by a value that the test sets.
pub struct Clock {
    folder: TempDir,
    library: String,
}

impl Clock {
    /// The system's time. None without faketime.
    pub fn new() -> Option<Self> {
        let program = find_program("faketime", "FAKETIME_PROGRAM", None)?;
        // faketime reports the path of its library.
        let reported = Command::new(program).args(["-m", "+0 days", "env"]).output().unwrap();
        let reported = String::from_utf8(reported.stdout).unwrap();
        let library = reported.lines().find_map(|line| line.strip_prefix("LD_PRELOAD=")).unwrap();
        let clock = Self { folder: TempDir::new().unwrap(), library: library.to_owned() };
        clock.step_to(0);
        Some(clock)
    }

    /// Steps to this many minutes ahead of the system's clock.
    pub fn step_to(&self, minutes: i64) {
        // A program may be reading it.
        let draft = self.folder.path().join("draft");
        fs::write(&draft, format!("{minutes:+}m\n")).unwrap();
        fs::rename(draft, self.file()).unwrap();
    }

    /// The environment of a program that uses this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // The monotonic clock does not step.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn file(&self) -> String {
        self.folder.path().join("offset").display().to_string()
    }
}
