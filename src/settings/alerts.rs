//! The settings of alerts.

use std::path::PathBuf;

use super::setting::{PATHS, component};
use super::value::{self, or_default};

component! {
    /// Alerts and their notifications.
    pub struct AlertSettings in "Alerts";

    /// Files and directories. If empty, there are no alerts.
    files: Vec<PathBuf> {
        name: "alerts",
        value: "PATH,...",
        default: "",
        expected: PATHS,
        help: "Files of alerts, or directories of such files (*.yaml, *.yml), separated by commas. If absent, there are no \
               alerts",
        read: or_default(value::paths),
    }
}
