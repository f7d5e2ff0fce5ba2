//! The source that subscribes to an xDS server: the resources `ratelimit.config.ratelimit.v3.RateLimitConfig`, of which
//! each is a domain. A response has all of them; an empty one means no limits.
//!
//! Each response is accepted (ACK), or rejected (NACK) with all its problems, and then the last accepted one stays in
//! force. After a failure it connects again, with growing pauses. Each stream asks for everything, since a restarted
//! server may count its versions anew.

mod cache_file;
mod heard;
mod pulse;
mod server;
mod text;

use std::fmt::{self, Write};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;
use prost::Message;
use tokio::time::{Sleep, sleep};

use super::{Loaded, PolicySource, Texts};
use crate::clock::Backoff;
use crate::metrics::{Metrics, XdsUpdate};
use crate::policy::{Origin, Problem, Severity, Source};
use crate::settings::XdsSettings;

use cache_file::CacheFile;
use server::{Arrival, Server, Subscription, TYPE_URL};

/// Maximum bytes of the texts of all resources. Compiling them takes several times as much memory.
const TOTAL_LEN_MAX: usize = 64 * 1024 * 1024;

/// Maximum bytes of the problems in a rejection.
const REJECTION_LEN_MAX: usize = 64 * 1024;

/// The names of the source, and of the copy in its file.
const XDS: &str = "xds";
const XDS_CACHE: &str = "xds_cache";

/// A response.
#[derive(Clone, Debug)]
struct Received {
    response: Arc<DiscoveryResponse>,
    /// Whether it is from the file.
    is_cached: bool,
}

/// The policies of an xDS server.
#[derive(Debug)]
pub struct Xds {
    server: Server,
    backoff: Backoff,
    cache: Option<CacheFile>,
    metrics: Arc<Metrics>,
    /// A connection that is being made.
    connecting: Option<Connecting>,
    subscription: Option<Subscription>,
    /// The pause before the next connection.
    pause: Option<Pin<Box<Sleep>>>,
    failures: u32,
    /// The last response.
    response: Option<Received>,
    /// Whether the server waits for an answer to it.
    is_new: bool,
    /// The last accepted response.
    accepted: Option<Received>,
    /// The problems of the last response, if it was rejected.
    rejection: Option<String>,
}

/// A connection that is being made.
struct Connecting(Pin<Box<dyn Future<Output = anyhow::Result<Subscription>> + Send>>);

impl Connecting {
    fn new(server: &Server) -> Self {
        let server = server.clone();
        Self(Box::pin(async move { server.subscribe().await }))
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").finish_non_exhaustive()
    }
}

impl Xds {
    /// The policies of the server of the settings. It connects at the first wait for changes.
    pub fn new(settings: &XdsSettings, metrics: Arc<Metrics>) -> Self {
        let cache = settings.cache_file.clone().map(CacheFile::new);
        let read = cache.as_ref().map_or(Ok(None), CacheFile::read);
        let response = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "can't read xds_cache_file; it is ignored");
            None
        });
        let server = Server::new(settings.clone());
        metrics.xds.disconnected(&server.address());
        Self {
            server,
            backoff: Backoff::new(settings.retry_min, settings.retry_max),
            cache,
            metrics,
            connecting: None,
            subscription: None,
            pause: None,
            failures: 0,
            is_new: response.is_some(),
            response: response
                .map(|response| Received { response: Arc::new(response), is_cached: true }),
            accepted: None,
            rejection: None,
        }
    }

    /// Whether the last response was neither accepted nor rejected yet.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether the last response was rejected, and an earlier one is in force.
    pub fn is_rejected(&self) -> bool {
        self.rejection.is_some() && self.accepted.is_some()
    }

    /// Returns to the last accepted response, if the last one was rejected. Whether it was.
    pub fn return_to_accepted(&mut self) -> bool {
        if !self.is_rejected() {
            return false;
        }
        self.response.clone_from(&self.accepted);
        self.rejection = None;
        true
    }

    /// The next response, over the current stream or a new one.
    async fn receive(&mut self) -> anyhow::Result<DiscoveryResponse> {
        if let Some(pause) = &mut self.pause {
            pause.await;
        }
        self.pause = None;
        let subscription = match &mut self.subscription {
            Some(subscription) => subscription,
            none => {
                // Kept if this ends early: a slow connection would never be made otherwise.
                let connecting =
                    self.connecting.get_or_insert_with(|| Connecting::new(&self.server));
                let connected = connecting.0.as_mut().await;
                self.connecting = None;
                none.insert(connected?)
            }
        };
        let response = loop {
            match subscription.next().await? {
                Arrival::Response { response, is_first } => {
                    if is_first {
                        self.metrics.xds.connected(&self.server.address());
                        let server = self.server.address();
                        tracing::info!(server, "connected to the xDS server");
                    }
                    break *response;
                }
                // Servers send nothing to a node for which they have nothing yet. Another connection would not change that.
                Arrival::Silence => {
                    let server = self.server.address();
                    tracing::warn!(server, "the xDS server has not sent policies yet; waiting");
                }
            }
        };
        if response.type_url != TYPE_URL {
            bail!("the server sent resources of another type: {:?}", response.type_url);
        }
        Ok(response)
    }

    fn failed(&mut self, error: &anyhow::Error) {
        let pause = self.backoff.jittered(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.subscription = None;
        self.pause = Some(Box::pin(sleep(pause)));
        let (server, retry_ms) = (self.server.address(), pause.as_millis());
        self.metrics.xds.failed(&server);
        let error = error.root_cause();
        tracing::warn!(
            server,
            retry_ms,
            "no stream from the xDS server; the policies in force stay: {error}"
        );
    }

    /// Accepts the last response.
    fn accept(&mut self, received: &Received) {
        self.accepted = Some(received.clone());
        self.rejection = None;
        if received.is_cached {
            return;
        }
        if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.write(&received.response)) {
            tracing::warn!(%error, "can't write xds_cache_file; it keeps an older copy");
        }
    }
}

impl PolicySource for Xds {
    fn origin(&self) -> Origin {
        let is_cached = self.response.as_ref().is_some_and(|received| received.is_cached);
        let source = if is_cached { XDS_CACHE } else { XDS };
        let version = self.response.as_ref().map(|received| received.response.version_info.clone());
        Origin { source, version }
    }

    fn has_texts(&self) -> bool {
        self.response.is_some()
    }

    fn read(&mut self) -> anyhow::Result<Texts> {
        match &self.response {
            Some(received) => Ok(sources(&received.response)?.into()),
            None => bail!("the xDS server has not sent policies yet"),
        }
    }

    async fn changed(&mut self) {
        loop {
            match self.receive().await {
                Ok(response) => {
                    (self.failures, self.is_new) = (0, true);
                    let response = Arc::new(response);
                    self.response = Some(Received { response, is_cached: false });
                    return;
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn loaded(&mut self, loaded: Loaded<'_>) {
        // One that was answered before was read again because of something else.
        let Some(received) = self.response.clone().filter(|_| mem::take(&mut self.is_new)) else {
            return;
        };
        match loaded {
            Loaded::InForce => self.accept(&received),
            Loaded::Invalid(problems) => self.rejection = Some(rejection(problems)),
            Loaded::Unreadable(error) => self.rejection = Some(error.to_string()),
            // As before.
            Loaded::Unchanged => {}
        }
        if received.is_cached {
            return;
        }
        let update = match &self.rejection {
            Some(_) => XdsUpdate::Rejected,
            None => XdsUpdate::Accepted,
        };
        self.metrics.xds.updated(update);
        let accepted = self.accepted.as_ref();
        let version = accepted.map_or("", |accepted| &accepted.response.version_info);
        if let Some(subscription) = &self.subscription {
            subscription.answer(&received.response, version, self.rejection.clone());
        }
    }
}

/// The texts of all resources of a response.
fn sources(response: &DiscoveryResponse) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    let mut total_len = 0;
    for (index, resource) in response.resources.iter().enumerate() {
        if resource.type_url != TYPE_URL {
            problems.push(format!("resource {index}: unknown type {:?}", resource.type_url));
            continue;
        }
        match RateLimitConfig::decode(resource.value.as_slice()) {
            Ok(config) => {
                let source = text::source(&config);
                total_len += source.text.len();
                if TOTAL_LEN_MAX < total_len {
                    bail!("the resources exceed {TOTAL_LEN_MAX} bytes of text in total");
                }
                sources.push(source);
            }
            Err(error) => problems.push(format!("resource {index}: {error}")),
        }
    }
    match problems.is_empty() {
        true => Ok(sources),
        false => Err(anyhow!("{}", bounded(problems.into_iter()))),
    }
}

/// The errors of a set, one on each line.
fn rejection(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    bounded(errors.map(|Problem { path, line, column, message, .. }| {
        format!("{path}:{line}:{column}: {message}")
    }))
}

/// As many lines as fit, and the number of the others.
fn bounded(lines: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    let mut omitted = 0;
    for line in lines {
        if REJECTION_LEN_MAX < text.len() + line.len() {
            omitted += 1;
            continue;
        }
        let separator = if text.is_empty() { "" } else { "\n" };
        // Writing to a String can't fail.
        write!(text, "{separator}{line}").ok();
    }
    if 0 < omitted {
        write!(text, "\nand {omitted} more problems").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_bounded() {
        let lines = |count: usize| (0..count).map(|_| "x".repeat(1_000));
        assert_eq!(bounded(lines(2)).len(), 2_001);
        let text = bounded(lines(100));
        assert!(text.len() < REJECTION_LEN_MAX + 100, "{}", text.len());
        assert!(text.ends_with("and 35 more problems"), "{}", &text[text.len() - 40..]);
    }
}
