//! Subscribes to changes of callers and API keys, and knows whether every change is certainly received.
//!
//! A separate connection is subscribed to the names of changed callers. It is pinged continuously, and answers are
//! ordered: the answer to a ping comes after every earlier change. So every sidecar receives a change at once. A
//! sidecar that has lost the connection uses its cache for less than a second, then reads from Redis until it is
//! subscribed again. The ping reads the number of changes. If it is lower than before, Redis was emptied, for which
//! there is no message, and the cache is cleared.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Cmd, FromRedisValue, PushInfo, PushKind, RedisError, Value};
use tokio::{select, time};

use super::cache::ChangeListener;
use super::connect::{ConnectError, Connected, connect_with};
use super::connection::RECONNECT;
use super::directory::Names;
use super::fault;
use super::route::Route;
use super::settings::Login;

/// Interval and timeout of pings: together less than the second in which a change is in force everywhere.
const PING_INTERVAL: Duration = Duration::from_millis(250);
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// Keeps the subscription: the task of a [`super::RedisDirectory`] and of [`super::RedisApiKeys`].
#[derive(Debug)]
pub struct Subscriber {
    route: Route,
    names: Names,
    listeners: Vec<Arc<dyn ChangeListener>>,
}

/// A subscribed connection.
struct Subscribed {
    connected: Connected,
    /// The number of changes at the last ping.
    changes: u64,
}

impl Subscriber {
    pub(super) fn new(route: Route, names: Names) -> Self {
        Self { route, names, listeners: Vec::new() }
    }

    /// The same with one more listener.
    pub(super) fn telling(mut self, listener: Arc<dyn ChangeListener>) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Subscribes until `shutdown`, again after each failure.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        select! {
            () = shutdown => {}
            () = self.keep_up() => {}
        }
        self.each(|listener| listener.distrust());
    }

    fn each(&self, tell: impl Fn(&dyn ChangeListener)) {
        self.listeners.iter().for_each(|listener| tell(&**listener));
    }

    async fn keep_up(&self) {
        let mut failures = 0;
        let mut is_reported = false;
        loop {
            let reason = match self.subscribe().await {
                Ok(subscribed) => {
                    failures = 0;
                    is_reported = false;
                    self.each(|listener| listener.trust());
                    tracing::info!("subscribed to caller updates");
                    Some(self.watch(subscribed).await)
                }
                Err(reason) => reason,
            };
            self.each(|listener| listener.distrust());
            if let Some(reason) = reason
                && !mem::replace(&mut is_reported, true)
            {
                tracing::warn!(reason, "caller updates unavailable; caching disabled");
            }
            time::sleep(RECONNECT.jittered(failures)).await;
            failures += 1;
        }
    }

    /// Fails without a reason if no node of a cluster with the callers is known; the explorer reports that.
    async fn subscribe(&self) -> Result<Subscribed, Option<String>> {
        let config = AsyncConnectionConfig::new().set_push_sender(self.listener());
        // In a cluster, the node where changes are made: only it certainly receives them.
        let link = self.route.link(self.names.slot).ok_or(None)?;
        let subscribing = async {
            let mut connected = connect_with(link.settings(), Login::Changes, config).await?;
            connected.connection.subscribe(self.names.channel()).await?;
            // Before the cache is used, so that a later loss is certainly noticed.
            let changes = self.count(&mut connected.connection).await?;
            Ok::<_, ConnectError>(Subscribed { connected, changes })
        };
        let timeout = link.settings().connect_timeout;
        match time::timeout(timeout, subscribing).await {
            Ok(subscribed) => subscribed.map_err(|error| Some(error.to_string())),
            Err(_) => Err(Some(format!("timed out after {} ms", timeout.as_millis()))),
        }
    }

    /// Handles messages of the connection. It does so at once: there is no queue.
    fn listener(&self) -> impl Fn(PushInfo) -> Result<(), RedisError> + use<> {
        let listeners = self.listeners.clone();
        move |info| {
            if info.kind == PushKind::Message {
                listeners.iter().for_each(|listener| receive(&**listener, info.data.get(1)));
            }
            Ok(())
        }
    }

    /// Pings until there is no answer, and returns the reason.
    async fn watch(&self, mut subscribed: Subscribed) -> String {
        loop {
            select! {
                () = subscribed.connected.closed() => return "the connection was closed".to_owned(),
                () = time::sleep(PING_INTERVAL) => {}
            }
            let counting = self.count(&mut subscribed.connected.connection);
            match time::timeout(PING_TIMEOUT, counting).await {
                Ok(Ok(changes)) => {
                    if changes < subscribed.changes {
                        tracing::warn!(
                            "Redis was emptied; dropping all cached callers and API keys"
                        );
                        self.each(|listener| listener.forget());
                    }
                    subscribed.changes = changes;
                }
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "no answer".to_owned(),
            }
        }
    }

    /// The number of changes of callers; also 0 if the server answers with an error, unless it redirects.
    async fn count(&self, connection: &mut MultiplexedConnection) -> Result<u64, RedisError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(self.names.revisions());
        let answer = connection.send_packed_command(&command).await?;
        match answer.extract_error() {
            Err(error) if fault::is_of_slot(&error) => Err(error),
            answer => {
                let count = answer.and_then(|count| Ok(Option::<u64>::from_redis_value(count)?));
                Ok(count.ok().flatten().unwrap_or(0))
            }
        }
    }
}

fn receive(listener: &dyn ChangeListener, message: Option<&Value>) {
    let message = match message {
        Some(Value::BulkString(bytes)) => str::from_utf8(bytes).ok(),
        Some(Value::SimpleString(text)) => Some(text.as_str()),
        _ => None,
    };
    match message {
        Some(message) => listener.hear(message),
        // Whatever the message means, it is safe to clear the cache.
        None => listener.forget(),
    }
}
