//! Loads the first policies, from files or an xDS server, and the files of callers and alerts.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::select;
use tokio::time::sleep;

use super::reload::{Policies, Reloader, Subject};
use super::sources::{Files, Overlaid, SourceFiles, Xds};
use crate::engine::{Engine, Readiness};
use crate::metrics::Metrics;
use crate::observe::audit::Audit;
use crate::policy::{CompileOptions, PolicySet};
use crate::settings::{PolicySourceName, Settings};

/// How often to look for the first domain.
const READY_INTERVAL: Duration = Duration::from_millis(100);

/// The task that reloads policies.
pub type Reloading = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Loads the first policies of the settings, or waits for them. Returns the task that reloads them until `closed`.
///
/// # Errors
/// If files are unreadable or invalid.
pub async fn load(
    settings: &Settings,
    (engine, metrics): (Arc<Engine>, Arc<Metrics>),
    audit: &Audit,
    closed: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<Reloading> {
    let (own, xds) = (&settings.policies, &settings.xds);
    let options = CompileOptions {
        merge_domains: own.merge_domains,
        legacy_headers: own.legacy_headers,
        legacy_names: own.legacy_names(),
        metadata_always: own.metadata_always,
    };
    let is_early = xds.start_without_policies || xds.source == PolicySourceName::Xds;
    if is_early {
        engine.replace(PolicySet::pending());
    }
    let has_overlays = !own.overlays.is_empty();
    let policies = Policies { engine, metrics: metrics.clone(), options, has_overlays };
    let audit_log = audit.clone();
    Ok(match xds.source {
        PolicySourceName::Files => {
            let files = SourceFiles::new(own.paths.clone());
            let files = if own.all_names { files.of_all_names() } else { files };
            if is_early {
                let source = Files::start(files)?;
                let reloader = Reloader::start_early(source, policies, audit_log, false);
                Box::pin(reloader.await.run(closed))
            } else {
                Box::pin(load_files(files, policies, audit).await?.run(closed))
            }
        }
        PolicySourceName::Xds => {
            let source = Xds::new(xds, metrics.clone());
            let waits = !xds.start_without_policies;
            if has_overlays {
                let files = Files::start(SourceFiles::new(own.overlays.clone()))?;
                let source = Overlaid::new(source, files, metrics);
                let reloader = Reloader::start_early(source, policies, audit_log, waits);
                Box::pin(reloader.await.run(closed))
            } else {
                let reloader = Reloader::start_early(source, policies, audit_log, waits);
                Box::pin(reloader.await.run(closed))
            }
        }
    })
}

/// Loads files.
///
/// # Errors
/// If they are unreadable or invalid.
pub async fn load_files<S: Subject>(
    files: SourceFiles,
    subject: S,
    audit: &Audit,
) -> anyhow::Result<Reloader<Files, S>> {
    Reloader::start(Files::start(files)?, subject, audit.clone()).await.map_err(|error| {
        error.report();
        anyhow!("no valid {}; not starting", S::NAME)
    })
}

/// Reports ready once there is a domain. Runs until `shutdown`.
pub async fn become_ready(
    engine: Arc<Engine>,
    readiness: Readiness,
    shutdown: impl Future<Output = ()>,
) {
    let becoming_ready = async {
        while engine.policies().domains().is_empty() {
            // Policies in force give no notification, and nobody waits for this but probes.
            sleep(READY_INTERVAL).await;
        }
        readiness.set_ready();
        pending::<()>().await;
    };
    select! {
        () = becoming_ready => {}
        () = shutdown => {}
    }
}
