//! The API keys of the settings: their peppers, their store, and the task that writes their last uses.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, anyhow};
use tokio::time::{MissedTickBehavior, interval};
use tokio::{pin, select};

use crate::api_keys::Peppers;
use crate::engine::ApiKeys;
use crate::metrics::Metrics;
use crate::printable;
use crate::settings::Settings;
use crate::store::redis::{Redis, Subscriber};
use crate::store::{ApiKeyFile, ApiKeyStore, EmbeddedApiKeys};

/// The file of API keys in `data_dir`.
const FILE: &str = "api_keys.redb";

/// The permissions in the mode of a file, and those of its group and of others to read it.
const MODE_BITS: u32 = 0o777;
const READ_BY_OTHERS: u32 = 0o044;

/// How often to write the last uses of API keys.
const LAST_USES_INTERVAL: Duration = Duration::from_secs(5);

/// The API keys, if the settings have a pepper.
///
/// # Errors
/// If the peppers, or the file of API keys, can't be read.
pub fn build(
    settings: &Settings,
    metrics: &Metrics,
    store: Option<ApiKeyStore>,
) -> anyhow::Result<Option<Arc<ApiKeys>>> {
    let Some((path, store)) = settings.api_keys.pepper_file.as_deref().zip(store) else {
        return Ok(None);
    };
    metrics.api_keys.begin();
    Ok(Some(Arc::new(ApiKeys::new(store, peppers(path)?))))
}

/// The store of API keys in Redis, if the settings have a pepper, and the task that receives their changes.
pub fn in_redis(
    settings: &Settings,
    redis: &Redis,
    subscriber: Option<Subscriber>,
) -> (Option<ApiKeyStore>, Option<Subscriber>) {
    if settings.api_keys.pepper_file.is_none() {
        return (None, subscriber);
    }
    let (keys, subscriber) = redis.api_keys(settings.api_keys.cache_len, subscriber);
    (Some(ApiKeyStore::Redis(keys)), Some(subscriber))
}

/// The store of API keys in this process, if the settings have a pepper.
///
/// # Errors
/// If their file can't be read.
pub fn embedded(settings: &Settings) -> anyhow::Result<Option<ApiKeyStore>> {
    if settings.api_keys.pepper_file.is_none() {
        return Ok(None);
    }
    let Some(folder) = &settings.store.data_dir else {
        tracing::warn!("API keys end with the process: set data_dir or redis_url");
        return Ok(Some(ApiKeyStore::Embedded(EmbeddedApiKeys::default())));
    };
    let path = folder.join(FILE);
    let opened = ApiKeyFile::open(&path).map_err(|reason| anyhow!(reason));
    let opened = opened.with_context(|| format!("can't read {}", printable::path(&path)));
    let (file, content) = opened?;
    Ok(Some(ApiKeyStore::Embedded(EmbeddedApiKeys::of(file, content))))
}

/// Writes the last uses of API keys to their store.
pub struct LastUseWriter(pub Arc<ApiKeys>);

impl LastUseWriter {
    /// Runs until `shutdown`, and writes the last ones.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(LAST_USES_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pin!(shutdown);
        loop {
            let is_last = select! {
                () = &mut shutdown => true,
                _ = ticks.tick() => false,
            };
            if let Err(error) = self.0.store_uses().await {
                // The connection or the file tells of it, and they are written again.
                tracing::debug!(%error, "storing the last uses of API keys failed");
            }
            if is_last {
                return;
            }
        }
    }
}

fn peppers(path: &Path) -> anyhow::Result<Peppers> {
    let read = || -> anyhow::Result<Peppers> {
        let text = fs::read(path)?;
        let text = String::from_utf8(text).map_err(|_| io::Error::other("it is not UTF-8"))?;
        // A byte order mark, which some editors write, is no part of a pepper.
        Ok(Peppers::parse(text.trim_start_matches('\u{feff}'))?)
    };
    let peppers = read();
    if peppers.is_ok() {
        warn_of_readers(path);
    }
    peppers.with_context(|| format!("can't read {} (api_key_pepper_file)", printable::path(path)))
}

/// Whoever has a pepper and a copy of the store can try texts of API keys.
fn warn_of_readers(path: &Path) {
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & MODE_BITS);
    if mode & READ_BY_OTHERS != 0 {
        let (file, mode) = (printable::path(path), format!("{mode:03o}"));
        tracing::warn!(
            file,
            mode,
            "group or others can read the pepper file (api_key_pepper_file); use chmod 600"
        );
    }
}
