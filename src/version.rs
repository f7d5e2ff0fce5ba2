//! The version of this build; `build.rs` finds it out.

/// As people are told: `0.1.0 (b3ff179)`, without the commit where it isn't known.
pub const VERSION: &str = env!("BUILT_VERSION");

/// The commit that was built; empty where it isn't known.
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
