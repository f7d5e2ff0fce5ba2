//! The settings of the dashboard.

use std::path::PathBuf;

use super::setting::{BOOLEAN, PATH, component};
use super::value::{self, optional, or_default};

component! {
    /// The dashboard.
    pub struct DashboardSettings in "Dashboard";

    dashboard: bool {
        name: "dashboard",
        value: "BOOL",
        default: "true",
        expected: BOOLEAN,
        help: "Serve pages for people on the HTTP port: /dashboard, and /me for callers. They need a token of api_tokens; \
               without tokens, only this machine may open them",
        read: value::boolean,
    }

    /// None: a random key of this process.
    key_file: Option<PathBuf> {
        name: "dashboard_key_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "File with a secret text of at least 32 bytes, which signs sessions of the dashboard and links to /me. If \
               absent, they end with the process, and hold only there; sidecars behind one address need the same file",
        read: optional(value::path),
    }

    frame_ancestors: Vec<String> {
        name: "dashboard_frame_ancestors",
        value: "ORIGIN,...",
        default: "",
        expected: "a list of origins, such as https://portal.example.com",
        help: "Origins whose pages may show /me in a frame. If absent, none may",
        read: or_default(value::origins),
    }
}
