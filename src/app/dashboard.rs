//! Creates the dashboard of the settings.

use std::sync::Arc;

use anyhow::Context;

use crate::http::{Dashboard, Live, SigningKey};
use crate::settings::Settings;

/// The dashboard, if it is on.
///
/// # Errors
/// If its key can't be read.
pub fn build(settings: &Settings) -> anyhow::Result<Option<Arc<Dashboard>>> {
    let own = &settings.dashboard;
    if !own.dashboard {
        return Ok(None);
    }
    let key = match &own.key_file {
        Some(path) => SigningKey::read(path).context("can't read dashboard_key_file")?,
        None => SigningKey::random()?,
    };
    Ok(Some(Arc::new(Dashboard {
        key,
        has_tls: settings.listening.http_tls_cert_file.is_some(),
        frame_ancestors: own.frame_ancestors.clone(),
        live: Live::default(),
    })))
}
