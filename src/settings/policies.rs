//! The settings of policies.

use std::path::PathBuf;
use std::sync::Arc;

use super::setting::{BOOLEAN, PATHS, component};
use super::value::{self, or_default};
use crate::policy::LegacyNames;

const HEADER: &str = "the name of an HTTP header";

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

    /// Files and directories; empty: none.
    overlays: Vec<PathBuf> {
        name: "policy_overlays",
        value: "PATH,...",
        default: "",
        expected: PATHS,
        help: "With `policy_source: xds`: policy files that add to the domains of the xDS server what it can't say, or \
               directories of them",
        read: or_default(value::paths),
        needs: &["xds_server"],
    }

    all_names: bool {
        name: "policies_all_names",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Read files of all names in directories of policies, as envoyproxy/ratelimit does, not only *.yaml and *.yml",
        read: value::boolean,
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

    legacy_headers: bool {
        name: "legacy_headers",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Domains without `answer` answer with ratelimit-limit, ratelimit-remaining and ratelimit-reset",
        read: value::boolean,
    }

    legacy_limit_header: Arc<str> {
        name: "legacy_limit_header",
        value: "NAME",
        default: "ratelimit-limit",
        expected: HEADER,
        help: "Name of ratelimit-limit in these answers",
        read: value::header,
    }

    legacy_remaining_header: Arc<str> {
        name: "legacy_remaining_header",
        value: "NAME",
        default: "ratelimit-remaining",
        expected: HEADER,
        help: "Name of ratelimit-remaining in these answers",
        read: value::header,
    }

    legacy_reset_header: Arc<str> {
        name: "legacy_reset_header",
        value: "NAME",
        default: "ratelimit-reset",
        expected: HEADER,
        help: "Name of ratelimit-reset in these answers",
        read: value::header,
    }

    metadata_always: bool {
        name: "metadata_always",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Domains without `answer` have dynamic metadata in all answers, not only in refusals",
        read: value::boolean,
    }

    /// Whether the process is not ready while there are no domains.
    ready_with_policies: bool {
        name: "ready_with_policies",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Report ready only once there is a domain",
        read: value::boolean,
    }
}

impl PolicySettings {
    /// The names of the headers of `legacy_headers`.
    pub fn legacy_names(&self) -> LegacyNames {
        LegacyNames {
            limit: self.legacy_limit_header.clone(),
            remaining: self.legacy_remaining_header.clone(),
            reset: self.legacy_reset_header.clone(),
        }
    }
}
