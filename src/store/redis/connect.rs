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

/// Requests that may wait to be written; more wait for their turn until their deadline.
const PIPELINE_LEN_MAX: usize = 1_024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings have become unusable.
    #[error(transparent)]
    Settings(#[from] RedisSettingsError),
    /// There is no server, or its certificate has another name.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The server does not answer, or not as it should.
    #[error(transparent)]
    Server(#[from] RedisError),
    /// No Sentinel tells where the master is; what the last of them said.
    #[error("no Sentinel found the master `{master}`: {reason}")]
    Sentinels { master: String, reason: Box<ConnectError> },
    /// A node of a cluster that tells nothing of its slots.
    #[error("it reported no slots")]
    NoSlots,
    /// It took too long.
    #[error("timed out after {} ms", timeout.as_millis())]
    Late { timeout: Duration },
    /// The Sentinel knows no such master.
    #[error("the master is unknown")]
    Unknown,
}

/// A connection to the server of the settings; to the master that the Sentinels name, if there are any.
///
/// # Errors
/// When there is none. It has no deadline of its own; the caller has one.
pub async fn connect(settings: &RedisSettings, login: Login) -> Result<Connected, ConnectError> {
    connect_with(settings, login, AsyncConnectionConfig::new()).await
}

/// As [`connect`], with more that the connection is to do.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(
    settings: &RedisSettings,
    login: Login,
    config: AsyncConnectionConfig,
) -> Result<Connected, ConnectError> {
    if settings.sentinels.is_empty() {
        return Connected::open(&settings.target(login)?, config).await;
    }
    let (host, port) = master(settings).await?;
    Connected::open(&settings.at(&host, port)?.target(login)?, config).await
}

/// A connection, and the task that reads and writes for it as long as this lives.
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
            // Each call has a deadline of its own; two timers would be one too many.
            .set_response_timeout(None)
            .set_connection_timeout(None);
        let (login, socket) = (target.connection.redis_settings(), target.open().await?);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(login, socket, config).await?;
        let closed = Arc::new(Notify::new());
        let told = closed.clone();
        // A task of its own, as the library itself would begin; that one would not say when it ends.
        let mut drivers = JoinSet::new();
        drivers.spawn(async move {
            driver.await;
            told.notify_one();
        });
        Ok(Self { connection, closed, _driver: drivers })
    }

    /// Waits until the server has closed it, be it idle. One may wait.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }
}

/// Where the master is, by the first Sentinel that knows. One that is behind the others may name the old master, which
/// is found to take no writes, and is asked for again.
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
