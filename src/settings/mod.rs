//! The settings of the process: from a file, then the environment, then flags; the later one wins. The environment of
//! envoyproxy/ratelimit stands between the file and that of Tollgate.
//!
//! A single declaration of each setting defines all three sources, the default and the help, so they always agree. All
//! problems are collected and reported at once, each with its place.

mod alerts;
mod api_keys;
mod api_variables;
mod audit;
mod callers;
mod contexts;
mod dashboard;
mod error;
mod listening;
mod observing;
mod policies;
mod process;
mod redis;
mod reference;
mod setting;
mod sources;
mod statsd;
mod store;
mod table;
mod value;
mod xds;

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use crate::policy::Source;

use reference::Translation;

pub use contexts::{AddressParts, ApiAddress};
pub use error::SettingsError;
pub use listening::TlsFiles;
pub use reference::ReferenceVariable;
pub use setting::Setting;
pub use sources::FILE_VARIABLE;
pub use table::{Settings, table};
pub use value::{PolicySourceName, Secret, StatsdProtocol, some_time};
pub use xds::XdsSettings;

/// The settings, and variables that may be meant as settings.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// Variables of envoyproxy/ratelimit that are not read and that no setting covers.
    pub unread: Vec<ReferenceVariable>,
    /// Its variables that are read and have no effect, each with the reason.
    pub unused: Vec<(&'static str, &'static str)>,
}

/// All sources of settings.
struct Sources<'a> {
    file: Option<&'a Source>,
    reference: &'a Translation,
    variables: Vec<(String, String)>,
    flags: &'a [(&'static Setting, String)],
}

impl Settings {
    /// Reads `file`, or the file in the environment variable, then the environment, then `flags`: names and texts of
    /// settings.
    ///
    /// # Errors
    /// All problems of all sources.
    pub fn load(
        file: Option<&Path>,
        flags: &[(&'static Setting, String)],
    ) -> Result<Loaded, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let variables = sources::variables(&mut errors);
        let named = variables.iter().find(|(name, _)| name == FILE_VARIABLE);
        let file = file.or(named.map(|(_, path)| Path::new(path.as_str())));
        let source = file.and_then(|path| sources::source(path, &mut errors));
        let has_own = file.is_some() || !flags.is_empty() || sources::has_settings(&variables);
        let environment = reference::environment();
        let program = env::args_os().next();
        let is_meant = reference::is_meant(program.as_deref(), &environment, has_own);
        let mut translation = Translation::default();
        if is_meant {
            translation = reference::translate(&environment);
        }
        errors.append(&mut translation.errors);
        let own = Sources { file: source.as_ref(), reference: &translation, variables, flags };
        Self::resolve(own, errors).map(|(settings, set_names)| {
            let unread = if is_meant { Vec::new() } else { reference::variables(&environment) };
            Loaded {
                settings,
                unread: unread.into_iter().filter(|one| !one.is_covered(&set_names)).collect(),
                unused: translation.unused,
            }
        })
    }

    /// The settings, and the names of those that are set.
    fn resolve(
        Sources { file, reference, variables, flags }: Sources<'_>,
        mut errors: Vec<SettingsError>,
    ) -> Result<(Self, Vec<&'static str>), Vec<SettingsError>> {
        let (mut all, reference) = sources::from_reference(&reference.settings);
        all.extend(file.into_iter().flat_map(|source| sources::from_file(source, &mut errors)));
        all.extend(reference);
        all.extend(sources::from_variables(variables, &mut errors));
        all.extend(sources::from_flags(flags));

        let mut settings = Self::default();
        let mut texts = BTreeMap::new();
        for assignment in &all {
            let name = assignment.setting.name;
            if !settings.set(name, &assignment.text) {
                errors.push(assignment.invalid());
            }
            texts.insert(name, assignment.text.as_str());
        }
        errors.extend(contradictions(&texts));
        errors.extend(settings.listening.contradictions());
        errors.extend(settings.xds.contradictions());
        if settings.redis.tls_any_name && settings.redis.tls_ca_file.is_none() {
            let (name, other) = ("redis_tls_any_name: true", "redis_tls_ca_file");
            errors.push(SettingsError::Needs { name, other });
        }
        let names = texts.into_keys().collect();
        if errors.is_empty() { Ok((settings, names)) } else { Err(errors) }
    }
}

/// Problems of settings that require or exclude others.
fn contradictions(texts: &BTreeMap<&str, &str>) -> Vec<SettingsError> {
    let is_set = |name: &str| texts.get(name).is_some_and(|text| !text.is_empty());
    let mut errors = Vec::new();
    for setting in table().filter(|setting| is_set(setting.name)) {
        let name = setting.name;
        let needed = setting.needs.iter().copied().filter(|other| !is_set(other));
        errors.extend(needed.map(|other| SettingsError::Needs { name, other }));
        let excluded = setting.excludes.iter().copied().filter(|other| is_set(other));
        errors.extend(excluded.map(|other| SettingsError::Excludes { name, other }));
    }
    errors
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing::level_filters::LevelFilter;

    use super::*;

    fn resolve(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Settings, String> {
        let source = Source { path: "tollgate.yaml".to_owned(), text: file.to_owned() };
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let flag = |(name, text): &(&str, &str)| {
            let setting = table().find(|setting| setting.name == *name).unwrap();
            (setting, (*text).to_owned())
        };
        let flags: Vec<_> = flags.iter().map(flag).collect();
        let variables = variables.iter().map(owned).collect();
        let reference = &Translation::default();
        let own = Sources { file: Some(&source), reference, variables, flags: &flags };
        let resolved = Settings::resolve(own, Vec::new());
        resolved
            .map(|(settings, _)| settings)
            .map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect::<String>())
    }

    /// Checks that each of `expected` is reported, and nothing else.
    fn check_refused(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&str, &str)],
        expected: &[&str],
    ) {
        let messages = resolve(file, variables, flags).unwrap_err();
        for text in expected {
            assert!(messages.contains(text), "{text:?} is not in\n{messages}");
        }
        assert_eq!(messages.matches("error: ").count(), expected.len(), "{messages}");
    }

    #[test]
    fn flags_stand_above_variables_and_those_above_the_file() {
        let file = "store_deadline: 1ms\nmemory_keys_max: 1\nlog_level: debug";
        let variables = [("TOLLGATE_STORE_DEADLINE", "2ms"), ("TOLLGATE_MEMORY_KEYS_MAX", "2")];
        let settings = resolve(file, &variables, &[("store_deadline", "3ms")]).unwrap();
        assert_eq!(settings.store.deadline, Duration::from_millis(3));
        assert_eq!(settings.store.memory_keys_max, 2);
        assert_eq!(settings.observing.log_level, LevelFilter::DEBUG);
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_places() {
        check_refused(
            "shadow_mod: true\nstore_deadline: soon\npolicies: {a: b}\nlog_level: info\nlog_level: info",
            &[("TOLLGATE_LOG_FORMAT", "xml"), ("TOLLGATE_LOG_LEVLE", "info")],
            &[("worker_threads", "0")],
            &[
                "unknown setting `shadow_mod`; did you mean `shadow_mode`?",
                "tollgate.yaml:2:17: store_deadline: `soon` is invalid; use a duration up to an hour, \
                 such as 10ms, 2s or 1m",
                "policies: a map is invalid; use a list of paths",
                "duplicate setting `log_level`",
                "TOLLGATE_LOG_FORMAT: `xml` is invalid; use one of text and json",
                "TOLLGATE_LOG_LEVLE: unknown setting; did you mean `TOLLGATE_LOG_LEVEL`?",
                "--worker-threads: `0` is invalid; use a whole number from 1 to 1024",
            ],
        );
    }

    #[test]
    fn a_file_that_is_no_map_is_a_problem() {
        check_refused("- policies", &[], &[], &["a list instead of settings"]);
        check_refused("policies: [", &[], &[], &["tollgate.yaml:1:11"]);
        assert!(resolve("# nothing but this", &[], &[]).is_ok());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let url = [("TOLLGATE_REDIS_URL", "user:hunter2@host")];
        let messages = resolve("", &url, &[]).unwrap_err();
        assert!(
            messages.contains("TOLLGATE_REDIS_URL: the given value is invalid; use a URL"),
            "{messages}"
        );
        assert!(!messages.contains("hunter2"), "{messages}");
        for file in [
            "redis_url: user:hunter2@host",
            "redis_password: [{a: hunter2}]",
            "redis_pasword: hunter2",
            "redis_password: a\nredis_password: hunter2",
            "redis_password: \"hunter2",
            "redis_url: redis://host\nredis_sentinels: http://:hunter2@host",
        ] {
            let messages = resolve(file, &[], &[]).unwrap_err();
            assert!(
                messages.contains("tollgate.yaml:") && !messages.contains("hunter2"),
                "{messages}"
            );
        }
        let settings = resolve("redis_url: redis://:hunter2@host", &[], &[]).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_problems() {
        let orphan = [("redis_database", "1"), ("redis_tls_key_file", "key.pem")];
        let needs = [
            "redis_database requires redis_url",
            "redis_tls_key_file requires redis_tls_cert_file",
        ];
        check_refused("", &[], &orphan, &needs);
        let passwords = [("redis_password", "a"), ("redis_password_file", "b")];
        let excludes = ["redis_password and redis_password_file can't be combined"];
        check_refused("redis_url: redis://host", &[], &passwords, &excludes);
        let kinds = [("redis_sentinels", "redis://a"), ("redis_cluster_nodes", "b:1")];
        let excludes = ["redis_sentinels and redis_cluster_nodes can't be combined"];
        check_refused("redis_url: redis://host", &[], &kinds, &excludes);
        check_refused(
            "grpc_address: off",
            &[],
            &[],
            &["grpc_address: off requires grpc_unix_socket"],
        );
        let halves = [("grpc_tls_cert_file", "a.pem"), ("http_tls_key_file", "b.pem")];
        let needs = [
            "grpc_tls_cert_file requires grpc_tls_key_file",
            "http_tls_key_file requires http_tls_cert_file",
        ];
        check_refused("", &[], &halves, &needs);
        let orphans = [("grpc_tls_client_ca_file", "a.pem"), ("http_tls_client_ca_file", "b.pem")];
        let needs = [
            "grpc_tls_client_ca_file requires grpc_tls_cert_file",
            "http_tls_client_ca_file requires http_tls_cert_file",
        ];
        check_refused("", &[], &orphans, &needs);
        let nowhere = "grpc_address: off\ngrpc_unix_socket: t.sock";
        let whole = [("grpc_tls_cert_file", "a.pem"), ("grpc_tls_key_file", "b.pem")];
        check_refused(nowhere, &[], &whole, &["grpc_tls_cert_file requires grpc_address"]);
    }

    #[test]
    fn variables_that_kubernetes_sets_for_services_are_passed_over() {
        let links = [
            ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
            ("TOLLGATE_SERVICE_PORT_GRPC", "8081"),
            ("TOLLGATE_PORT", "tcp://10.0.0.1:8081"),
            ("TOLLGATE_REDIS_PORT_6379_TCP_PORT", "6379"),
            ("TOLLGATE_CONFIG", "elsewhere.yaml"),
        ];
        assert!(resolve("", &links, &[]).is_ok());
        let close = [("TOLLGATE_PORT", "8081")];
        check_refused("", &close, &[], &["TOLLGATE_PORT: unknown setting"]);
    }

    #[test]
    fn only_this_machine_is_served_by_default() {
        let settings = Settings::default();
        for address in [settings.listening.grpc_address.unwrap(), settings.listening.http_address] {
            assert!(address.ip().is_loopback(), "{address}");
        }
    }

    #[test]
    fn an_empty_variable_of_a_setting_without_default_is_none() {
        assert!(resolve("", &[("TOLLGATE_REDIS_URL", "")], &[]).unwrap().redis.url.is_none());
    }

    #[test]
    fn the_example_file_has_every_default() {
        let text = std::fs::read_to_string("config/tollgate.yaml").unwrap();
        let messages: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.is_empty() && !line.starts_with(' '))
            .collect();
        let table: Vec<String> = table()
            .map(|setting| format!("{}: {}", setting.name, setting.default).trim_end().to_owned())
            .collect();
        assert_eq!(messages, table, "a line `#name: default` for each setting, in order");
        let defaults = format!("{:?}", Settings::default());
        assert_eq!(format!("{:?}", resolve(&text, &[], &[]).unwrap()), defaults);
        assert_eq!(format!("{:?}", resolve(&messages.join("\n"), &[], &[]).unwrap()), defaults);
    }
}
