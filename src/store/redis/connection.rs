//! The connection to the server: one that all requests share, and a task that keeps it up and sends their groups.
//!
//! Requests never connect. They join a group that the task sends, or are told that the server is left alone; when an
//! answer fails to come they raise a doubt and go. The task looks at a doubted connection (and, now and
//! then, at an idle one) by a heartbeat, and replaces it if there is no answer, or if the server has become a
//! replica. So one place decides what is broken, a stalled peer is found as surely as a closed one, and a slow
//! moment of a healthy server costs no reconnect. A connection that the server closes, be it idle, is replaced at once;
//! requests wait for the next one as they would for the server, and only if there is none the server is left alone.

use std::pin::pin;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::Cmd;
use ::redis::ErrorKind;
use ::redis::RedisError;
use ::redis::ServerErrorKind;
use ::redis::Value;
use ::redis::aio::MultiplexedConnection;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::time;

use super::connect::ConnectError;
use super::connect::Connected;
use super::connect::connect;
use super::fault;
use super::group::Asking;
use super::group::Group;
use super::group::Queue;
use super::late::look_again;
use super::membership;
use super::membership::Membership;
use super::nodes::Nodes;
use super::reply::Reply;
use super::script::Dialect;
use super::sender::Sender;
use super::sender::tell_code;
use super::server_clock::ServerClock;
use super::settings::Login;
use super::settings::RedisSettings;
use super::settings::RedisSettingsError;
use crate::clock::Backoff;
use crate::clock::Stopwatch;
use crate::store::Breaker;
use crate::store::StoreError;

/// A connection that has no answer to a look for so long is given up: a hundred deadlines, so that a server that is
/// merely slow keeps its connection, and short against an outage.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Between attempts to connect.
pub const RECONNECT: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// A connection that was closed sooner is not replaced at once: a server that closes each would be asked without end.
const LIFE_MIN: Duration = Duration::from_millis(100);

/// What the requests see of the connection.
#[derive(Debug)]
pub struct Link {
    settings: RedisSettings,
    address: String,
    connection: ArcSwapOption<Connected>,
    /// There is a connection again, or the server is left alone.
    changed: Notify,
    breaker: Breaker,
    /// Why the server was last left alone.
    reason: ArcSwap<String>,
    /// Requests that wait to be sent.
    queue: Queue,
    doubt: Notify,
    /// What is known of the sidecars that share it.
    membership: Membership,
    connects: AtomicU64,
    clock: ServerClock,
    /// The masters of its cluster; none of a server by itself.
    nodes: Weak<Nodes>,
}

/// How a connection ended.
enum End {
    /// The server closed it, or the network did.
    Closed,
    /// The server is to be left alone, for this reason.
    Broken(String),
}

/// Keeps the connection up: the task behind a [`super::Redis`].
#[derive(Debug)]
pub struct Connector {
    link: Arc<Link>,
}

impl Link {
    /// How it is reached.
    pub fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    /// Host and port, or the path of the socket.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How the server is.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// What is known of the sidecars that share the server.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// How often the connection was made anew.
    pub fn reconnects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// What is known of the server's clock.
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// Waits for a call until the request's time is up, and learns from it how the server is.
    ///
    /// # Errors
    /// As the call, or when the server is left alone, or late.
    pub async fn in_time<T>(
        &self,
        left: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if !self.breaker.is_healthy() {
            return Err(self.unavailable());
        }
        let mut call = pin!(call);
        let late = Err(StoreError::Late { deadline: self.settings.deadline });
        let answer = match time::timeout(left, &mut call).await {
            Ok(answer) => answer,
            Err(_) => look_again(call).await.unwrap_or(late),
        };
        match &answer {
            Ok(_) => self.breaker.answered(),
            Err(error) => {
                if self.breaker.failed(error) {
                    self.tell_broken(&error.to_string());
                }
                self.doubt.notify_one();
            }
        }
        answer
    }

    /// Charges a request together with others.
    pub async fn charge(&self, asking: &Asking<'_>) -> Result<Reply, StoreError> {
        let told = self.queue.join(asking)?;
        told.await.unwrap_or_else(|_| Err(self.lost("the connection is gone".to_owned())))
    }

    /// Sends a command and returns what the server answers, be it an error.
    pub async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        let Some(connected) = self.connected().await else {
            return Err(self.unavailable());
        };
        match connected.connection.clone().send_packed_command(command).await {
            Ok(value) => Ok(value),
            Err(error) if fault::is_of_key(&error) => {
                Err(StoreError::Foreign { reason: error.to_string() })
            }
            Err(error) if fault::is_answer(&error) => Err(fault::refused(&error)),
            Err(error) => Err(self.lost(error.to_string())),
        }
    }

    /// The connection, once there is one again if the server has just closed it; None if the server is left alone.
    async fn connected(&self) -> Option<Arc<Connected>> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.breaker.is_healthy() {
                return None;
            }
            match self.connection.load_full() {
                Some(connected) => return Some(connected),
                None => changed.await,
            }
        }
    }

    /// The requests that wait to be sent.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Sends a group to the server that this one named.
    pub fn send_on(&self, mut group: Group, error: &RedisError) {
        let is_asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
        let nodes = self.nodes.upgrade();
        let Some(nodes) = nodes.filter(|_| group.moves(is_asking)) else {
            return group.fail(&fault::refused(error));
        };
        match error.redirect_node().and_then(|(named, _)| nodes.link_at(named, self)) {
            Some(link) => link.queue.put_first(group),
            None => group.fail(&fault::refused(error)),
        }
        nodes.doubt();
    }

    /// Has the cluster be asked where its slots are; false if there is none.
    fn doubt_nodes(&self) -> bool {
        self.nodes.upgrade().inspect(|nodes| nodes.doubt()).is_some()
    }

    fn unavailable(&self) -> StoreError {
        let reason = String::clone(&self.reason.load());
        StoreError::Disconnected { address: self.address.clone(), reason }
    }

    /// The error of a call that was under way when the connection was lost.
    pub fn lost(&self, reason: String) -> StoreError {
        StoreError::Lost { address: self.address.clone(), reason }
    }

    /// Leaves the server alone, for a reason that it is still left alone for or begins to be.
    fn break_down(&self, reason: &str) {
        let was_healthy = self.breaker.break_down();
        self.breaker.found_broken();
        self.changed.notify_waiters();
        if was_healthy || **self.reason.load() != reason {
            self.tell_broken(reason);
        }
    }

    /// Tells why the server is left alone; each reason once.
    fn tell_broken(&self, reason: &str) {
        self.reason.store(Arc::new(reason.to_owned()));
        tracing::warn!(store.address = self.address, reason, "Redis is out and left alone");
        // Its slots may be somewhere else soon.
        self.doubt_nodes();
    }

    /// Has the server be asked, because it was found well.
    fn recover(&self, news: &str) {
        if self.breaker.found_well() {
            tracing::info!(store.address = self.address, "{news}");
        }
    }
}

impl Connector {
    /// A connector that has not begun, and the link that it will serve.
    pub fn try_new(
        settings: &RedisSettings,
        nodes: Weak<Nodes>,
    ) -> Result<(Self, Arc<Link>), RedisSettingsError> {
        settings.check()?;
        let link = Arc::new(Link {
            settings: settings.clone(),
            address: settings.address()?,
            connection: ArcSwapOption::empty(),
            changed: Notify::new(),
            breaker: Breaker::default(),
            reason: ArcSwap::from_pointee("not connected yet".to_owned()),
            queue: Queue::default(),
            doubt: Notify::new(),
            membership: Membership::new(),
            connects: AtomicU64::new(0),
            clock: ServerClock::new(),
            nodes,
        });
        Ok((Self { link: link.clone() }, link))
    }

    /// Connects and reconnects until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.keep_up() => {}
        }
        if let Some(connected) = self.link.connection.swap(None) {
            let mut connection = connected.connection.clone();
            // Whoever doesn't hear of it knows it a few heartbeats later.
            let _ = time::timeout(PROBE_TIMEOUT, self.link.membership.leave(&mut connection)).await;
        }
        self.link.reason.store(Arc::new("shutting down".to_owned()));
        self.link.breaker.break_down();
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
                // Servers close what is idle. What comes meanwhile waits for the next connection.
                End::Closed if LIFE_MIN <= stopwatch.elapsed() && link.breaker.is_healthy() => {
                    tracing::info!(store.address = link.address, "Redis closed the connection");
                    continue;
                }
                End::Closed => "it closed the connection".to_owned(),
                End::Broken(reason) => reason,
            };
            link.break_down(&reason);
            link.queue.clear();
            time::sleep(RECONNECT.jittered(failures)).await;
            failures += 1;
        }
    }

    /// A connection to a server that knows the code and takes charges, and how it knows it.
    async fn connect(&self) -> Result<(Connected, Dialect), String> {
        let connecting = async {
            let mut connected = connect(&self.link.settings, Login::Charges).await?;
            // Told here, the code costs no request a second round trip.
            let dialect = tell_code(&mut connected.connection).await?;
            self.link.clock.forget();
            self.link.membership.announce(&mut connected.connection, &self.link.clock).await?;
            Ok::<_, ConnectError>((connected, dialect))
        };
        let timeout = self.link.settings.connect_timeout;
        match time::timeout(timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(format!("connecting took over {} ms", timeout.as_millis())),
        }
    }

    /// Serves a connection until its end.
    async fn serve(&self, connected: &Arc<Connected>, dialect: Dialect) -> End {
        self.link.connection.store(Some(connected.clone()));
        self.link.connects.fetch_add(1, Ordering::Relaxed);
        self.link.recover("connected to Redis");
        self.link.changed.notify_waiters();
        let connection = &connected.connection;
        let sender = || Sender { link: &self.link, connection: connection.clone(), dialect };
        tokio::select! {
            end = self.watch(connection.clone()) => end,
            () = connected.closed() => End::Closed,
            // Two, so that whoever comes while one is under way need not wait for its end.
            () = sender().run() => End::Closed,
            () = sender().run() => End::Closed,
        }
    }

    /// Looks at a connection until its end.
    async fn watch(&self, mut connection: MultiplexedConnection) -> End {
        let link = &self.link;
        loop {
            match link.breaker.is_healthy() {
                // Whatever ends the wait, a heartbeat is due.
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
                // Slow, but there; requests find out themselves whether it is too slow.
                Ok(Ok(())) => link.breaker.found_broken(),
                // The heartbeat's slot went elsewhere: the server is well, and the map is out of date.
                Ok(Err(error)) if fault::is_of_slot(&error) && link.doubt_nodes() => {
                    link.recover("Redis answers again");
                }
                Ok(Err(error)) if fault::is_answer(&error) && !fault::is_of_replica(&error) => {
                    link.break_down(&error.to_string());
                }
                Ok(Err(error)) if fault::is_answer(&error) => {
                    return End::Broken(error.to_string());
                }
                Ok(Err(_)) => return End::Closed,
                Err(_) => return End::Broken("it does not answer".to_owned()),
            }
        }
    }
}
