//! Compiles a channel of notifications.

use std::ops::Range;

use super::address::{check_host, check_url};
use super::grouping::compile_grouping;
use super::model::{
    AlertChannel, AlertReceiver, AlertSeverity, AlertUrl, HttpReceiver, MailReceiver, MailTls,
};
use super::needs::{CheckNeed, check_needs};
use super::template::{TemplateMarkup, compile_templates};
use crate::policy::schema::{ChannelFile, ChannelTypeFile};
use crate::policy::yaml::{Reader, Spanned};

/// Where events of PagerDuty are sent.
const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// The channel of the file; None if it has a problem.
pub fn compile_channel(
    reader: &mut Reader<'_>,
    name: &str,
    file: &ChannelFile,
    check: &CheckNeed<'_>,
) -> Option<AlertChannel> {
    let kind = file.r#type.as_ref()?.value;
    check_keys(reader, file, kind);
    check_needs(reader, file, kind, check);
    let grouping = compile_grouping(reader, file);
    let markup = match kind {
        ChannelTypeFile::Slack => TemplateMarkup::Slack,
        _ => TemplateMarkup::None,
    };
    let templates = compile_templates(reader, file, markup);
    let receiver = match kind {
        ChannelTypeFile::Log => AlertReceiver::Log,
        ChannelTypeFile::Webhook => AlertReceiver::Webhook {
            http: http(reader, file, None)?,
            secret_file: path(&file.secret_file),
        },
        ChannelTypeFile::Slack => AlertReceiver::Slack(http(reader, file, None)?),
        ChannelTypeFile::Discord => AlertReceiver::Discord(http(reader, file, None)?),
        ChannelTypeFile::PagerDuty => AlertReceiver::PagerDuty {
            http: http(reader, file, Some(PAGERDUTY_URL))?,
            key_file: required(reader, file, ("secret_file", &file.secret_file))?,
        },
        ChannelTypeFile::Email => AlertReceiver::Email(mail(reader, file)?),
    };
    Some(AlertChannel {
        name: name.into(),
        receiver,
        severity: file.severity.as_ref().map_or(AlertSeverity::Info, |word| word.value),
        resolved: file.resolved.as_ref().is_none_or(|flag| flag.value),
        grouping,
        templates,
    })
}

/// Reports keys that the type does not have.
fn check_keys(reader: &mut Reader<'_>, file: &ChannelFile, kind: ChannelTypeFile) {
    let span = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.span.clone());
    let private = file.allow_private_addresses.as_ref().map(|flag| flag.span.clone());
    let is_mail = kind == ChannelTypeFile::Email;
    let is_remote = kind != ChannelTypeFile::Log;
    let is_http = is_remote && !is_mail;
    let has_secret =
        is_mail || matches!(kind, ChannelTypeFile::Webhook | ChannelTypeFile::PagerDuty);
    // An event of PagerDuty is one incident.
    let has_groups = is_remote && kind != ChannelTypeFile::PagerDuty;
    let present: [(&str, bool, Option<Range<usize>>); 16] = [
        ("url", is_http, span(&file.url)),
        ("url_file", is_http, span(&file.url_file)),
        ("secret_file", has_secret, span(&file.secret_file)),
        ("ca_file", is_remote, span(&file.ca_file)),
        ("allow_private_addresses", is_remote, private),
        ("group_by", has_groups, file.group_by.as_ref().map(|by| by.span.clone())),
        ("group_wait", has_groups, span(&file.group_wait)),
        ("group_interval", has_groups, span(&file.group_interval)),
        ("title", is_remote, span(&file.title)),
        ("text", is_remote, span(&file.text)),
        ("host", is_mail, span(&file.host)),
        ("port", is_mail, file.port.as_ref().map(|port| port.span.clone())),
        ("tls", is_mail, file.tls.as_ref().map(|word| word.span.clone())),
        ("user", is_mail, span(&file.user)),
        ("from", is_mail, span(&file.from)),
        ("to", is_mail, file.to.as_ref().map(|to| to.span.clone())),
    ];
    for (key, _, span) in present.into_iter().filter(|(_, has, _)| !has) {
        if let Some(span) = span {
            reader.error(span, format!("`{key}` has no effect in a channel of this type"));
        }
    }
}

/// The mail server of a channel.
fn mail(reader: &mut Reader<'_>, file: &ChannelFile) -> Option<MailReceiver> {
    let host = required(reader, file, ("host", &file.host));
    if let Some(text) = &file.host
        && let Err(message) = check_host(&text.value)
    {
        reader.error(text.span.clone(), message);
    }
    let from = required(reader, file, ("from", &file.from));
    let to: Vec<Box<str>> =
        file.to.iter().flat_map(|to| &to.value).map(|to| to.value.as_str().into()).collect();
    if to.is_empty() {
        reader.error(file.span.clone(), "`to` is missing: who receives the mails");
        return None;
    }
    for address in file.from.iter().chain(file.to.iter().flat_map(|to| &to.value)) {
        if !address.value.contains('@') {
            let message = format!("`{}` is no e-mail address", address.value);
            reader.error(address.span.clone(), message);
        }
    }
    let (user, password_file) = (path(&file.user), path(&file.secret_file));
    if user.is_some() != password_file.is_some() {
        reader.error(file.span.clone(), "`user` and `secret_file` need each other");
    }
    let tls = file.tls.as_ref().map_or(MailTls::Starttls, |word| word.value);
    let usual = match tls {
        MailTls::Starttls => 587,
        MailTls::Always => 465,
        MailTls::Never => 25,
    };
    if let Some(port) = file.port.as_ref().filter(|port| port.value == 0) {
        reader.error(port.span.clone(), "invalid port 0; use one from 1 to 65535");
    }
    let port = file.port.as_ref().and_then(|port| u16::try_from(port.value).ok()).unwrap_or(usual);
    let allow_private = file.allow_private_addresses.as_ref().is_some_and(|flag| flag.value);
    let (host, from, ca_file) = (host?, from?, path(&file.ca_file));
    Some(MailReceiver { host, port, tls, user, password_file, from, to, ca_file, allow_private })
}

/// The text of a key that the type needs.
fn required(
    reader: &mut Reader<'_>,
    file: &ChannelFile,
    (key, text): (&str, &Option<Spanned<String>>),
) -> Option<Box<str>> {
    if text.is_none() {
        let message = format!("`{key}` is missing: a channel of this type needs it");
        reader.error(file.span.clone(), message);
    }
    path(text)
}

/// The receiver of a channel over HTTP; `usual` is its address if the file has none.
fn http(reader: &mut Reader<'_>, file: &ChannelFile, usual: Option<&str>) -> Option<HttpReceiver> {
    let url = match (&file.url, &file.url_file) {
        (None, None) if usual.is_some() => AlertUrl::Text(usual?.into()),
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

fn path(text: &Option<Spanned<String>>) -> Option<Box<str>> {
    text.as_ref().map(|text| text.value.as_str().into())
}
