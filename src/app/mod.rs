//! The process: its start, its tasks, and its shutdown.
//!
//! The start goes from the inside out: policies, then listeners, then readiness, so that every answer follows the
//! policies. The shutdown goes from the outside in: readiness, then the listeners, then the other tasks.

mod alerts;
mod api_keys;
mod audit;
mod banner;
mod counters;
mod dashboard;
mod gifts;
mod listeners;
mod policies;
mod ports;
mod records;
mod refusals;
mod reload;
mod signals;
mod sources;
mod statsd;
mod store;
mod tasks;
mod ticks;
mod tls;
mod traces;
mod upkeep;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::net::TcpListener;
use tokio::select;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::engine::{Engine, EngineSettings, ModeSettings, NearLimit, Readiness};
use crate::grpc;
use crate::http;
use crate::http::Api;
use crate::listen::Acceptor;
use crate::metrics::Metrics;
use crate::observe::traces::Traces;
use crate::settings::{Settings, TlsFiles};
use crate::store::redis::{Connector, Subscriber};

use api_keys::LastUseWriter;
use banner::Banner;
use counters::CounterKeeper;
use gifts::PendingGifts;
use listeners::Listeners;
use policies::Reloading;
use ports::GrpcPorts;
use records::{RecordConsumer, RecordStores};
use reload::{FileAlerts, FileCallers, Reloader};
use signals::{Cause, Signals};
use sources::Files;
use tasks::{Stage, Stages, Tasks};
use tls::Tls;
use upkeep::Upkeep;
use usage::LAST_SEND_TIMEOUT;

pub use sources::{SourceFiles, SourceFilesError};

/// Maximum time for helpers to end; they don't wait for anything.
const HELPERS_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum time to give leases back and to pay debts.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum time to send the last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A running process.
struct Process {
    settings: Settings,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    traces: Option<Arc<Traces>>,
    api: Api,
    /// Taken when it is spawned, like the next three.
    records: Option<RecordConsumer>,
    /// None: there are none.
    alerts: Option<Alerts>,
    counter_keeper: Option<CounterKeeper>,
    connector: Option<Connector>,
    subscriber: Option<Subscriber>,
    /// One task for each listener. Like `helpers`, they run until the stage says to end.
    servers: Tasks,
    /// Tasks beside the servers. They must outlive the last request.
    helpers: Tasks,
    /// Consumers of the records of requests. They outlive the servers, and need the helpers.
    consumers: Tasks,
    stages: Stages,
}

/// TLS of the ports. None: plain.
struct PortsTls {
    grpc: Option<Arc<Tls>>,
    http: Option<Arc<Tls>>,
}

/// Serves until a signal says to end.
///
/// # Errors
/// If the start fails, if a task ends that should not, or on a second signal.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::start()?;
    let mut process = Process::new(settings)?;
    let cause = select! {
        cause = signals.next() => cause,
        error = process.serve() => return Err(error),
    };
    select! {
        ended = process.end(cause) => ended,
        _ = signals.next() => bail!("a second signal ended the process at once"),
    }
}

impl Process {
    fn new(settings: Settings) -> anyhow::Result<Self> {
        let metrics = statsd::metrics(&settings);
        let clock = Clock::system();
        let stores = store::build(&settings, &metrics, clock.now().timestamp())?;
        let audit = audit::open(&settings, stores.audit_log, &metrics)?;
        let engine = Engine::new(EngineSettings {
            store: stores.store,
            directory: stores.directory,
            clock: clock.clone(),
            modes: ModeSettings {
                shadow: settings.policies.shadow_mode,
                quota: settings.policies.quota_mode,
            },
            near_limit: NearLimit(settings.observing.near_limit_ratio),
            metrics: metrics.clone(),
        });
        let sums = stores.sums.filter(|_| settings.observing.usage);
        let alerts = alerts::build(&settings, stores.alert_book);
        let stored = RecordStores {
            sums,
            refusals: stores.refusals,
            erasures: stores.erasures,
            reservations: stores.reservations,
            alerts: alerts.clone(),
        };
        let (records, api) = records::build(&settings, &metrics, audit, stored);
        let api = Api {
            dashboard: dashboard::build(&settings)?,
            api_keys: api_keys::build(&settings, &metrics, stores.api_keys)?,
            ..api
        };
        let engine = Arc::new(engine.with_sink(records.sink.clone()));
        let counter_keeper = stores.counter_file.map(|file| CounterKeeper {
            engine: engine.clone(),
            clock: clock.clone(),
            file,
        });
        let readiness = Readiness::default();
        let traces = traces::start(&settings)?;
        Ok(Self {
            settings,
            engine,
            metrics,
            readiness,
            traces,
            api,
            records: Some(records),
            alerts,
            counter_keeper,
            connector: stores.connector,
            subscriber: stores.subscriber,
            servers: Tasks::default(),
            helpers: Tasks::default(),
            consumers: Tasks::default(),
            stages: Stages::new(),
        })
    }

    /// Starts, and runs until the end: by a signal, or because a task failed.
    async fn serve(&mut self) -> anyhow::Error {
        match self.start().await {
            Ok(()) => self.failure().await,
            Err(error) => error,
        }
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let stages = self.stages.clone();
        let closed = || stages.reached(Stage::Closed);
        if let Some(connector) = self.connector.take() {
            self.helpers.spawn(connector.run(closed()));
        }
        if let Some(subscriber) = self.subscriber.take() {
            self.helpers.spawn(subscriber.run(closed()));
        }
        let policies = self.load_policies().await?;
        let callers = self.load_callers().await?;
        let alert_files = self.load_alerts().await?;
        let tls = self.load_tls()?;
        let listeners = Listeners::bind(&self.settings).await?;
        self.helpers.spawn(policies);
        if let Some(callers) = callers {
            self.helpers.spawn(callers.run(closed()));
        }
        let upkeep = Upkeep { engine: self.engine.clone(), metrics: self.metrics.clone() };
        self.helpers.spawn(upkeep.run(closed()));
        if self.engine.directory().writable().is_ok() {
            let gifts = PendingGifts { engine: self.engine.clone() };
            self.helpers.spawn(gifts.run(closed()));
        }
        if self.api.eraser.is_shared() {
            let eraser = self.api.eraser.clone();
            self.helpers.spawn(eraser.run(Clock::system(), closed()));
        }
        if self.api.dashboard.is_some() {
            let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
            let closing = stages.reached(Stage::Closing);
            // It outlives nothing: the pages end with the servers.
            let running = http::run_dashboard(engine, metrics, self.api.clone(), closing);
            self.servers.spawn(running);
        }
        if 0.0 < self.settings.audit.refusals {
            self.helpers.spawn(self.api.audit.clone().run(closed()));
        }
        self.start_consumers();
        store::connected(self.engine.store()).await;
        self.start_alerts(alert_files);
        let banner = Banner::of(&self.settings, &self.engine, &listeners)?;
        self.listen_grpc(GrpcPorts {
            tcp: listeners.grpc,
            unix: listeners.unix,
            tls: tls.grpc,
            age_max: self.settings.listening.grpc_connection_age_max,
        });
        self.listen_http(listeners.http, tls.http);
        self.listen_metrics(listeners.metrics);
        self.become_ready();
        banner.show(self.settings.observing.log_format, &self.settings.audit.destination);
        Ok(())
    }

    /// Starts what consumes the records of requests.
    fn start_consumers(&mut self) {
        let served = || self.stages.reached(Stage::Served);
        if let Some(records) = self.records.take() {
            self.consumers.spawn_on_thread(records.run(served()));
        }
        if let Some(keys) = self.api.api_keys.clone() {
            self.consumers.spawn(LastUseWriter(keys).run(served()));
        }
        if let Some(statsd) = statsd::build(&self.settings, &self.metrics) {
            self.consumers.spawn(statsd.run(served()));
        }
        if let Some(keeper) = self.counter_keeper.take() {
            self.consumers.spawn_on_thread(keeper.run(served()));
        }
    }

    /// Loads the first policies. Returns the task that reloads them.
    async fn load_policies(&self) -> anyhow::Result<Reloading> {
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        let closed = self.stages.reached(Stage::Closed);
        let loading = policies::load(&self.settings, (engine, metrics), &self.api.audit, closed);
        Box::pin(loading).await
    }

    /// Loads the first callers, if the directory is in files.
    async fn load_callers(&self) -> anyhow::Result<Option<Reloader<Files, FileCallers>>> {
        if self.settings.callers.files.is_empty() {
            return Ok(None);
        }
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        let callers = FileCallers { engine, metrics };
        let files = SourceFiles::new(self.settings.callers.files.clone());
        policies::load_files(files, callers, &self.api.audit).await.map(Some)
    }

    /// Loads the first alerts, if there are files of them.
    async fn load_alerts(&self) -> anyhow::Result<Option<Reloader<Files, FileAlerts>>> {
        let Some(alerts) = &self.alerts else { return Ok(None) };
        let (policy, metrics) = (alerts.policy.clone(), self.metrics.clone());
        let alerts = FileAlerts { policy, metrics };
        let files = SourceFiles::new(self.settings.alerts.files.clone());
        policies::load_files(files, alerts, &self.api.audit).await.map(Some)
    }

    /// Starts alerts, if there are any.
    fn start_alerts(&mut self, files: Option<Reloader<Files, FileAlerts>>) {
        let (Some(alerts), Some(files)) = (&self.alerts, files) else { return };
        self.helpers.spawn(files.run(self.stages.reached(Stage::Closed)));
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        let (task, past) = alerts::tasks(alerts, (engine, metrics), &self.api);
        self.helpers.spawn(past.run(self.stages.reached(Stage::Closed)));
        self.consumers.spawn(task.run(self.stages.reached(Stage::Served)));
    }

    /// The TLS of a port, with its renewal.
    fn load_tls(&mut self) -> anyhow::Result<PortsTls> {
        let mut load = |port, files: &TlsFiles, protocol| {
            let loaded = Tls::load(port, files, protocol, &self.metrics)?;
            anyhow::Ok(loaded.map(|(tls, renewal)| {
                self.helpers.spawn(renewal.run(self.stages.reached(Stage::Closed)));
                tls
            }))
        };
        let grpc = load("grpc", &self.settings.listening.grpc_tls(), tls::HTTP_2)?;
        let http = load("http", &self.settings.listening.http_tls(), tls::HTTP_1)?;
        Ok(PortsTls { grpc, http })
    }

    /// Serves gRPC on its port and its socket.
    fn listen_grpc(&mut self, ports: GrpcPorts) {
        let (readiness, traces) = (self.readiness.clone(), self.traces.clone());
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        let services = grpc::services(engine.clone(), readiness, metrics, traces);
        let services = services.checking(engine, self.api.api_keys.clone());
        ports.serve(services, &mut self.servers, || self.stages.reached(Stage::Closing));
    }

    /// Serves HTTP on its port.
    fn listen_http(&mut self, listener: TcpListener, tls: Option<Arc<Tls>>) {
        let closing = self.stages.reached(Stage::Closing);
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        let router = http::router(engine, metrics, self.readiness.clone(), self.api.clone());
        match tls {
            Some(tls) => {
                let acceptor = Acceptor { listener, open: move |tcp| tls.open(tcp) };
                self.servers.spawn(http::serve(acceptor, router, closing));
            }
            None => self.servers.spawn(http::serve(Acceptor::plain(listener), router, closing)),
        }
    }

    /// Serves metrics on their own port.
    fn listen_metrics(&mut self, listener: Option<TcpListener>) {
        let Some(listener) = listener else { return };
        let path = &self.settings.listening.metrics_path;
        let router = http::metrics_router(path, self.metrics.clone());
        let closing = self.stages.reached(Stage::Closing);
        self.servers.spawn(http::serve(Acceptor::plain(listener), router, closing));
    }

    /// Reports ready, now or once there is a domain.
    fn become_ready(&mut self) {
        if !self.settings.policies.ready_with_policies {
            return self.readiness.set_ready();
        }
        let (engine, readiness) = (self.engine.clone(), self.readiness.clone());
        let closed = self.stages.reached(Stage::Closed);
        self.helpers.spawn(policies::become_ready(engine, readiness, closed));
    }

    async fn failure(&mut self) -> anyhow::Error {
        select! {
            error = self.servers.failure() => error,
            error = self.helpers.failure() => error,
            error = self.consumers.failure() => error,
        }
    }

    async fn end(&mut self, cause: Cause) -> anyhow::Result<()> {
        self.readiness.drain();
        let delay = match cause {
            Cause::Terminate => self.settings.process.drain_delay,
            Cause::Interrupt => Duration::ZERO,
        };
        tracing::info!(?cause, delay_ms = delay.as_millis(), "draining");
        sleep(delay).await;
        self.stages.enter(Stage::Closing);
        let served = timeout(self.settings.process.shutdown_grace, self.servers.finish()).await;
        if served.is_err() {
            tracing::warn!("shutdown_grace expired; dropping the requests in flight");
            self.servers.shutdown().await;
        }
        if timeout(STORE_TIMEOUT, self.engine.close_store()).await.is_err() {
            tracing::warn!(
                "store timed out during shutdown; leases count until their windows end, and debts are lost"
            );
        }
        self.stages.enter(Stage::Served);
        let consumed = timeout(LAST_SEND_TIMEOUT + HELPERS_TIMEOUT, self.consumers.finish()).await;
        self.stages.enter(Stage::Closed);
        let helped = timeout(HELPERS_TIMEOUT, self.helpers.finish()).await;
        if let Some(traces) = self.traces.take() {
            spawn_blocking(move || traces.flush(FLUSH_TIMEOUT)).await?;
        }
        tracing::info!("ended");
        Ok(served
            .unwrap_or(Ok(()))
            .and(consumed.unwrap_or(Ok(())))
            .and(helped.unwrap_or(Ok(())))?)
    }
}
