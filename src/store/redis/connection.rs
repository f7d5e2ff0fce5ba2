//! The task that keeps the connection to a server, which all requests share, and sends their groups.
//!
//! Requests never connect. They join a group that the task sends, or get an error if the breaker is open. If an answer
//! is missing, they raise a doubt. The task checks a doubted connection, and sometimes an idle one, with a heartbeat.
//! It replaces the connection if there is no answer, or if the server has become a replica. So one place decides
//! whether a connection is broken, a stalled server is detected like a closed connection, and a short delay of a
//! healthy server causes no reconnect. If the server closes the connection, even an idle one, it is replaced at once.
//! Requests wait for the new connection, within their deadline; the breaker opens only if there is none.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use tokio::time;

use super::connect::{ConnectError, Connected, connect};
use super::link::Link;
use super::nodes::Nodes;
use super::script::Dialect;
use super::sender::{Sender, load_code};
use super::settings::{Login, RedisSettings, RedisSettingsError};
use super::{fault, membership};
use crate::clock::{Backoff, Stopwatch};

/// Timeout of a heartbeat: a hundred deadlines, so that a slow server keeps its connection, but short compared to an
/// outage.
/// merely slow keeps its connection, and short against an outage.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between attempts to connect.
pub const RECONNECT: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// A connection that was closed within this time is not replaced at once: otherwise a server that closes every
/// connection would cause endless attempts.
const LIFE_MIN: Duration = Duration::from_millis(100);

/// The end of a connection.
enum End {
    /// The server or the network closed it.
    Closed,
    /// The breaker must open, for this reason.
    Broken(String),
}

/// Keeps the connection: the task of a [`super::Redis`].
#[derive(Debug)]
pub struct Connector {
    link: Arc<Link>,
    /// The masters of its cluster; none for a single server.
    nodes: Weak<Nodes>,
}

impl Connector {
    /// A connector that is not running yet, and its link.
    pub fn try_new(
        settings: &RedisSettings,
        nodes: Weak<Nodes>,
    ) -> Result<(Self, Arc<Link>), RedisSettingsError> {
        settings.check()?;
        let map_doubt = nodes.upgrade().map(|nodes| nodes.doubt_signal());
        let link = Arc::new(Link::try_new(settings, map_doubt)?);
        Ok((Self { link: link.clone(), nodes }, link))
    }

    /// Connects and reconnects until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.keep_up() => {}
        }
        if let Some(connected) = self.link.connection.swap(None) {
            let mut connection = connected.connection.clone();
            // Sidecars that don't receive it notice a few heartbeats later.
            let _ = time::timeout(PROBE_TIMEOUT, self.link.membership.leave(&mut connection)).await;
        }
        self.link.reason.store(Arc::new("shutting down".to_owned()));
        self.link.breaker.open();
    }

    async fn keep_up(&self) {
        let link = &self.link;
        let mut failures = 0;
        loop {
            link.breaker.probe();
            let stopwatch = Stopwatch::start();
            let end = match self.connect().await {
                Ok((connected, dialect)) => {
                    failures = 0;
                    self.serve(&Arc::new(connected), dialect).await
                }
                Err(reason) => End::Broken(reason),
            };
            link.connection.store(None);
            let reason = match end {
                // Servers close idle connections. New requests wait for the next connection.
                End::Closed if LIFE_MIN <= stopwatch.elapsed() && link.breaker.is_healthy() => {
                    tracing::info!(store.address = link.address, "Redis closed the connection");
                    continue;
                }
                End::Closed => "the server closed the connection".to_owned(),
                End::Broken(reason) => reason,
            };
            link.open_breaker(&reason);
            link.queue.clear();
            time::sleep(RECONNECT.jittered(failures)).await;
            failures += 1;
        }
    }

    /// A connection to a server that has the code and accepts writes, and how the code is called.
    async fn connect(&self) -> Result<(Connected, Dialect), String> {
        let connecting = async {
            let mut connected = connect(&self.link.settings, Login::Charges).await?;
            // If the code is loaded here, no request needs a second round trip for it.
            let dialect = load_code(&mut connected.connection).await?;
            self.link.clock.forget();
            self.link.membership.announce(&mut connected.connection, &self.link.clock).await?;
            Ok::<_, ConnectError>((connected, dialect))
        };
        let timeout = self.link.settings.connect_timeout;
        match time::timeout(timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(format!("connecting timed out after {} ms", timeout.as_millis())),
        }
    }

    /// Serves a connection until its end.
    async fn serve(&self, connected: &Arc<Connected>, dialect: Dialect) -> End {
        self.link.connection.store(Some(connected.clone()));
        self.link.connects.fetch_add(1, Ordering::Relaxed);
        self.link.recover("connected to Redis");
        self.link.changed.notify_waiters();
        let connection = &connected.connection;
        let sender = || Sender {
            link: &self.link,
            nodes: &self.nodes,
            connection: connection.clone(),
            dialect,
        };
        tokio::select! {
            end = self.watch(connection.clone()) => end,
            () = connected.closed() => End::Closed,
            // Two, so that a request that arrives during a call need not wait for its end.
            () = sender().run() => End::Closed,
            () = sender().run() => End::Closed,
        }
    }

    /// Checks a connection until its end.
    async fn watch(&self, mut connection: MultiplexedConnection) -> End {
        let link = &self.link;
        loop {
            match link.breaker.is_healthy() {
                // Whatever ended the wait, a heartbeat is due.
                true => drop(time::timeout(membership::INTERVAL, link.doubt.notified()).await),
                false => {
                    link.queue.clear();
                    time::sleep(link.breaker.pause()).await;
                }
            }
            link.breaker.probe();
            let stopwatch = Stopwatch::start();
            match time::timeout(
                PROBE_TIMEOUT,
                link.membership.announce(&mut connection, &link.clock),
            )
            .await
            {
                Ok(Ok(())) if stopwatch.elapsed() <= link.settings.deadline => {
                    link.recover("Redis answers again");
                }
                // Slow, but available; requests notice themselves if it is too slow.
                Ok(Ok(())) => link.breaker.probe_failed(),
                // The heartbeat's slot has moved: the server is healthy, and the map is out of date.
                Ok(Err(error)) if fault::is_of_slot(&error) && link.doubt_nodes() => {
                    link.recover("Redis answers again");
                }
                Ok(Err(error)) if fault::is_answer(&error) && !fault::is_of_replica(&error) => {
                    link.open_breaker(&error.to_string());
                }
                Ok(Err(error)) if fault::is_answer(&error) => {
                    return End::Broken(error.to_string());
                }
                Ok(Err(_)) => return End::Closed,
                Err(_) => return End::Broken("no answer".to_owned()),
            }
        }
    }
}
