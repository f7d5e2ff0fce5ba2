//! Finds the server and connects to it. Passwords and certificates are read from their files each time, so they
//! may be replaced while the process runs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisError};
use futures_util::future::select_ok;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::settings::{Login, RedisSettings, RedisSettingsError};
use super::socket::Target;

/// Maximum number of commands that wait to be written; more wait until their deadline.
const PIPELINE_LEN_MAX: usize = 1_024;

/// The reason that connecting failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings have become invalid.
    #[error(transparent)]
    Settings(#[from] RedisSettingsError),
    /// There is no server, or its certificate has another name.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The server does not answer, or not as expected.
    #[error(transparent)]
    Server(#[from] RedisError),
    /// No Sentinel knows the master; the answer of the last one.
    #[error("no Sentinel found the master `{master}`: {reason}")]
    Sentinels { master: String, reason: Box<ConnectError> },
    /// A node of a cluster reports no slots.
    #[error("it reported no slots")]
    NoSlots,
    /// Timeout.
    #[error("timed out after {} ms", timeout.as_millis())]
    Late { timeout: Duration },
    /// The Sentinel does not know the master.
    #[error("the master is unknown")]
    Unknown,
}

/// A connection to the server of the settings; to the master from the Sentinels, if there are any.
///
/// # Errors
/// If it fails. It has no timeout of its own; the caller has one.
pub async fn connect(settings: &RedisSettings, login: Login) -> Result<Connected, ConnectError> {
    connect_with(settings, login, AsyncConnectionConfig::new()).await
}

/// As [`connect`], with another purpose.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(
    settings: &RedisSettings,
    login: Login,
    config: AsyncConnectionConfig,
) -> Result<Connected, ConnectError> {
    Connected::open(&target(settings, login).await?, config).await
}

/// The address of the server of the settings; of the master from the Sentinels, if there are any.
///
/// # Errors
/// If the settings are invalid now, or no Sentinel knows the master.
pub async fn target(settings: &RedisSettings, login: Login) -> Result<Target, ConnectError> {
    if settings.sentinels.is_empty() {
        return Ok(settings.target(login)?);
    }
    let (host, port) = master(settings).await?;
    Ok(settings.at(&host, port)?.target(login)?)
}

/// A connection, with the task that reads and writes for it until this is dropped.
#[derive(Debug)]
pub struct Connected {
    pub connection: MultiplexedConnection,
    closed: Arc<Notify>,
    _driver: JoinSet<()>,
}

impl Connected {
    async fn open(target: &Target, config: AsyncConnectionConfig) -> Result<Self, ConnectError> {
        let config = config
            .set_pipeline_buffer_size(PIPELINE_LEN_MAX)
            // Each call has its own deadline; a second timer is not needed.
            .set_response_timeout(None)
            .set_connection_timeout(None);
        let (login, socket) = (target.connection.redis_settings(), target.open().await?);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(login, socket, config).await?;
        let closed = Arc::new(Notify::new());
        let reported = closed.clone();
        // Our own task instead of the library's, which would not report its end.
        let mut drivers = JoinSet::new();
        drivers.spawn(async move {
            driver.await;
            reported.notify_one();
        });
        Ok(Self { connection, closed, _driver: drivers })
    }

    /// Returns when the server has closed it, even if it is idle. Only one caller may wait.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }
}

/// The address of the master, from the first Sentinel that knows it. An outdated Sentinel may return the old master.
/// The heartbeat detects that it takes no writes, and asks again.
async fn master(settings: &RedisSettings) -> Result<(String, u16), ConnectError> {
    let master = settings.host()?.unwrap_or_default();
    let asked = settings.sentinels.iter().map(|url| Box::pin(ask(settings, url, &master)));
    let known = select_ok(asked).await;
    known.map(|(address, _)| address).map_err(|reason| {
        let reason = Box::new(reason);
        ConnectError::Sentinels { master: master.clone(), reason }
    })
}

async fn ask(
    settings: &RedisSettings,
    url: &str,
    master: &str,
) -> Result<(String, u16), ConnectError> {
    let target = settings.sentinel(url)?;
    let mut connected = Connected::open(&target, AsyncConnectionConfig::new()).await?;
    let mut command = Cmd::new();
    command.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer = connected.connection.send_packed_command(&command).await?.extract_error()?;
    let address: Option<(String, u16)> =
        Option::from_redis_value(answer).map_err(RedisError::from)?;
    address.ok_or(ConnectError::Unknown)
}
