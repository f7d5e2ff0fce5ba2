//! One setting: its names, what it expects, and how it is read.

use super::Settings;

/// What every variable of ours starts with.
pub const VARIABLE_PREFIX: &str = "TOLLGATE_";

// What several settings expect.
pub const BOOLEAN: &str = "true or false";
pub const PATH: &str = "a path";
pub const PATHS: &str = "a list of paths";
pub const TOKENS: &str = "a list of NAME:ROLE:SHA256, as `tollgate token` prints them";

/// One setting. Its variable is `TOLLGATE_` and the name in capitals, its flag the name with dashes.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// In the settings file.
    pub name: &'static str,
    /// What it belongs to, as a heading.
    pub group: &'static str,
    /// A word for the value.
    pub value: &'static str,
    /// As it would be written; empty if there is none.
    pub default: &'static str,
    /// What a value must be, after "is not".
    pub expected: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Reads a text into its place; false if it is not what is expected.
    pub set: fn(&mut Settings, &str) -> bool,
}

impl Setting {
    /// The variable of the environment.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_uppercase())
    }

    /// The flag, without the leading dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Whether its value is `true` or `false`.
    pub fn is_switch(&self) -> bool {
        self.expected == BOOLEAN
    }

    /// Whether its value is several.
    pub fn is_list(&self) -> bool {
        self.expected == PATHS || self.expected == TOKENS
    }

    /// Whether its values must not be shown.
    pub fn is_secret(&self) -> bool {
        matches!(self.name, "redis_password" | "redis_url" | "api_tokens")
    }
}
