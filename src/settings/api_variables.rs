//! The environment variables of the commands that use the API. They are no settings: a process that serves ignores them.

pub const URL: &str = "TOLLGATE_API_URL";
pub const TOKEN: &str = "TOLLGATE_API_TOKEN";
pub const TOKEN_FILE: &str = "TOLLGATE_API_TOKEN_FILE";
pub const CA_FILE: &str = "TOLLGATE_API_CA_FILE";
pub const CONTEXT: &str = "TOLLGATE_CONTEXT";
pub const CONTEXTS_FILE: &str = "TOLLGATE_CONTEXTS";

/// All of them.
pub const ALL: [&str; 6] = [URL, TOKEN, TOKEN_FILE, CA_FILE, CONTEXT, CONTEXTS_FILE];
