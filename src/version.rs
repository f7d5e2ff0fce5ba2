//! The version of this build, from `build.rs`.

/// The version for people: `0.1.0 (b3ff179)`, without the commit if it is unknown.
pub const VERSION: &str = env!("BUILT_VERSION");

/// The commit of the build; empty if it is unknown.
pub const COMMIT: &str = env!("BUILT_COMMIT");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_stands_behind_the_version() {
        let number = env!("CARGO_PKG_VERSION");
        let expected =
            if COMMIT.is_empty() { number.to_owned() } else { format!("{number} ({COMMIT})") };
        assert_eq!(VERSION, expected);
    }
}
