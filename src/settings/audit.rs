//! The settings of the audit log, and of explanations of refusals.

use std::path::PathBuf;

use super::setting::{PATH, RATIO, component};
use super::value::{self, optional, or_default};
use crate::observe::audit::{Destination, Rotation, destination};

component! {
    /// The audit log, and explanations of refusals.
    pub struct AuditSettings in "Audit log";

    destination: Destination {
        name: "audit_log",
        value: "PATH",
        default: "",
        expected: "a path, stdout or redis",
        help: "Destination of the audit log: a file, stdout, or a stream in Redis. The log has one line of JSON for each \
               change over the API or of files, and for refusals if audit_refusals is set. If absent, the process log has \
               these lines",
        read: or_default(destination),
    }

    /// None: never.
    size_mib: Option<u64> {
        name: "audit_log_size",
        value: "MIB",
        default: "100",
        expected: "a number of MiB from 1 to 1000000, or off",
        help: "Size in MiB at which the file of the audit log is rotated: renamed to PATH.1",
        read: value::or_off(|text| value::number(text, 1..=1_000_000)),
    }

    files_max: usize {
        name: "audit_log_files",
        value: "NUMBER",
        default: "10",
        expected: "a whole number from 1 to 1000",
        help: "Number of rotated files of the audit log (PATH.1, PATH.2, ...); the oldest one is deleted",
        read: |text| value::number(text, 1..=1_000),
    }

    stream_len_max: u64 {
        name: "audit_stream_length",
        value: "NUMBER",
        default: "100000",
        expected: "a whole number from 1 to 100000000",
        help: "Number of lines that the stream of the audit log keeps in Redis, some 700 bytes each; older ones are \
               deleted. It may have some hundred more",
        read: |text| value::number(text, 1..=100_000_000),
    }

    refusals: f64 {
        name: "audit_refusals",
        value: "RATIO",
        default: "0",
        expected: RATIO,
        help: "Share of refused requests that are in the audit log",
        read: |text| value::number(text, 0.0..=1.0),
    }

    /// Of this process, and in Redis.
    explained_max: usize {
        name: "explained_refusals",
        value: "NUMBER",
        default: "10000",
        expected: "a whole number from 0 to 1000000",
        help: "Number of refusals with an id that are kept for /v1/why: in memory, and in Redis if there is one. One takes \
               some 700 bytes",
        read: |text| value::number(text, 0..=1_000_000),
    }

    /// None: callers are shown by name.
    salt_file: Option<PathBuf> {
        name: "audit_salt_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "File with a secret text of at least 16 bytes. With it, the audit log has keyed hashes of callers and \
               reservations instead of their names and ids. Sidecars on one Redis share it there, to erase callers",
        read: optional(value::path),
    }
}

impl AuditSettings {
    /// When the file is rotated.
    pub fn rotation(&self) -> Rotation {
        let size_max = self.size_mib.map(|mib| mib * 1024 * 1024);
        Rotation { size_max, files_max: self.files_max }
    }
}
