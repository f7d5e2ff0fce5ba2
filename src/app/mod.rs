//! The process: what starts, what runs beside the requests, and how it ends.
//!
//! It starts from the inside out: policies, then listeners, then readiness, so that whoever gets an answer
//! gets a right one. It ends from the outside in: readiness first, then the listeners, then what runs
//! beside them.

mod banner;
mod listen;
mod load;
mod ports;
mod source_files;
mod reload;
mod signals;
mod store;
mod subject;
mod tls;
mod upkeep;
mod watch;

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use anyhow::anyhow;
use anyhow::bail;
use tokio::net::TcpListener;
use tokio::select;
use tokio::sync::watch::Receiver;
use tokio::sync::watch::Sender;
use tokio::task::JoinSet;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio::time::timeout;
use tracing::field::display;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::engine::EngineSettings;
use crate::engine::ModeSettings;
use crate::engine::NearLimit;
use crate::engine::Readiness;
use crate::grpc;
use crate::http;
use crate::http::Api;
use crate::metrics::Metrics;
use crate::observe::audit::Audit;
use crate::observe::logs;
use crate::observe::traces::Traces;
use crate::policy::CompileOptions;
use crate::settings::Settings;
use crate::settings::TlsFiles;
use crate::store::redis::Connector;
use crate::store::redis::Subscriber;

use banner::Banner;
use banner::Security;
use banner::Trial;
use listen::Listeners;
use load::Loader;
use ports::GrpcPorts;
use ports::plain;
use reload::Reloader;
use signals::Cause;
use signals::Signals;
use subject::CallerFiles;
use subject::Policies;
use subject::Subject;
use tls::Tls;
use upkeep::Upkeep;
use watch::Watch;

pub use source_files::SourceFiles;
pub use source_files::SourceFilesError;

/// How long helpers may take to end; none of them waits for anything.
const HELPERS_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it may take to give leases back, and to pay debts.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the last traces may take to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A running process.
struct Process {
    settings: Settings,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    traces: Option<Arc<Traces>>,
    audit: Audit,
    /// Until it is spawned.
    connector: Option<Connector>,
    subscriber: Option<Subscriber>,
    /// One for each listener. Like `helpers`, they go on until the stage says to end.
    servers: Tasks,
    /// What runs beside the servers, and must outlive their last request.
    helpers: Tasks,
    stage: Sender<Stage>,
}

/// What the ports shake hands by. None: they are plain.
struct PortsTls {
    grpc: Option<Arc<Tls>>,
    http: Option<Arc<Tls>>,
}

type Tasks = JoinSet<anyhow::Result<()>>;

/// How far the process has come. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Servers take nothing new and end what they have.
    Closing,
    /// The servers are gone.
    Closed,
}

/// Serves until a signal says to end.
///
/// # Errors
/// When it can't start, when something that should go on ends, or on a second signal.
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
        let metrics = Arc::new(Metrics::new());
        let audit =
            Audit::open(settings.callers.audit_log.as_deref()).context("can't write audit_log")?;
        let stores = store::build(&settings)?;
        let engine = Arc::new(Engine::new(EngineSettings {
            store: stores.store,
            directory: stores.directory,
            clock: Clock::system(),
            modes: ModeSettings {
                shadow: settings.policies.shadow_mode,
                quota: settings.policies.quota_mode,
            },
            near: NearLimit(settings.observing.near_limit_ratio),
            metrics: metrics.clone(),
        }));
        let (stage, _) = tokio::sync::watch::channel(Stage::Serving);
        let readiness = Readiness::default();
        let traces = match &settings.observing.otlp_endpoint {
            Some(endpoint) => {
                Some(Arc::new(Traces::start(endpoint, settings.observing.otlp_sample_ratio)?))
            }
            None => None,
        };
        Ok(Self {
            settings,
            engine,
            metrics,
            readiness,
            traces,
            audit,
            connector: stores.connector,
            subscriber: stores.subscriber,
            servers: Tasks::new(),
            helpers: Tasks::new(),
            stage,
        })
    }

    /// Starts, and ends when it can't, or when a task does that shouldn't.
    async fn serve(&mut self) -> anyhow::Error {
        match self.start().await {
            Ok(()) => self.failure().await,
            Err(error) => error,
        }
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let stage = self.stage.subscribe();
        let closed = || reached(stage.clone(), Stage::Closed);
        if let Some(connector) = self.connector.take() {
            spawn(&mut self.helpers, connector.run(closed()));
        }
        if let Some(subscriber) = self.subscriber.take() {
            spawn(&mut self.helpers, subscriber.run(closed()));
        }
        let policies = self.load_policies().await?;
        let callers = self.load_callers().await?;
        let tls = self.load_tls()?;
        let listeners = Listeners::bind(&self.settings).await?;
        self.helpers.spawn(policies.run(closed()));
        if let Some(callers) = callers {
            self.helpers.spawn(callers.run(closed()));
        }
        let upkeep = Upkeep { engine: self.engine.clone(), metrics: self.metrics.clone() };
        spawn(&mut self.helpers, upkeep.run(closed()));
        store::connected(self.engine.store()).await;
        let banner = self.banner(&listeners)?;
        self.listen_grpc(GrpcPorts {
            tcp: listeners.grpc,
            unix: listeners.unix,
            tls: tls.grpc,
            age_max: self.settings.listening.grpc_connection_age_max,
        });
        self.listen_http(listeners.http, tls.http);
        self.readiness.set_ready();
        self.show(&banner);
        Ok(())
    }

    /// Puts the first policies in force.
    async fn load_policies(&self) -> anyhow::Result<Reloader<Policies>> {
        let options = CompileOptions { merge_domains: self.settings.policies.merge_domains };
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        load(&self.settings.policies.paths, Policies { engine, metrics, options }).await
    }

    /// Puts the first callers in force, if files are the directory.
    async fn load_callers(&self) -> anyhow::Result<Option<Reloader<CallerFiles>>> {
        if self.settings.callers.files.is_empty() {
            return Ok(None);
        }
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        load(&self.settings.callers.files, CallerFiles { engine, metrics }).await.map(Some)
    }

    /// What the ports shake hands by, and has it renewed.
    fn load_tls(&mut self) -> anyhow::Result<PortsTls> {
        let stage = self.stage.subscribe();
        let mut load = |port, files: &TlsFiles, protocol| {
            let loaded = Tls::load(port, files, protocol, &self.metrics)?;
            anyhow::Ok(loaded.map(|(tls, renewal)| {
                spawn(&mut self.helpers, renewal.run(reached(stage.clone(), Stage::Closed)));
                tls
            }))
        };
        let grpc = load("grpc", &self.settings.listening.grpc_tls(), tls::HTTP_2)?;
        let http = load("http", &self.settings.listening.http_tls(), tls::HTTP_1)?;
        Ok(PortsTls { grpc, http })
    }

    /// Serves gRPC on its port and its socket.
    fn listen_grpc(&mut self, ports: GrpcPorts) {
        let stage = self.stage.subscribe();
        let (readiness, traces) = (self.readiness.clone(), self.traces.clone());
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        let services = grpc::services(engine, readiness, metrics, traces);
        ports.serve(services, &mut self.servers, || reached(stage.clone(), Stage::Closing));
    }

    /// Serves HTTP on its port.
    fn listen_http(&mut self, port: TcpListener, tls: Option<Arc<Tls>>) {
        let closing = reached(self.stage.subscribe(), Stage::Closing);
        let api =
            Api { tokens: self.settings.callers.api_tokens.clone(), audit: self.audit.clone() };
        let (engine, metrics) = (self.engine.clone(), self.metrics.clone());
        let router = http::router(engine, metrics, self.readiness.clone(), api);
        match tls {
            Some(tls) => {
                let serving = http::serve(port, move |tcp| tls.open(tcp), router, closing);
                spawn(&mut self.servers, serving);
            }
            None => spawn(&mut self.servers, http::serve(port, plain, router, closing)),
        }
    }

    fn banner(&self, listeners: &Listeners) -> anyhow::Result<Banner> {
        let policies = self.engine.policies();
        let grpc = listeners.grpc.as_ref().map(|listener| listener.local_addr()).transpose()?;
        // To try a port that speaks TLS takes certificates that we don't know the places of.
        let is_plain = self.settings.listening.http_tls_cert_file.is_none();
        let may_refuse = !self.settings.policies.shadow_mode;
        Ok(Banner {
            store: store::name(self.engine.store()),
            grpc,
            unix: listeners.unix.as_ref().map(|socket| socket.file.path().to_owned()),
            http: listeners.http.local_addr()?,
            grpc_tls: Security::of(&self.settings.listening.grpc_tls()),
            http_tls: Security::of(&self.settings.listening.http_tls()),
            domains: policies.domains().len(),
            trial: (may_refuse && is_plain).then(|| Trial::of(&policies)).flatten(),
        })
    }

    /// Says where the process listens: to a person if the logs are for one, else in the logs.
    fn show(&self, banner: &Banner) {
        let Banner { grpc, unix, http, grpc_tls, http_tls, store, .. } = banner;
        match self.settings.observing.log_format {
            // Whoever started us may have closed the stream; the lines are not worth more than that.
            logs::Format::Text => write!(io::stdout(), "{banner}").unwrap_or_default(),
            logs::Format::Json => {
                let grpc = grpc.map(display);
                let unix = unix.as_ref().map(|path| display(path.display()));
                tracing::info!(grpc, unix, %http, %grpc_tls, %http_tls, store, "Tollgate is ready");
            }
        }
    }

    async fn failure(&mut self) -> anyhow::Error {
        let ended = select! {
            ended = self.servers.join_next() => ended,
            ended = self.helpers.join_next() => ended,
        };
        match ended {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            Some(Ok(Ok(()))) | None => anyhow!("a task ended before its time"),
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
        self.stage.send_replace(Stage::Closing);
        let served = timeout(self.settings.process.shutdown_grace, finish(&mut self.servers)).await;
        if served.is_err() {
            tracing::warn!("requests were still in flight after shutdown_grace; they are dropped");
            self.servers.shutdown().await;
        }
        if timeout(STORE_TIMEOUT, self.engine.close_store()).await.is_err() {
            tracing::warn!(
                "the store was too slow at the end; leases count until their windows end, and debts are lost"
            );
        }
        self.stage.send_replace(Stage::Closed);
        let helped = timeout(HELPERS_TIMEOUT, finish(&mut self.helpers)).await;
        if let Some(traces) = self.traces.take() {
            spawn_blocking(move || traces.flush(FLUSH_TIMEOUT)).await?;
        }
        tracing::info!("ended");
        served.unwrap_or(Ok(())).and(helped.unwrap_or(Ok(())))
    }
}

/// Puts in force what the files at `roots` say, and watches them from then on.
async fn load<S: Subject>(roots: &[PathBuf], subject: S) -> anyhow::Result<Reloader<S>> {
    let (watch, changes) = Watch::start();
    let loader = Loader::new(SourceFiles::new(roots.to_owned()), subject, watch);
    Reloader::new(loader, changes).start().await.map_err(|error| {
        reload::report(&error);
        anyhow!("there are no {} to begin with", S::NAME)
    })
}

/// Ends when the process has come to `stage`.
async fn reached(mut now: Receiver<Stage>, stage: Stage) {
    // An error says that the process is gone, which is as far as it goes.
    now.wait_for(|now| stage <= *now).await.ok();
}

/// Runs a task that can't fail.
fn spawn(tasks: &mut Tasks, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        Ok(())
    });
}

/// Waits for the end of all, and tells the first failure.
async fn finish(tasks: &mut Tasks) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        result = result.and(ended.map_err(anyhow::Error::from).flatten());
    }
    result
}
