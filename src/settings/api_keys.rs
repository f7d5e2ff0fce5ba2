//! The settings of API keys.

use std::path::PathBuf;

use super::setting::{PATH, component};
use super::value::{self, optional};

component! {
    /// API keys, which Envoy's ext_authz filter has Tollgate check.
    pub struct ApiKeySettings in "API keys";

    /// None: no API keys are kept or checked.
    pepper_file: Option<PathBuf> {
        name: "api_key_pepper_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "File with the secrets under which API keys are hashed: one of at least 32 bytes on each line, the one for \
               new API keys first. If absent, no API keys are kept or checked",
        read: optional(value::path),
    }

    cache_len: usize {
        name: "api_keys_cache",
        value: "NUMBER",
        default: "10000",
        expected: "a whole number from 1 to 10000000",
        help: "Maximum number of API keys of Redis cached in memory",
        read: |text| value::number(text, 1..=10_000_000),
    }
}
