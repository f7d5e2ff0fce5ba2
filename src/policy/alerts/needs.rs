//! What a channel needs outside of its file: files, and receivers at addresses that are permitted.
//!
//! They are checked by whoever compiles, because only it may read files; the problems have the places of the keys. They
//! are warnings: a secret may be absent where the file is checked, and the channel may never be used.

use crate::policy::problem::Severity;
use crate::policy::schema::{ChannelFile, ChannelTypeFile};
use crate::policy::yaml::{Reader, Spanned};

use super::address::{check_host, check_url};

/// Something that a channel needs outside of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertNeed<'a> {
    /// A receiver whose address is not on the local network, if it is known without a resolver.
    PublicHost(&'a str),
    /// A file with the secrets of signatures.
    Secrets(&'a str),
    /// A file with a text, such as a password.
    Text(&'a str),
    /// A file with the address of a receiver.
    Url { file: &'a str, allow_private: bool },
    /// A file with authorities in PEM.
    Authorities(&'a str),
    /// A sender or a receiver of mails.
    Mailbox(&'a str),
}

/// Checks what a channel needs. An error is a clause with the reason, without any part of a secret.
pub type CheckNeed<'a> = dyn Fn(AlertNeed<'_>) -> Result<(), String> + 'a;

/// Reports what a channel needs and does not have.
pub fn check_needs(
    reader: &mut Reader<'_>,
    file: &ChannelFile,
    kind: ChannelTypeFile,
    check: &CheckNeed<'_>,
) {
    let mut report = |text: &Spanned<String>, severity, need: AlertNeed<'_>| {
        if let Err(message) = check(need) {
            reader.note(severity, text.span.clone(), message);
        }
    };
    let allow_private = file.allow_private_addresses.as_ref().is_some_and(|flag| flag.value);
    for text in file.url.iter().filter(|_| !allow_private) {
        if let Ok(host) = check_url(&text.value) {
            report(text, Severity::Warning, AlertNeed::PublicHost(&host));
        }
    }
    for text in file.host.iter().filter(|_| !allow_private) {
        if let Ok(host) = check_host(&text.value) {
            report(text, Severity::Warning, AlertNeed::PublicHost(&host));
        }
    }
    if let Some(text) = &file.url_file {
        let need = AlertNeed::Url { file: &text.value, allow_private };
        report(text, Severity::Warning, need);
    }
    if let Some(text) = &file.secret_file {
        let need = match kind {
            ChannelTypeFile::Webhook => AlertNeed::Secrets(&text.value),
            _ => AlertNeed::Text(&text.value),
        };
        report(text, Severity::Warning, need);
    }
    if let Some(text) = &file.ca_file {
        report(text, Severity::Warning, AlertNeed::Authorities(&text.value));
    }
    for text in file.from.iter().chain(file.to.iter().flat_map(|to| &to.value)) {
        // One without `@` has been reported.
        if text.value.contains('@') {
            report(text, Severity::Error, AlertNeed::Mailbox(&text.value));
        }
    }
}
