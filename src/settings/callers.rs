//! The settings of callers, and of the API that changes them.

use std::path::PathBuf;

use super::setting::{PATHS, component};
use super::value::{self, or_default};
use crate::api_token::ApiToken;

component! {
    /// The directory of callers, and the API that changes it.
    pub struct CallerSettings in "Callers";

    /// Files and directories. If empty, the directory is in Redis, if Redis is the store.
    files: Vec<PathBuf> {
        name: "callers",
        value: "PATH,...",
        default: "",
        expected: PATHS,
        help: "Caller files, or directories of caller files (*.yaml, *.yml), separated by commas. \
               If absent, callers are read from Redis if redis_url is set",
        read: or_default(value::paths),
    }

    cache_len: usize {
        name: "callers_cache",
        value: "NUMBER",
        default: "10000",
        expected: "a whole number from 1 to 10000000",
        help: "Maximum number of callers of Redis cached in memory, unknown ones included",
        read: |text| value::number(text, 1..=10_000_000),
    }

    /// If empty, only this machine may use the API.
    api_tokens: Vec<ApiToken> {
        name: "api_tokens",
        value: "NAME:ROLE:SHA256,...",
        default: "",
        expected: "a list of NAME:ROLE:SHA256, as `tollgate token` prints them",
        help: "API tokens for /v1, each with the role self, viewer, operator or admin. \
               Without tokens, only this machine may use the API",
        read: or_default(value::tokens),
        secret: true,
    }
}
