//! The subjects of a reload: policies and callers, and how each is compiled and put in force.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;

use crate::alerts::check_need;
use crate::app::sources::Texts;
use crate::engine::{Engine, PolicyReload};
use crate::metrics::{Metrics, Reload};
use crate::policy::{
    AlertChecks, AlertPolicy, Callers, CallersFor, CompileOptions, Gone, NOT_ALL_COMPARED, Origin,
    OverlayState, PolicyEdits, PolicySet, Problem, Restart, Severity, compile_alerts_with,
    compile_callers_for, compile_with_overlays, count_changes,
};

/// Limits that a reload reports one by one: those that start a new count, and those that are gone.
const LIMITS_TOLD_MAX: usize = 50;

/// A subject of reloads. Each has its own source, and is reloaded separately.
pub trait Subject: Send + 'static {
    /// The compiled texts.
    type Compiled: Send + 'static;

    /// Its name in logs.
    const NAME: &'static str;

    /// Its load at a start in the audit log.
    const LOAD: &'static str;

    /// Its reload in the audit log.
    const RELOAD: &'static str;

    /// Compiles the texts.
    ///
    /// # Errors
    /// Every problem of every text.
    fn compile(&self, texts: &Texts) -> Result<Self::Compiled, Vec<Problem>>;

    /// The problems of overlays, which are left out for them or wait.
    fn overlay_problems(_: &Self::Compiled) -> Vec<Problem> {
        Vec::new()
    }

    /// The hash of what is in force, in the audit log. `texts` is that of its texts.
    fn version(&self, texts: &str) -> String;

    /// Puts the compiled texts of a source in force.
    fn put_in_force(&self, compiled: Self::Compiled, origin: Origin);

    /// Counts a reload.
    fn count(&self, reload: Reload);
}

/// The policies in force.
#[derive(Debug)]
pub struct Policies {
    pub engine: Arc<Engine>,
    pub metrics: Arc<Metrics>,
    pub options: CompileOptions,
    /// Whether there may be overlays.
    pub has_overlays: bool,
}

/// The callers, if the directory is in files.
#[derive(Debug)]
pub struct FileCallers {
    pub engine: Arc<Engine>,
    pub metrics: Arc<Metrics>,
}

/// The alerts in force.
#[derive(Debug)]
pub struct FileAlerts {
    pub policy: Arc<ArcSwap<AlertPolicy>>,
    pub metrics: Arc<Metrics>,
}

impl Subject for Policies {
    type Compiled = PolicySet;

    const NAME: &'static str = "policies";

    const LOAD: &'static str = "load policies";

    const RELOAD: &'static str = "reload policies";

    fn compile(&self, texts: &Texts) -> Result<PolicySet, Vec<Problem>> {
        let Texts { sources, overlays } = texts;
        let before = self.engine.policies();
        compile_with_overlays((sources, overlays), self.options.clone(), Some(&before))
    }

    fn overlay_problems(policies: &PolicySet) -> Vec<Problem> {
        policies.overlays().iter().flat_map(|overlay| overlay.problems.clone()).collect()
    }

    fn version(&self, _: &str) -> String {
        self.engine.policies().hash().to_owned()
    }

    fn put_in_force(&self, policies: PolicySet, origin: Origin) {
        let policies = policies.from_origin(origin);
        warn(policies.warnings());
        self.tell_count_changes(&policies);
        let at_s = self.engine.now().as_ms() / 1_000;
        let origin = policies.origin();
        let version = origin.and_then(|origin| origin.version.as_deref());
        self.metrics.policy_loaded(policies.hash(), at_s);
        self.metrics.xds.in_force(origin.map_or("", |origin| origin.source), version);
        let overlays = policies.overlays();
        if self.has_overlays {
            let count = |state| overlays.iter().filter(|overlay| overlay.state == state).count();
            let counts = OverlayState::ALL.map(|state| (state.name(), count(state)));
            self.metrics.xds.overlays_in_states(counts.into_iter());
        }
        tracing::info!(
            policy.hash = policies.hash(),
            policy.domains = policies.domains().len(),
            policy.version = version,
            "policies loaded"
        );
        let before = self.engine.policies();
        self.engine.replace(policies);
        self.note_edits(before);
    }

    fn count(&self, reload: Reload) {
        self.metrics.reload(reload);
        if reload == Reload::Error {
            self.metrics.policy_rejected.set(1);
        }
    }
}

impl Policies {
    /// Notes what a reload has changed, if it was no first load. Thousands of rules take a while to compare, so no request should
    /// wait for the thread that does it.
    fn note_edits(&self, before: Arc<PolicySet>) {
        let (engine, policies) = (self.engine.clone(), self.engine.policies());
        if before.origin().is_none() || before.hash() == policies.hash() {
            return;
        }
        spawn_blocking(move || {
            engine.reloads.note(PolicyReload {
                at: engine.now(),
                hashes: [&before, &policies].map(|set| set.hash().to_owned()),
                source: policies.origin().map_or("", |origin| origin.source).to_owned(),
                edits: PolicyEdits::between(&before, &policies),
            });
        });
    }

    /// Reports the counts that an edit does not keep.
    fn tell_count_changes(&self, policies: &PolicySet) {
        let found = count_changes(&self.engine.policies(), policies);
        for restart in found.restarts.iter().take(LIMITS_TOLD_MAX) {
            let Restart { domain, rule, limit, .. } = restart;
            tracing::warn!(
                domain,
                rule,
                limit,
                "a limit starts a new count{}",
                restart.reason_text()
            );
        }
        for Gone { domain, rule, limit } in found.gone.iter().take(LIMITS_TOLD_MAX) {
            tracing::info!(domain, rule, limit, "a limit is gone: no limit uses its counts");
        }
        if found.is_cut {
            tracing::warn!("{NOT_ALL_COMPARED}");
        }
        let more = |count: usize| count.checked_sub(LIMITS_TOLD_MAX).filter(|more| 0 < *more);
        if let Some(more) = more(found.restarts.len()) {
            tracing::warn!(limits = more, "more limits start a new count");
        }
        if let Some(more) = more(found.gone.len()) {
            tracing::info!(limits = more, "more limits are gone");
        }
    }
}

impl Subject for FileCallers {
    type Compiled = Callers;

    const NAME: &'static str = "callers";

    const LOAD: &'static str = "load callers";

    const RELOAD: &'static str = "reload callers";

    fn compile(&self, texts: &Texts) -> Result<Callers, Vec<Problem>> {
        // Only a warning: policies and callers are edited one after the other.
        let policies = self.engine.policies();
        let callers_for = CallersFor { policies: &policies, severity: Severity::Warning };
        compile_callers_for(&texts.sources, Some(callers_for))
    }

    fn version(&self, texts: &str) -> String {
        texts.to_owned()
    }

    fn put_in_force(&self, callers: Callers, _: Origin) {
        warn(callers.warnings());
        let count = callers.len();
        self.engine.directory().replace(callers);
        self.metrics.callers.loaded(count);
        tracing::info!(callers = count, "callers loaded");
    }

    fn count(&self, reload: Reload) {
        self.metrics.callers.reload(reload);
    }
}

impl Subject for FileAlerts {
    type Compiled = AlertPolicy;

    const NAME: &'static str = "alerts";

    const LOAD: &'static str = "load alerts";

    const RELOAD: &'static str = "reload alerts";

    fn compile(&self, texts: &Texts) -> Result<AlertPolicy, Vec<Problem>> {
        // The task of alerts compares them with the policies, which are edited for themselves.
        let checks = AlertChecks { need: &check_need, policies: None, now: None };
        compile_alerts_with(&texts.sources, &checks)
    }

    fn version(&self, texts: &str) -> String {
        texts.to_owned()
    }

    fn put_in_force(&self, policy: AlertPolicy, _: Origin) {
        warn(&policy.warnings);
        let (rules, channels) = (policy.rules.len(), policy.channels.len());
        self.metrics.alerts.begin(policy.channels.iter().map(|channel| &*channel.name));
        self.policy.store(Arc::new(policy));
        tracing::info!(rules, channels, "alerts loaded");
    }

    fn count(&self, reload: Reload) {
        if reload == Reload::Error {
            self.metrics.alerts.reject();
        }
    }
}

fn warn(warnings: &[Problem]) {
    for Problem { path, line, column, message, .. } in warnings {
        tracing::warn!(file = path, line, column, "{message}");
    }
}
