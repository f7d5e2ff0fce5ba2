//! Finds the server and connects to it, each time by what the settings' files say then: passwords and certificates
//! may be replaced while the process runs.

use std::net::SocketAddr;
use std::time::Duration;

use ::redis::AsyncConnectionConfig;
use ::redis::Client;
use ::redis::Cmd;
use ::redis::FromRedisValue;
use ::redis::RedisError;
use ::redis::RedisFuture;
use ::redis::aio::MultiplexedConnection;
use ::redis::io::AsyncDNSResolver;
use futures_util::future::select_ok;

use super::settings::Login;
use super::settings::RedisSettings;
use super::settings::RedisSettingsError;

/// Requests that may wait to be written; more wait for their turn until their deadline.
const PIPELINE_LEN_MAX: usize = 1_024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings have become unusable.
    #[error(transparent)]
    Settings(#[from] RedisSettingsError),
    /// The server does not answer, or not as it should.
    #[error(transparent)]
    Server(#[from] RedisError),
    /// No Sentinel tells where the master is; what the last of them said.
    #[error("no Sentinel knows the master `{master}`: {reason}")]
    Sentinels { master: String, reason: Box<ConnectError> },
    /// A node of a cluster that tells nothing of its slots.
    #[error("it tells of no slots")]
    NoSlots,
    /// It took too long.
    #[error("it took over {} ms", timeout.as_millis())]
    Late { timeout: Duration },
    /// The Sentinel knows no such master.
    #[error("it is unknown to them")]
    Unknown,
}

/// A connection to the server of the settings; to the master that the Sentinels name, if there are any.
///
/// # Errors
/// When there is none. It takes as long as it takes; whoever calls has a deadline.
pub async fn connect(
    settings: &RedisSettings,
    login: Login,
) -> Result<MultiplexedConnection, ConnectError> {
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
) -> Result<MultiplexedConnection, ConnectError> {
    if settings.sentinels.is_empty() {
        return open(settings, login, config).await;
    }
    let (host, port) = master(settings).await?;
    open(&settings.at(&host, port)?, login, config).await
}

async fn open(
    settings: &RedisSettings,
    login: Login,
    config: AsyncConnectionConfig,
) -> Result<MultiplexedConnection, ConnectError> {
    let config = config
        .set_pipeline_buffer_size(PIPELINE_LEN_MAX)
        // Each call has a deadline of its own; two timers would be one too many.
        .set_response_timeout(None)
        .set_connection_timeout(None);
    let config = match (&settings.tls.server_name, settings.host()?) {
        (Some(_), Some(host)) => config.set_dns_resolver(HostOf(host)),
        _ => config,
    };
    let client = settings.client(login)?;
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
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
    let client: Client = settings.sentinel(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = Cmd::new();
    command.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer = connection.send_packed_command(&command).await?.extract_error()?;
    let address: Option<(String, u16)> =
        Option::from_redis_value(answer).map_err(RedisError::from)?;
    address.ok_or(ConnectError::Unknown)
}

/// Resolves every name to the addresses of one host: the server is asked for by the name on its
/// certificate, and found by another.
struct HostOf(String);

impl AsyncDNSResolver for HostOf {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _name: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((self.0.as_str(), port)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Box<_>)
        })
    }
}
