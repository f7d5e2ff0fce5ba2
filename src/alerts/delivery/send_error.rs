//! Why a notification was not sent.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::signature::SecretsError;

/// Why a notification was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("invalid address of the receiver")]
    Address,
    #[error(
        "the receiver is at the private address {address}; `allow_private_addresses: true` permits that"
    )]
    Private { address: IpAddr },
    #[error("can't connect: {reason}")]
    Connect { reason: String },
    #[error("the receiver answered {status}")]
    Status { status: u16, retry_after: Option<Duration> },
    #[error("the receiver answered 410: it is gone")]
    Gone,
    #[error("no answer within {} s", timeout.as_secs())]
    Late { timeout: Duration },
    #[error("can't read `{file}`: {source}")]
    File { file: String, source: io::Error },
    #[error("invalid secrets in `{file}`: {source}")]
    Secrets { file: String, source: SecretsError },
    #[error("can't send the mail: {reason}")]
    Mail { reason: String },
    #[error("invalid certificates of authorities")]
    Authorities,
}
