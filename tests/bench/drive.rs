//! Drives a server: with h2load and one body, or with clients of our own and a key for each request.
//!
//! h2load costs little and so leaves the machine to the server, but sends one body only. Our clients send
//! any, and see every answer; what they cost shows in decisions a second, not in the server's CPU time.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use prost::Message;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use super::options::Options;

/// The key of the hot-key workload.
const HOT_USER: &str = "alice";

/// Keys of the many-keys workload; requests take them in turns.
const USERS: usize = 100_000;

/// What a service's client connects to, and what the method is called on the wire.
const METHOD: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

type Client = RateLimitServiceClient<Channel>;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Every request spends of one key.
    OneKey,
    /// The next request spends of the next key.
    ManyKeys,
}

/// How a run went, as its driver saw it.
#[derive(Debug)]
pub struct Run {
    pub duration: Duration,
    /// Of every answer, the fastest first.
    latencies: Vec<Duration>,
}

impl Workload {
    /// All, in the order of the table.
    pub const ALL: [Self; 2] = [Self::OneKey, Self::ManyKeys];

    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneKey => "one key",
            Self::ManyKeys => "many keys",
        }
    }
}

impl Run {
    fn new(duration: Duration, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self { duration, latencies }
    }

    /// The latency that `percent` of the answers don't exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.latencies.len() - 1;
        self.latencies[last * percent / 100]
    }
}

/// Sends `requests` to the server, every one of which must be answered with OK.
pub async fn run(
    workload: Workload,
    address: &str,
    options: &Options,
    folder: &Path,
) -> Result<Run> {
    match workload {
        Workload::OneKey => h2load(address, options, folder),
        Workload::ManyKeys => clients(address, options).await,
    }
}

/// How much of the hot key's limit remains after one more request, if the server tells. It must say OK.
pub async fn probe(address: &str) -> Result<Option<u32>> {
    let answer = ask(&mut connect(address).await?, HOT_USER).await?;
    Ok(answer.statuses.first().map(|status| status.limit_remaining))
}

fn h2load(address: &str, options: &Options, folder: &Path) -> Result<Run> {
    let (body, log) = (folder.join("body.bin"), folder.join("h2load.log"));
    fs::write(&body, frame(&request(HOT_USER)))?;
    if log.exists() {
        // h2load would append.
        fs::remove_file(&log)?;
    }
    let mut command = Command::new("h2load");
    command
        .args(["-n", &options.requests.to_string(), "-c", &options.connections.to_string()])
        .args(["-m", &options.streams.to_string(), "-H", "content-type: application/grpc"])
        .args(["-H", "te: trailers", "-d"])
        .arg(&body)
        .arg("--log-file")
        .arg(&log)
        .arg(format!("http://{address}/{METHOD}"));
    let start = Instant::now();
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no h2load; Debian's package is nghttp2-client")
        }
        output => output?,
    };
    let duration = start.elapsed();
    let printed = String::from_utf8_lossy(&output.stdout);
    let successes = format!("status codes: {} 2xx", options.requests);
    ensure!(printed.contains(&successes), "not every answer was a success:\n{printed}");
    Ok(Run::new(duration, logged_latencies(&fs::read_to_string(log)?)?))
}

/// The third of the tab-separated fields of each line, in microseconds.
fn logged_latencies(log: &str) -> Result<Vec<Duration>> {
    let latency = |line: &str| {
        let field = line.split('\t').nth(2).context("h2load's log has another form")?;
        Ok(Duration::from_micros(field.parse()?))
    };
    log.lines().map(latency).collect()
}

/// A message as gRPC frames it: not compressed, its length, itself.
fn frame(message: &RateLimitRequest) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).expect("a request of a few bytes");
    [&[0], length.to_be_bytes().as_slice(), &bytes].concat()
}

async fn clients(address: &str, options: &Options) -> Result<Run> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..options.connections {
        let client = connect(address).await?;
        for _ in 0..options.streams {
            tasks.spawn(client_stream(client.clone(), next.clone(), options.requests));
        }
    }
    let start = Instant::now();
    let mut latencies = Vec::with_capacity(options.requests);
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    Ok(Run::new(start.elapsed(), latencies))
}

/// Asks one request after the other until all have been asked.
async fn client_stream(
    mut client: Client,
    next: Arc<AtomicUsize>,
    requests: usize,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if requests <= index {
            return Ok(latencies);
        }
        let user = format!("user-{}", index % USERS);
        let start = Instant::now();
        ask(&mut client, &user).await?;
        latencies.push(start.elapsed());
    }
}

async fn connect(address: &str) -> Result<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(Client::new(endpoint.connect().await.with_context(|| address.to_owned())?))
}

async fn ask(client: &mut Client, user: &str) -> Result<RateLimitResponse> {
    let answer = client.should_rate_limit(request(user)).await?.into_inner();
    ensure!(answer.overall_code() == Code::Ok, "{user} should pass: {answer:?}");
    Ok(answer)
}

fn request(user: &str) -> RateLimitRequest {
    let entry = Entry { key: "user".to_owned(), value: user.to_owned() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    RateLimitRequest {
        domain: "bench".to_owned(),
        descriptors: vec![descriptor],
        ..RateLimitRequest::default()
    }
}
