//! Compiles a channel of notifications.

use std::ops::Range;

use super::model::{AlertChannel, AlertReceiver, AlertSeverity, AlertUrl, HttpReceiver};
use crate::policy::schema::{ChannelFile, ChannelTypeFile};
use crate::policy::yaml::{Reader, Spanned};

/// The channel of the file; None if it has a problem.
pub fn compile_channel(
    reader: &mut Reader<'_>,
    name: &str,
    file: &ChannelFile,
) -> Option<AlertChannel> {
    let kind = file.r#type.as_ref()?.value;
    check_keys(reader, file, kind);
    let receiver = match kind {
        ChannelTypeFile::Log => AlertReceiver::Log,
        ChannelTypeFile::Webhook => AlertReceiver::Webhook {
            http: http(reader, file)?,
            secret_file: path(&file.secret_file),
        },
    };
    Some(AlertChannel {
        name: name.into(),
        receiver,
        severity: file.severity.as_ref().map_or(AlertSeverity::Info, |word| word.value),
        resolved: file.resolved.as_ref().is_none_or(|flag| flag.value),
    })
}

/// Reports keys that the type does not have.
fn check_keys(reader: &mut Reader<'_>, file: &ChannelFile, kind: ChannelTypeFile) {
    let span = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.span.clone());
    let private = file.allow_private_addresses.as_ref().map(|flag| flag.span.clone());
    let is_http = kind != ChannelTypeFile::Log;
    let present: [(&str, bool, Option<Range<usize>>); 5] = [
        ("url", is_http, span(&file.url)),
        ("url_file", is_http, span(&file.url_file)),
        ("secret_file", kind == ChannelTypeFile::Webhook, span(&file.secret_file)),
        ("ca_file", is_http, span(&file.ca_file)),
        ("allow_private_addresses", is_http, private),
    ];
    for (key, _, span) in present.into_iter().filter(|(_, has, _)| !has) {
        if let Some(span) = span {
            reader.error(span, format!("`{key}` has no effect in a channel of this type"));
        }
    }
}

/// The receiver of a channel over HTTP.
fn http(reader: &mut Reader<'_>, file: &ChannelFile) -> Option<HttpReceiver> {
    let url = match (&file.url, &file.url_file) {
        (Some(url), None) => {
            let url = url.clone();
            if let Err(message) = check_url(&url.value) {
                reader.error(url.span, message);
                return None;
            }
            AlertUrl::Text(url.value.into())
        }
        (None, Some(file)) => AlertUrl::File(file.value.as_str().into()),
        (Some(_), Some(file)) => {
            reader.error(file.span.clone(), "use either `url` or `url_file`, not both");
            return None;
        }
        (None, None) => {
            reader
                .error(file.span.clone(), "`url` or `url_file` is missing: the receiver's address");
            return None;
        }
    };
    let allow_private = file.allow_private_addresses.as_ref().is_some_and(|flag| flag.value);
    Some(HttpReceiver { url, ca_file: path(&file.ca_file), allow_private })
}

/// Checks the address of a receiver.
///
/// # Errors
/// A clause with the reason.
pub fn check_url(url: &str) -> Result<(), String> {
    let rest = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    match host {
        Some(host) if !host.is_empty() && !host.contains('@') && is_plain => Ok(()),
        _ => Err("invalid address; use one such as https://example.com/alerts".to_owned()),
    }
}

fn path(text: &Option<Spanned<String>>) -> Option<Box<str>> {
    text.as_ref().map(|text| text.value.as_str().into())
}
