//! Checks what channels need outside of the files of alerts, before the first notification.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use super::address::is_public;
use super::files;
use super::send_error::SendError;
use super::{mail, tls};
use crate::policy::{AlertNeed, check_url};

/// Checks what a channel needs. It may read a file; it asks no resolver and connects to nothing.
///
/// # Errors
/// A clause with the reason, without any part of a secret.
pub fn check_need(need: AlertNeed<'_>) -> Result<(), String> {
    let checked = match need {
        AlertNeed::PublicHost(host) => public(host),
        AlertNeed::Mailbox(text) => match mail::is_mailbox(text) {
            true => return Ok(()),
            false => return Err(format!("`{text}` is no e-mail address")),
        },
        AlertNeed::Secrets(file)
        | AlertNeed::Text(file)
        | AlertNeed::Url { file, .. }
        | AlertNeed::Authorities(file)
            if is_special(file) =>
        {
            Ok(())
        }
        AlertNeed::Secrets(file) => files::secrets(file).map(drop),
        AlertNeed::Text(file) => match files::line(file) {
            Ok(text) if text.is_empty() => return Err(format!("`{file}` is empty")),
            read => read.map(drop),
        },
        AlertNeed::Url { file, allow_private } => match files::line(file) {
            Ok(text) => match check_url(&text) {
                Ok(_) if allow_private => Ok(()),
                Ok(host) => public(&host),
                Err(reason) => return Err(format!("`{file}` has an {reason}")),
            },
            Err(error) => Err(error),
        },
        AlertNeed::Authorities(file) => match files::read(file).map(|pem| tls::authorities(&pem)) {
            Ok(Err(error)) => return Err(format!("{error} in `{file}`")),
            read => read.map(drop),
        },
    };
    checked.map_err(|error| error.to_string())
}

/// Whether reading it might wait or be seen, such as a pipe.
fn is_special(file: &str) -> bool {
    fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Refuses a host that is known to be on the local network.
fn public(host: &str) -> Result<(), SendError> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_local = name == "localhost" || name.ends_with(".localhost");
    let address = match host.parse() {
        Ok(address) => Some(address),
        Err(_) => is_local.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    match address.filter(|address| !is_public(*address)) {
        Some(address) => Err(SendError::Private { address }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_channel_does_not_have_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("file");
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let check = |need: AlertNeed<'_>, expected: &str| match (check_need(need), expected) {
            (Ok(()), "") => {}
            (Err(message), expected) if !expected.is_empty() => {
                assert!(message.contains(expected), "{message}");
            }
            (found, _) => panic!("{need:?}: {found:?}, and not {expected}"),
        };
        check(AlertNeed::PublicHost("10.0.0.1"), "private address 10.0.0.1");
        check(AlertNeed::PublicHost("::1"), "private address ::1");
        check(AlertNeed::PublicHost("Localhost."), "private address 127.0.0.1");
        check(AlertNeed::PublicHost("8.8.8.8"), "");
        check(AlertNeed::PublicHost("hooks.internal"), "");
        check(AlertNeed::Mailbox("Ops <ops@example.com>"), "");
        check(AlertNeed::Mailbox("ops@"), "no e-mail address");
        check(AlertNeed::Secrets("/nowhere/secret"), "can't read `/nowhere/secret`");
        check(AlertNeed::Secrets(&file("hunter2")), "line 1 is no secret");
        check(AlertNeed::Secrets(&file("whsec_MDEyMzQ1Njc4OWFiY2RlZg==")), "");
        check(AlertNeed::Text(&file(" \n")), "is empty");
        check(AlertNeed::Text(folder.path().to_str().unwrap()), "can't read");
        check(AlertNeed::Authorities(&file("no pem")), "invalid certificates of authorities in");
        check(AlertNeed::Text("/dev/null"), "");
        let url = |text: &str, allow_private, expected| {
            check(AlertNeed::Url { file: &file(text), allow_private }, expected);
        };
        url("https://hooks.example.com/x\n", false, "");
        url("hooks.example.com", false, "has an invalid address");
        url("http://127.0.0.1:9000/", false, "private address");
        url("http://127.0.0.1:9000/", true, "");
        let secret = check_need(AlertNeed::Secrets(&file("hunter2"))).unwrap_err();
        assert!(!secret.contains("hunter2"), "{secret}");
    }
}
