//! Opens the audit log of the settings.

use anyhow::Context;

use crate::metrics::Metrics;
use crate::observe::audit::{Audit, AuditOptions, Redaction};
use crate::settings::Settings;
use crate::store::redis::RedisAuditLog;

/// The audit log of the settings.
///
/// # Errors
/// If its salt can't be read, or the log can't be written.
pub fn open(
    settings: &Settings,
    stream: Option<RedisAuditLog>,
    metrics: &Metrics,
) -> anyhow::Result<Audit> {
    let settings = &settings.audit;
    let salt = settings.salt_file.as_deref().map(Redaction::read);
    let redaction = salt.transpose().context("can't read audit_salt_file")?;
    let (destination, rotation) = (settings.destination.clone(), settings.rotation());
    let metrics = metrics.audit.clone();
    let options = AuditOptions { destination, rotation, stream, redaction, metrics };
    Audit::open(options).context("can't write audit_log")
}
