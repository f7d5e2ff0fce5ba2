//! Says which commit is built, for `--version`: `BUILD_COMMIT` if it is set, as for an image, whose build sees no
//! repository; else what git says of the folder. Where neither is known, the version goes without.

// That is how a build script talks to cargo.
#![allow(clippy::print_stdout)]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    let given = env::var("BUILD_COMMIT").unwrap_or_default();
    let commit = if given.is_empty() { of_repository().unwrap_or_default() } else { given };
    let version = env!("CARGO_PKG_VERSION");
    let shown = match commit.trim() {
        "" => version.to_owned(),
        commit => format!("{version} ({commit})"),
    };
    // Without our prefix: `cargo run` hands them on, and what begins with it is a setting.
    println!("cargo:rustc-env=BUILT_VERSION={shown}");
    println!("cargo:rustc-env=BUILT_COMMIT={}", commit.trim());
}

fn of_repository() -> Option<String> {
    // An unpacked archive may lie within somebody else's repository.
    let root = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if root != Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok()? {
        return None;
    }
    // The first gets a line with every commit and checkout, if there are reflogs; else the others say where HEAD is.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).unwrap_or_default();
    for name in ["logs/HEAD", "HEAD", &branch, "packed-refs"] {
        let path = git(&["rev-parse", "--git-path", name]).unwrap_or_default();
        // One that isn't there would have cargo build anew each time.
        if Path::new(&path).is_file() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=7", "HEAD"])
}

/// What git prints; None if it fails or isn't there.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}
