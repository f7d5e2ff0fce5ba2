//! All settings, by component.

use super::alerts::AlertSettings;
use super::api_keys::ApiKeySettings;
use super::audit::AuditSettings;
use super::callers::CallerSettings;
use super::dashboard::DashboardSettings;
use super::listening::ListeningSettings;
use super::observing::ObservingSettings;
use super::policies::PolicySettings;
use super::process::ProcessSettings;
use super::redis::RedisServerSettings;
use super::setting::{Component, Setting};
use super::statsd::StatsdReceiverSettings;
use super::store::StoreSettings;
use super::xds::XdsSettings;

/// The settings of the process.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub policies: PolicySettings,
    pub xds: XdsSettings,
    pub callers: CallerSettings,
    pub api_keys: ApiKeySettings,
    pub alerts: AlertSettings,
    pub audit: AuditSettings,
    pub dashboard: DashboardSettings,
    pub listening: ListeningSettings,
    pub store: StoreSettings,
    pub redis: RedisServerSettings,
    pub observing: ObservingSettings,
    pub statsd: StatsdReceiverSettings,
    pub process: ProcessSettings,
}

/// The declarations of all settings, by group, in the order of the help.
pub fn table() -> impl Iterator<Item = &'static Setting> {
    let components = [
        PolicySettings::TABLE,
        XdsSettings::TABLE,
        CallerSettings::TABLE,
        ApiKeySettings::TABLE,
        AlertSettings::TABLE,
        AuditSettings::TABLE,
        DashboardSettings::TABLE,
        ListeningSettings::TABLE,
        StoreSettings::TABLE,
        RedisServerSettings::TABLE,
        ObservingSettings::TABLE,
        StatsdReceiverSettings::TABLE,
        ProcessSettings::TABLE,
    ];
    components.into_iter().flatten()
}

impl Settings {
    /// Parses the text of the setting `name`. False: the text is invalid, or the setting is unknown.
    pub fn set(&mut self, name: &str, text: &str) -> bool {
        // Each name belongs to one component; the others ignore it.
        self.policies.set(name, text)
            || self.xds.set(name, text)
            || self.callers.set(name, text)
            || self.api_keys.set(name, text)
            || self.alerts.set(name, text)
            || self.audit.set(name, text)
            || self.dashboard.set(name, text)
            || self.listening.set(name, text)
            || self.store.set(name, text)
            || self.redis.set(name, text)
            || self.observing.set(name, text)
            || self.statsd.set(name, text)
            || self.process.set(name, text)
    }
}
