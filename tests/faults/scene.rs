//! Two sidecars on one Redis, or on one cluster, under steady load during a fault, and the answers to their clients.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::ask::Reply;
use crate::support::client::Grpc;
use crate::support::cluster::Cluster;
use crate::support::proxy::Proxy;
use crate::support::redis::Server;
use crate::support::store::Store;
use crate::support::tollgate::Tollgate;
use crate::support::{ask, eventually};

/// The limit of every scene, in each [`WINDOW`].
pub const LIMIT: usize = 200;
const WINDOW: Duration = Duration::from_secs(2);

/// The store deadline of a request.
const DEADLINE: Duration = Duration::from_millis(100);

/// The same for faults that must have no effect, even on a busy machine.
const LONG_DEADLINE: Duration = Duration::from_secs(1);

/// Additional time of an answer on a busy machine.
const GRACE: Duration = Duration::from_secs(1);

/// Maximum time until Redis is used again after a fault. Pauses between probes are at most a second; a cluster takes a
/// second or two to detect that a master is lost and to elect another.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// Number of clients of each sidecar, and their rate: several windows need more than the limit.
const CLIENTS: usize = 4;
const ASK_INTERVAL: Duration = Duration::from_millis(5);

/// Number of answers in a stage of a scene.
const STRETCH: usize = 300;

/// The fault of a scene, and its expected effect.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// The fault.
    pub fault: &'static str,
    /// Whether the sidecars notice that Redis is unavailable.
    pub is_outage: bool,
    /// Maximum hits over the limit of a window: those that Redis has lost.
    pub over_max: usize,
    /// Whether it ends by itself, in which case the time to recover starts with the fault.
    pub mends_itself: bool,
}

impl Promise {
    fn deadline(&self) -> Duration {
        if self.is_outage { DEADLINE } else { LONG_DEADLINE }
    }
}

/// Two sidecars, their store, and their load.
pub struct Scene<S> {
    pub stage: S,
    _sidecars: Vec<Tollgate>,
    clients: JoinSet<()>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A single server, and the proxy before it.
pub struct Alone {
    pub server: Server,
    pub proxy: Proxy,
}

/// One request, as seen by its client.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sent: Instant,
    answered: Instant,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Admitted,
    Refused,
    /// By `on_outage`.
    Fallback,
    Failed,
}

impl Scene<Alone> {
    /// A scene on one server. None without Redis.
    pub async fn start(promise: &Promise) -> Option<Self> {
        let server = Server::start(&[])?;
        let proxy = Proxy::start(&server.socket()).await;
        let flags = vec!["--redis-url".to_owned(), proxy.url()];
        Some(Self::on(Alone { server, proxy }, promise, flags).await)
    }
}

impl Scene<Cluster> {
    /// A scene on three masters with a replica each. None without Redis.
    pub async fn on_cluster(promise: &Promise) -> Option<Self> {
        let cluster = Cluster::start(3, true).await?;
        let flags = cluster.flags();
        Some(Self::on(cluster, promise, flags).await)
    }
}

impl<S> Scene<S> {
    /// A scene with `on_outage: deny`. Each request has two limits, one of them narrow, with counters on two slots.
    async fn on(stage: S, promise: &Promise, flags: Vec<String>) -> Self {
        let policy = format!(
            "{{domain: faults, answer: {{metadata: always}}, defaults: {{on_outage: deny}}, descriptors: [\
             {{key: user, limits: [{LIMIT}/{}s]}}, {{key: plan, limits: [1000000/hour]}}]}}",
            WINDOW.as_secs()
        );
        let deadline = format!("--store-deadline={}ms", promise.deadline().as_millis());
        let flags = flags.iter().map(String::as_str).chain([deadline.as_str()]);
        let flags: Vec<&str> = flags.collect();
        let (clients, seen) = (JoinSet::new(), Arc::default());
        let mut scene = Self { stage, _sidecars: Vec::new(), clients, seen };
        for _ in 0..2 {
            let sidecar = Tollgate::serve_with(&policy, &Store::Embedded, &flags).await;
            for _ in 0..CLIENTS {
                let client = sidecar.client().await;
                scene.clients.spawn(ask_on(client, scene.seen.clone()));
            }
            scene._sidecars.push(sidecar);
        }
        scene.stretch(Instant::now(), |answer| answer == Answer::Admitted).await;
        scene
    }

    /// Waits for this many such answers to requests sent since then; returns the time of the first one.
    async fn stretch(&self, since: Instant, is_one: impl Fn(Answer) -> bool) -> Instant {
        let what = "enough answers of the kind";
        eventually(what, async || {
            let seen = self.seen.lock().unwrap();
            let counts = |one: &&Seen| since <= one.sent && is_one(one.answer);
            let first = seen.iter().filter(counts).map(|one| one.answered).min()?;
            let enough = STRETCH.min(LIMIT) <= seen.iter().filter(counts).count();
            enough.then_some(first)
        })
        .await
    }

    /// Causes the fault, waits, ends it, and checks the expected effect.
    pub async fn check(
        mut self,
        promise: Promise,
        inject: impl AsyncFnOnce(&mut Self),
        heal: impl AsyncFnOnce(&mut Self),
    ) {
        let broken = Instant::now();
        inject(&mut self).await;
        let since = Instant::now();
        match promise.is_outage {
            true => self.stretch(since, |answer| answer == Answer::Fallback).await,
            false => self.stretch(since, |_| true).await,
        };
        heal(&mut self).await;
        let healed = Instant::now();
        let decided = |answer| matches!(answer, Answer::Admitted | Answer::Refused);
        let decides = self.stretch(healed, decided).await;
        let recovered = decides - if promise.mends_itself { broken } else { healed };
        self.stretch(Instant::now(), |answer| answer == Answer::Admitted).await;
        self.clients.shutdown().await;

        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let count = |answer| seen.iter().filter(|one| one.answer == answer).count();
        let late = seen.iter().filter(|one| broken <= one.answered);
        let longest = late.map(|one| one.answered - one.sent).max().unwrap();
        let over = over(&seen);
        println!(
            "| {} | {} | {} | {} | {over} | {} ms | {} ms |",
            promise.fault,
            seen.len(),
            count(Answer::Failed),
            count(Answer::Fallback),
            longest.as_millis(),
            recovered.as_millis(),
        );
        assert_eq!(count(Answer::Failed), 0, "{}: every request is answered", promise.fault);
        assert!(over <= promise.over_max, "{}: {over} over the limit", promise.fault);
        assert!(
            longest <= promise.deadline() + GRACE,
            "{}: an answer took {longest:?}",
            promise.fault
        );
        assert!(recovered <= RECOVERY_MAX, "{}: {recovered:?} to recover", promise.fault);
        if !promise.is_outage {
            assert_eq!(count(Answer::Fallback), 0, "{}: it is no outage", promise.fault);
        }
    }
}

/// Sends requests at a steady rate until it is dropped.
async fn ask_on(mut client: Grpc, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut ticks = interval(ASK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sent = Instant::now();
        let answer =
            client.should_rate_limit(ask::request("faults", &["user=alice", "plan=gold"], 1)).await;
        let answered = Instant::now();
        let answer = match answer {
            Err(_) => Answer::Failed,
            Ok(response) => {
                let reported = Reply::new(&response.into_inner());
                match reported.metadata["fallback"].as_bool() {
                    Some(true) => Answer::Fallback,
                    _ if reported.passed => Answer::Admitted,
                    _ => Answer::Refused,
                }
            }
        };
        seen.lock().unwrap().push(Seen { sent, answered, answer });
    }
}

/// How far the busiest window certainly exceeded the limit: by requests that were both sent and answered within it.
fn over(seen: &[Seen]) -> usize {
    let admitted: Vec<&Seen> = seen.iter().filter(|one| one.answer == Answer::Admitted).collect();
    let within = |first: &Seen| {
        let end = first.sent + WINDOW;
        admitted.iter().filter(|one| first.sent <= one.sent && one.answered < end).count()
    };
    admitted.iter().map(|first| within(first)).max().unwrap_or(0).saturating_sub(LIMIT)
}
