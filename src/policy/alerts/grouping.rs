//! Compiles how the notifications of a channel are sent together.

use std::time::Duration;

use super::duration::duration;
use super::labels::LABELS;
use super::model::AlertGrouping;
use crate::policy::schema::ChannelFile;
use crate::policy::yaml::Reader;

/// `group_wait` and `group_interval` if they are absent: those of Prometheus' Alertmanager.
const WAIT: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The longest of both.
const TIME_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What alerts can be grouped by, besides their labels.
const NAMES: &[&str] = &["rule", "signal", "severity"];

/// How the notifications of a channel are sent together; None if each is sent for itself.
pub fn compile_grouping(reader: &mut Reader<'_>, file: &ChannelFile) -> Option<AlertGrouping> {
    let times = [("group_wait", &file.group_wait), ("group_interval", &file.group_interval)];
    let Some(by) = &file.group_by else {
        for (key, text) in times {
            if let Some(text) = text {
                reader.error(text.span.clone(), format!("`{key}` needs `group_by`"));
            }
        }
        return None;
    };
    let mut names: Vec<Box<str>> = Vec::new();
    for name in &by.value {
        let message = match name.value.as_str() {
            unknown if !NAMES.contains(&unknown) && !LABELS.contains(&unknown) => {
                format!(
                    "no alert has the label `{unknown}`; use {}",
                    [NAMES, LABELS].concat().join(", ")
                )
            }
            known if names.iter().any(|name| **name == *known) => {
                format!("`{known}` is named twice")
            }
            known => {
                names.push(known.into());
                continue;
            }
        };
        reader.error(name.span.clone(), message);
    }
    let [wait, interval] =
        times.map(|(_, text)| text.as_ref().and_then(|text| duration(reader, text, TIME_MAX)));
    let (wait, interval) = (wait.unwrap_or(WAIT), interval.unwrap_or(INTERVAL));
    Some(AlertGrouping { by: names, wait, interval })
}
