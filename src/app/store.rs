//! Chooses the store that the settings ask for.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use tokio::time::interval;
use tokio::time::timeout;

use crate::engine::AnyStore;
use crate::settings::Settings;
use crate::store::Directory;
use crate::store::memory::Memory;
use crate::store::redis::CONNECT_TIMEOUT_DEFAULT;
use crate::store::redis::Connector;
use crate::store::redis::IdentityFiles;
use crate::store::redis::Redis;
use crate::store::redis::RedisSettings;
use crate::store::redis::Subscriber;
use crate::store::redis::TlsSettings;

/// How often to look whether the connection stands.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// Where counters and callers live, and the tasks that keep the connections to there.
#[derive(Debug)]
pub struct Stores {
    pub store: AnyStore,
    pub directory: Directory,
    pub connector: Option<Connector>,
    pub subscriber: Option<Subscriber>,
}

/// The stores of these settings. Where there are files of callers, those are the directory.
///
/// # Errors
/// When the settings of Redis can't be used. That it is out is no error.
pub fn build(settings: &Settings) -> anyhow::Result<Stores> {
    let files = (!settings.callers.is_empty()).then(Directory::files);
    let Some(redis_settings) = redis_settings(settings)? else {
        let store = AnyStore::Memory(Memory::new(settings.memory_keys_max));
        let directory = files.unwrap_or_default();
        return Ok(Stores { store, directory, connector: None, subscriber: None });
    };
    let (redis, connector) = Redis::try_new(&redis_settings)?;
    let (directory, subscriber) = match files {
        Some(files) => (files, None),
        None => {
            let (redis, subscriber) = redis.directory(&redis_settings, settings.callers_cache)?;
            (Directory::Redis(redis), Some(subscriber))
        }
    };
    let store = AnyStore::redis(redis);
    Ok(Stores { store, directory, connector: Some(connector), subscriber })
}

/// Waits for the connection, so that the first requests are not answered by `on_outage`; but not for long.
pub async fn connected(store: &AnyStore) {
    let AnyStore::Redis(near) = store else {
        return;
    };
    let redis = near.store();
    let connected = async {
        let mut ticks = interval(PROBE_INTERVAL);
        while !redis.is_connected() {
            ticks.tick().await;
        }
    };
    if timeout(CONNECT_TIMEOUT_DEFAULT, connected).await.is_err() {
        let address = redis.address();
        tracing::warn!(address, "Redis is out; policies' on_outage answers until it is there");
    }
}

/// What people call it.
pub fn name(store: &AnyStore) -> String {
    match store {
        AnyStore::Memory(_) => "counting in memory".to_owned(),
        AnyStore::Redis(near) => format!("counting in Redis at {}", near.store().address()),
    }
}

fn redis_settings(settings: &Settings) -> anyhow::Result<Option<RedisSettings>> {
    let Some(url) = &settings.redis_url else {
        return Ok(None);
    };
    let password = match &settings.redis_password_file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("can't read {} (redis_password_file)", path.display()))?;
            // Editors end a file with a newline, which is no part of the password.
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        None => settings.redis_password.as_ref().map(|password| password.expose().to_owned()),
    };
    let files = settings.redis_tls_cert_file.clone().zip(settings.redis_tls_key_file.clone());
    Ok(Some(RedisSettings {
        url: url.expose().to_owned(),
        username: settings.redis_username.clone(),
        password,
        database: settings.redis_database,
        tls: TlsSettings {
            ca_file: settings.redis_tls_ca_file.clone(),
            identity: files.map(|(certificate, key)| IdentityFiles { certificate, key }),
            server_name: settings.redis_tls_server_name.clone(),
        },
        deadline: settings.store_deadline,
        connect_timeout: CONNECT_TIMEOUT_DEFAULT,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::TABLE;

    fn settings(texts: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, text) in texts {
            let setting = TABLE.iter().find(|setting| setting.name == *name).unwrap();
            assert!((setting.set)(&mut settings, text), "{name}: {text}");
        }
        settings
    }

    #[test]
    fn without_a_redis_counters_live_in_the_process() {
        let stores = build(&Settings::default()).unwrap();
        assert!(matches!(stores.store, AnyStore::Memory(_)) && stores.connector.is_none());
        assert!(matches!(stores.directory, Directory::None));
    }

    #[test]
    fn callers_live_in_files_if_there_are_any_and_else_in_redis() {
        let redis = ("redis_url", "redis://host");
        let files = ("callers", "callers.yaml");
        let directory = |texts: &[(&str, &str)]| build(&settings(texts)).unwrap().directory;
        assert!(matches!(directory(&[redis]), Directory::Redis(_)));
        assert!(matches!(directory(&[redis, files]), Directory::Files(_)));
        assert!(matches!(directory(&[files]), Directory::Files(_)));
    }

    #[test]
    fn every_setting_of_redis_reaches_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "hunter2\n").unwrap();
        let settings = settings(&[
            ("redis_url", "rediss://host"),
            ("redis_username", "user"),
            ("redis_password_file", file.to_str().unwrap()),
            ("redis_database", "3"),
            ("redis_tls_ca_file", "ca.pem"),
            ("redis_tls_server_name", "name"),
            ("redis_tls_cert_file", "cert.pem"),
            ("redis_tls_key_file", "key.pem"),
            ("store_deadline", "7ms"),
        ]);
        let redis = redis_settings(&settings).unwrap().unwrap();
        assert_eq!(redis.url, "rediss://host");
        assert_eq!(redis.username.as_deref(), Some("user"));
        assert_eq!(redis.password.as_deref(), Some("hunter2"));
        assert_eq!(redis.database, Some(3));
        assert_eq!(redis.deadline, Duration::from_millis(7));
        assert_eq!(redis.tls.ca_file.unwrap().to_str(), Some("ca.pem"));
        assert_eq!(redis.tls.server_name.as_deref(), Some("name"));
        let identity = redis.tls.identity.unwrap();
        assert_eq!(identity.certificate.to_str(), Some("cert.pem"));
        assert_eq!(identity.key.to_str(), Some("key.pem"));
    }
}
