//! Starts the exporter of traces.

use std::sync::Arc;

use crate::observe::traces::Traces;
use crate::settings::Settings;

/// The exporter of traces, if they have an endpoint.
///
/// # Errors
/// If the endpoint is not a URL.
pub fn start(settings: &Settings) -> anyhow::Result<Option<Arc<Traces>>> {
    let Some(endpoint) = &settings.observing.otlp_endpoint else { return Ok(None) };
    let own = &settings.observing;
    let collector = (endpoint.as_str(), own.otlp_protocol);
    let traces = Traces::start(collector, own.otlp_sample_ratio, &own.otlp_resource)?;
    Ok(Some(Arc::new(traces)))
}
