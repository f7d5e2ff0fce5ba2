//! Creates the store of the settings.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::time::{interval, timeout};

use super::api_keys;
use crate::clock::Timestamp;
use crate::engine::AnyStore;
use crate::metrics::Metrics;
use crate::printable;
use crate::settings::Settings;
use crate::store::embedded::Memory;
use crate::store::redis::{
    CONNECT_TIMEOUT_DEFAULT, Connector, Password, Redis, RedisAlertBook, RedisAuditLog,
    RedisErasures, RedisRefusals, RedisSettings, Subscriber,
};
use crate::store::{
    ApiKeyStore, CounterFile, Directory, DirectoryFile, EmbeddedDirectory, Fallback, FileSums,
    ReservationRecords, SumsStore,
};
use crate::tls_client::{IdentityFiles, TlsSettings};

/// How often to check whether the connection is up.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// The database files in `data_dir`.
const USAGE_FILE: &str = "usage.redb";
const COUNTER_FILE: &str = "counters.redb";
const CALLERS_FILE: &str = "callers.redb";

/// The stores of counters and callers, and the tasks that keep their connections.
#[derive(Debug)]
pub struct Stores {
    pub store: AnyStore,
    pub directory: Directory,
    pub connector: Option<Connector>,
    pub subscriber: Option<Subscriber>,
    /// None: no API keys are kept.
    pub api_keys: Option<ApiKeyStore>,
    /// The records of reservations that are made over HTTP.
    pub reservations: Arc<ReservationRecords>,
    /// The store of usage sums, if they outlive the process.
    pub sums: Option<Arc<SumsStore>>,
    /// Recent refusals of all processes.
    pub refusals: Option<Arc<RedisRefusals>>,
    /// Erasures of callers by any process.
    pub erasures: Option<Arc<RedisErasures>>,
    /// The book of alerts of all processes.
    pub alert_book: Option<Arc<RedisAlertBook>>,
    /// The stream of the audit log.
    pub audit_log: Option<RedisAuditLog>,
    /// The file of counters, if they outlive the process without Redis.
    pub counter_file: Option<CounterFile>,
}

/// The stores of these settings. If there are caller files, they are the directory.
///
/// # Errors
/// If the settings of Redis are invalid, or the file of callers or of API keys can't be read. An unavailable Redis is not
/// an error.
pub fn build(settings: &Settings, metrics: &Metrics, now: Timestamp) -> anyhow::Result<Stores> {
    let files = (!settings.callers.files.is_empty()).then(Directory::files);
    let Some(redis_settings) = redis_settings(settings) else {
        let (memory, counter_file) = memory(settings, metrics, now);
        let store = AnyStore::Memory(memory);
        let directory = match files {
            Some(files) => files,
            None => Directory::Embedded(embedded_directory(settings)?.into()),
        };
        let sums = file_sums(settings, metrics, now);
        return Ok(Stores {
            store,
            directory,
            connector: None,
            subscriber: None,
            api_keys: api_keys::embedded(settings)?,
            reservations: Arc::default(),
            sums,
            refusals: None,
            erasures: None,
            alert_book: None,
            audit_log: None,
            counter_file,
        });
    };
    let (redis, connector) = Redis::try_new(&redis_settings)?;
    let (directory, subscriber) = match files {
        Some(files) => (files, None),
        None => {
            let (redis, subscriber) = redis.directory(settings.callers.cache_len);
            (Directory::Redis(redis), Some(subscriber))
        }
    };
    let (api_keys, subscriber) = api_keys::in_redis(settings, &redis, subscriber);
    let sums = Some(Arc::new(SumsStore::Redis(redis.sums())));
    let reservations = Arc::new(ReservationRecords::Redis(redis.reservations()));
    let refusals = Some(Arc::new(redis.refusals(settings.audit.explained_max)));
    let erasures = Some(Arc::new(redis.erasures()));
    let alert_book = Some(Arc::new(redis.alert_book()));
    let audit_log = Some(redis.audit_log(settings.audit.stream_len_max));
    let fallback = Fallback::new(settings.store.memory_keys_max, settings.store.outage_sidecars);
    let store = AnyStore::redis(redis, fallback);
    Ok(Stores {
        store,
        directory,
        connector: Some(connector),
        subscriber,
        api_keys,
        reservations,
        sums,
        refusals,
        erasures,
        alert_book,
        audit_log,
        counter_file: None,
    })
}

/// Waits a short time for the connection, so that `on_outage` does not answer the first requests.
pub async fn connected(store: &AnyStore) {
    let connected = async {
        let mut ticks = interval(PROBE_INTERVAL);
        while !store.is_available() {
            ticks.tick().await;
        }
    };
    if timeout(CONNECT_TIMEOUT_DEFAULT, connected).await.is_err() {
        let address = store.address();
        tracing::warn!(
            address,
            "Redis unavailable at start; on_outage answers until it is reachable"
        );
    }
}

/// The name of the store in logs.
pub fn name(store: &AnyStore) -> String {
    match store.address() {
        None => "counting in memory".to_owned(),
        Some(address) => format!("counting in Redis at {address}"),
    }
}

/// The embedded store, with its file if `data_dir` is set.
fn memory(settings: &Settings, metrics: &Metrics, now: Timestamp) -> (Memory, Option<CounterFile>) {
    let memory = Memory::new(settings.store.memory_keys_max);
    let Some(folder) = &settings.store.data_dir else { return (memory, None) };
    let (memory, metrics) = (memory.keeping(), metrics.counter_file.clone());
    let file = CounterFile::open(folder.join(COUNTER_FILE), metrics, &memory, now);
    (memory, Some(file))
}

/// The directory of callers in this process, with its file if `data_dir` is set.
fn embedded_directory(settings: &Settings) -> anyhow::Result<EmbeddedDirectory> {
    let Some(folder) = &settings.store.data_dir else { return Ok(EmbeddedDirectory::default()) };
    let path = folder.join(CALLERS_FILE);
    let opened = DirectoryFile::open(&path).map_err(|reason| anyhow!(reason));
    let opened = opened.with_context(|| format!("can't read {}", printable::path(&path)));
    let (file, content) = opened?;
    Ok(EmbeddedDirectory::of(file, content))
}

/// The database file of sums, if usage is counted and `data_dir` is set.
fn file_sums(settings: &Settings, metrics: &Metrics, now: Timestamp) -> Option<Arc<SumsStore>> {
    let folder = settings.store.data_dir.as_ref().filter(|_| settings.observing.usage)?;
    let file = FileSums::open(folder.join(USAGE_FILE), metrics.usage_file.clone(), now);
    Some(Arc::new(SumsStore::File(file)))
}

fn redis_settings(settings: &Settings) -> Option<RedisSettings> {
    let url = settings.redis.url.as_ref()?;
    let text = || settings.redis.password.as_ref().map(|password| password.expose().to_owned());
    let password = match &settings.redis.password_file {
        Some(path) => Some(Password::File(path.clone())),
        None => text().map(Password::Text),
    };
    let sentinels = settings.redis.sentinels.iter().map(|url| url.expose().to_owned());
    let files = settings.redis.tls_cert_file.clone().zip(settings.redis.tls_key_file.clone());
    Some(RedisSettings {
        url: url.expose().to_owned(),
        sentinels: sentinels.collect(),
        cluster_nodes: settings.redis.cluster_nodes.clone(),
        username: settings.redis.username.clone(),
        password,
        database: settings.redis.database,
        tls: TlsSettings {
            ca_file: settings.redis.tls_ca_file.clone(),
            identity: files.map(|(certificate, key)| IdentityFiles { certificate, key }),
            server_name: settings.redis.tls_server_name.clone(),
            any_name: settings.redis.tls_any_name,
        },
        key_prefix: settings.redis.key_prefix.clone(),
        deadline: settings.store.deadline,
        connect_timeout: CONNECT_TIMEOUT_DEFAULT,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(texts: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, text) in texts {
            assert!(settings.set(name, text), "{name}: {text}");
        }
        settings
    }

    fn stores(settings: &Settings) -> Stores {
        build(settings, &Metrics::new(), Timestamp::default()).unwrap()
    }

    #[test]
    fn without_a_redis_counters_live_in_the_process() {
        let stores = stores(&Settings::default());
        assert!(stores.store.address().is_none() && stores.connector.is_none());
        assert!(matches!(stores.directory, Directory::Embedded(_)));
    }

    #[test]
    fn callers_live_in_files_if_there_are_any_and_else_in_redis() {
        let redis = ("redis_url", "redis://host");
        let files = ("callers", "callers.yaml");
        let directory = |texts: &[(&str, &str)]| stores(&settings(texts)).directory;
        assert!(matches!(directory(&[redis]), Directory::Redis(_)));
        assert!(matches!(directory(&[redis, files]), Directory::Files(_)));
        assert!(matches!(directory(&[files]), Directory::Files(_)));
    }

    #[test]
    fn every_setting_of_redis_reaches_it() {
        let settings = settings(&[
            ("redis_url", "rediss://host"),
            ("redis_username", "user"),
            ("redis_sentinels", "redis://a:26379, rediss://b:26379"),
            ("redis_cluster_nodes", "a:7000, b:7000"),
            ("redis_password_file", "password.txt"),
            ("redis_database", "3"),
            ("redis_tls_ca_file", "ca.pem"),
            ("redis_tls_server_name", "name"),
            ("redis_tls_cert_file", "cert.pem"),
            ("redis_tls_key_file", "key.pem"),
            ("store_deadline", "7ms"),
        ]);
        let redis = redis_settings(&settings).unwrap();
        assert_eq!(redis.url, "rediss://host");
        assert_eq!(redis.username.as_deref(), Some("user"));
        assert_eq!(redis.sentinels, ["redis://a:26379", "rediss://b:26379"]);
        assert_eq!(redis.cluster_nodes, [("a".to_owned(), 7000), ("b".to_owned(), 7000)]);
        let file = |path: &Path| path == "password.txt";
        assert!(matches!(redis.password, Some(Password::File(path)) if file(&path)));
        assert_eq!(redis.database, Some(3));
        assert_eq!(redis.deadline, Duration::from_millis(7));
        assert_eq!(redis.tls.ca_file.unwrap().to_str(), Some("ca.pem"));
        assert_eq!(redis.tls.server_name.as_deref(), Some("name"));
        let identity = redis.tls.identity.unwrap();
        assert_eq!(identity.certificate.to_str(), Some("cert.pem"));
        assert_eq!(identity.key.to_str(), Some("key.pem"));
    }
}
