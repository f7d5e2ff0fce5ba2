//! The connection to the server: one that all requests share, and a task that keeps it up and sends their groups.
//!
//! Requests never connect. They join a group that the task sends, or are told that there is no connection; when an
//! answer fails to come they raise a doubt and go. The task pings a doubted connection (and, now and
//! then, an idle one) and replaces it if the ping fails. So one place decides what is broken, a stalled
//! peer is found as surely as a closed one, and a slow moment of a healthy server costs no reconnect.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::AsyncConnectionConfig;
use ::redis::Client;
use ::redis::Cmd;
use ::redis::ErrorKind;
use ::redis::RedisError;
use ::redis::RedisFuture;
use ::redis::ServerErrorKind;
use ::redis::Value;
use ::redis::aio::MultiplexedConnection;
use ::redis::io::AsyncDNSResolver;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::time;

use super::group::Asking;
use super::group::Group;
use super::group::Queue;
use super::reply::Reply;
use super::script::Dialect;
use super::settings::RedisSettings;
use super::settings::RedisSettingsError;
use crate::store::StoreError;

/// Requests that may wait to be written; more wait for their turn until their deadline.
const PIPELINE_LEN_MAX: usize = 1_024;

/// How often an idle connection is looked at.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A doubted connection that has no answer to a ping for so long is given up: a hundred deadlines, so that
/// a server that is merely slow keeps its connection, and short against an outage.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a failed attempt: it doubles from the first to the last, less up to half by chance.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the requests see of the connection.
#[derive(Debug)]
pub struct Link {
    address: String,
    state: ArcSwap<State>,
    /// Requests that wait to be sent.
    queue: Queue,
    doubt: Notify,
    /// Why the server refused a charge, until it takes one.
    refusal: ArcSwapOption<String>,
    connects: AtomicU64,
}

#[derive(Debug)]
enum State {
    Up(MultiplexedConnection),
    /// The reason.
    Down(String),
}

/// Keeps the connection up: the task behind a [`super::Redis`].
#[derive(Debug)]
pub struct Connector {
    client: Client,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
    link: Arc<Link>,
}

impl Link {
    /// Host and port, or the path of the socket.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether there is a connection that was good when it was last looked at.
    pub fn is_up(&self) -> bool {
        matches!(**self.state.load(), State::Up(_))
    }

    /// How often a connection was made, the first time included.
    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// Asks the task to look at the connection at once.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Notes that the server refused a charge, as a replica does or one without memory.
    pub fn refused(&self, reason: &RedisError) {
        self.refusal.store(Some(Arc::new(reason.to_string())));
    }

    /// Notes that the server took a charge.
    pub fn accepted(&self) {
        if self.refusal.load().is_some() {
            self.refusal.store(None);
        }
    }

    /// Logs that the server has begun or ceased to refuse charges, if that was not `told`, and says whether
    /// it refuses them. Not for the requests themselves: one bad record among good ones would flood.
    fn tell_refusal(&self, told: bool) -> bool {
        let address = self.address.as_str();
        let refusal = self.refusal.load_full();
        match refusal.as_deref() {
            Some(reason) if !told => {
                tracing::warn!(store.address = address, reason, "Redis refuses charges");
            }
            None if told => tracing::info!(store.address = address, "Redis takes charges again"),
            Some(_) | None => {}
        }
        refusal.is_some()
    }

    /// Charges a request together with others.
    pub async fn charge(&self, asking: &Asking<'_>) -> Result<Reply, StoreError> {
        if let State::Down(reason) = &**self.state.load() {
            return Err(self.disconnected(reason.clone()));
        }
        let told = self.queue.join(asking)?;
        told.await.unwrap_or_else(|_| Err(self.disconnected("the connection is gone".to_owned())))
    }

    /// Sends a command and returns what the server answers, be it an error.
    pub async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        let mut connection = match &**self.state.load() {
            State::Up(connection) => connection.clone(),
            State::Down(reason) => return Err(self.disconnected(reason.clone())),
        };
        match connection.send_packed_command(command).await {
            Ok(value) => Ok(value),
            Err(error) if is_answer(&error) => Err(StoreError::Refused(error)),
            Err(error) => {
                self.doubt();
                Err(self.disconnected(error.to_string()))
            }
        }
    }

    fn disconnected(&self, reason: String) -> StoreError {
        StoreError::Disconnected { address: self.address.clone(), reason }
    }

    fn set_down(&self, reason: String) {
        self.state.store(Arc::new(State::Down(reason)));
    }
}

impl Connector {
    /// A connector that has not begun, and the link that it will serve.
    pub fn try_new(settings: &RedisSettings) -> Result<(Self, Arc<Link>), RedisSettingsError> {
        // Another part of the process may have chosen the same provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = settings.client()?;
        let config = config(settings)?;
        let link = Arc::new(Link {
            address: client.get_connection_info().addr().to_string(),
            state: ArcSwap::from_pointee(State::Down("not connected yet".to_owned())),
            queue: Queue::default(),
            doubt: Notify::new(),
            refusal: ArcSwapOption::empty(),
            connects: AtomicU64::new(0),
        });
        let connect_timeout = settings.connect_timeout;
        Ok((Self { client, config, connect_timeout, link: link.clone() }, link))
    }

    /// Connects and reconnects until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.keep_up() => {}
        }
        self.link.set_down("shutting down".to_owned());
    }

    async fn keep_up(&self) {
        let mut failures = 0;
        loop {
            let reason = match self.connect().await {
                Ok((connection, dialect)) => {
                    failures = 0;
                    self.serve(connection, dialect).await
                }
                Err(reason) => reason,
            };
            if failures == 0 {
                tracing::warn!(store.address = self.link.address, reason, "no connection to Redis");
            }
            self.link.set_down(reason);
            self.link.queue.clear();
            time::sleep(pause(failures)).await;
            failures += 1;
        }
    }

    /// A connection whose server knows the code, and how it does.
    async fn connect(&self) -> Result<(MultiplexedConnection, Dialect), String> {
        let connecting = async {
            let mut connection =
                self.client.get_multiplexed_async_connection_with_config(&self.config).await?;
            // Told here, the code costs no request a second round trip.
            let dialect = tell_code(&mut connection).await?;
            Ok::<_, RedisError>((connection, dialect))
        };
        match time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(format!("connecting took over {} ms", self.connect_timeout.as_millis())),
        }
    }

    /// Serves a connection until it is broken, and says why it is.
    async fn serve(&self, connection: MultiplexedConnection, dialect: Dialect) -> String {
        tracing::info!(store.address = self.link.address, "connected to Redis");
        self.link.state.store(Arc::new(State::Up(connection.clone())));
        self.link.connects.fetch_add(1, Ordering::Relaxed);
        let sender = || Sender { link: &self.link, connection: connection.clone(), dialect };
        tokio::select! {
            reason = self.watch(connection.clone()) => reason,
            // Two, so that whoever comes while one is under way need not wait for its end.
            () = sender().run() => "nobody sends".to_owned(),
            () = sender().run() => "nobody sends".to_owned(),
        }
    }

    /// Looks at a connection until it is broken, and says why it is.
    async fn watch(&self, mut connection: MultiplexedConnection) -> String {
        let mut told = false;
        loop {
            // Either a doubt or a heartbeat: both are answered by a ping.
            if time::timeout(HEARTBEAT, self.link.doubt.notified()).await.is_err() {
                told = self.link.tell_refusal(told);
            }
            let mut ping = Cmd::new();
            ping.arg("PING");
            let answer = connection.send_packed_command(&ping);
            match time::timeout(PROBE_TIMEOUT, answer).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if is_answer(&error) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "it does not answer".to_owned(),
            }
        }
    }
}

/// Tells the server the code, in the best way that it takes.
async fn tell_code(connection: &mut MultiplexedConnection) -> Result<Dialect, RedisError> {
    let answer = connection.send_packed_command(&Dialect::Library.load()).await;
    match answer.and_then(Value::extract_error) {
        Ok(_) => Ok(Dialect::Library),
        Err(error) if is_known_already(&error) => Ok(Dialect::Library),
        Err(error) if is_answer(&error) => {
            let load = Dialect::Script.load();
            connection.send_packed_command(&load).await?.extract_error()?;
            Ok(Dialect::Script)
        }
        Err(error) => Err(error),
    }
}

/// Sends groups of requests, one after the other.
struct Sender<'c> {
    link: &'c Link,
    connection: MultiplexedConnection,
    dialect: Dialect,
}

impl Sender<'_> {
    async fn run(mut self) {
        loop {
            let group = self.link.queue.next().await;
            match self.send(&group).await {
                Ok(Value::BulkString(bytes)) => {
                    self.link.accepted();
                    group.answer(Ok(&bytes));
                }
                Ok(_) => {
                    let reason = "it is no string of bytes".to_owned();
                    group.answer(Err(StoreError::Garbled { reason }));
                }
                Err(error) if is_answer(&error) => {
                    self.link.refused(&error);
                    group.answer(Err(StoreError::Refused(error)));
                }
                Err(error) => {
                    self.link.doubt();
                    group.answer(Err(self.link.disconnected(error.to_string())));
                }
            }
        }
    }

    /// Has the server decide a group. A server that was restarted or flushed is told the code again.
    async fn send(&mut self, group: &Group) -> Result<Value, RedisError> {
        let call = self.dialect.call(group);
        match self.connection.send_packed_command(&call).await.and_then(Value::extract_error) {
            Err(error) if is_unknown_code(&error) => {}
            answer => return answer,
        }
        self.dialect = tell_code(&mut self.connection).await?;
        let call = self.dialect.call(group);
        self.connection.send_packed_command(&call).await.and_then(Value::extract_error)
    }
}

/// How to connect to the server of the settings.
pub fn config(settings: &RedisSettings) -> Result<AsyncConnectionConfig, RedisSettingsError> {
    let config = AsyncConnectionConfig::new()
        .set_pipeline_buffer_size(PIPELINE_LEN_MAX)
        // Each call has a deadline of its own; two timers would be one too many.
        .set_response_timeout(None)
        .set_connection_timeout(None);
    Ok(match (&settings.tls.server_name, settings.host()?) {
        (Some(_), Some(host)) => config.set_dns_resolver(HostOf(host)),
        _ => config,
    })
}

/// Whether the server has a library of that name, whose hash says that it is the same one.
fn is_known_already(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("already exists"))
}

/// Whether the server doesn't know the code that it was asked to run, and ran nothing.
fn is_unknown_code(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        || error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

/// Whether the server itself answered so, in which case the connection is good.
fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// How long to wait after so many failed attempts before the next.
pub fn pause(failures: u32) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(failures)).min(PAUSE_MAX);
    // Each RandomState hashes differently: chance enough to part sidecars that failed together.
    let chance = RandomState::new().hash_one(failures) % 1_000;
    let less = whole.mul_f64(f64::from(u32::try_from(chance).unwrap_or(0)) / 2_000.0);
    whole - less
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_until_a_charge_is_taken() {
        let (_, link) = Connector::try_new(&RedisSettings::new("redis://127.0.0.1:1")).unwrap();
        assert!(!link.tell_refusal(false));
        link.refused(&RedisError::from((ErrorKind::Client, "READONLY")));
        assert!(link.tell_refusal(false));
        assert!(link.tell_refusal(true));
        link.accepted();
        assert!(!link.tell_refusal(true));
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        for failures in [0, 1, 5, 31, 32, u32::MAX] {
            let whole = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(failures)).min(PAUSE_MAX);
            let pause = pause(failures);
            assert!(whole / 2 <= pause && pause <= whole, "{pause:?} after {failures}");
        }
    }
}
