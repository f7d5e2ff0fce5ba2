//! The settings of policies.

use std::path::PathBuf;

use super::setting::{BOOLEAN, PATHS, component};
use super::value;

component! {
    /// The policies, and how they are enforced.
    pub struct PolicySettings in "Policies";

    /// Files and directories.
    paths: Vec<PathBuf> {
        name: "policies",
        value: "PATH,...",
        default: "config/policies",
        expected: PATHS,
        help: "Policy files, or directories of policy files (*.yaml, *.yml), separated by commas",
        read: value::paths,
    }

    merge_domains: bool {
        name: "merge_domains",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Join files with the same domain instead of rejecting them",
        read: value::boolean,
    }

    shadow_mode: bool {
        name: "shadow_mode",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Decide and count, but refuse nothing",
        read: value::boolean,
    }

    quota_mode: bool {
        name: "quota_mode",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Treat every limit as a quota: a request is refused only if each of its descriptors meets a \
               limit, and all those limits refuse",
        read: value::boolean,
    }
}
