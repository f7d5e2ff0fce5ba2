//! The cost of a decision in the engine and the embedded store: `cargo bench --bench decide`.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use criterion::{Criterion, criterion_group, criterion_main};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;
use tollgate::answer::{Answer, render};
use tollgate::clock::Clock;
use tollgate::engine::{
    AnyStore, Descriptor, Engine, EngineSettings, HitsSource, ModeSettings, NearLimit, Request,
    Sink, Wanted,
};
use tollgate::grpc::answer_bytes;
use tollgate::limit::Hits;
use tollgate::metrics::{AuditMetrics, Metrics};
use tollgate::observe::audit::{Audit, AuditOptions, Destination, Rotation};
use tollgate::policy::{CompileOptions, PolicySet, Source, compile, compile_callers};
use tollgate::store::embedded::Memory;
use tollgate::store::{Batch, Charge, Directory};

const ONE_LIMIT: &str = "{domain: d, descriptors: [{key: user, limits: [1_000_000_000/minute]}]}";

const FOUR_LIMITS: &str = "
domain: d
descriptors:
- key: provider
  value: hotelbeds
  descriptors:
  - key: endpoint
    value: search
    limits: [1_000_000_000/second, 1_000_000_000/minute, 1_000_000_000/hour, 1_000_000_000/day]";

const REFUSED_CALLER: &str =
    "{domain: d, caller: {key: user}, descriptors: [{key: user, limits: [0/day]}]}";

const REFUSED: &str = "{domain: d, descriptors: [{key: user, limits: [0/day]}]}";

/// The output of a future that never waits, as those of the embedded store.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the embedded store never waits"),
    }
}

/// Decides, and renders the verdict.
async fn answer(engine: &Engine, request: &Request<'_>) -> Answer {
    let snapshot = engine.snapshot();
    render(&*engine.check(&snapshot, request).await)
}

fn engine(policy: &str) -> Engine {
    engine_knowing(policy, Directory::None)
}

fn engine_knowing(policy: &str, directory: Directory) -> Engine {
    let source = Source { path: "bench.yaml".to_owned(), text: policy.to_owned() };
    let policies = compile(&[source], CompileOptions::default()).expect("the policy is right");
    let engine = Engine::new(EngineSettings {
        store: AnyStore::Memory(Memory::new(100_000)),
        directory,
        clock: Clock::system(),
        modes: ModeSettings::default(),
        near_limit: NearLimit::default(),
        metrics: Arc::new(Metrics::new()),
    });
    engine.replace(policies);
    engine
}

fn request<'a>(entries: &[(&'a str, &'a str)]) -> Request<'a> {
    let descriptor = Descriptor {
        entries: entries.to_vec(),
        hits: Hits::Spend(1),
        hits_source: HitsSource::Request,
        limit: None,
    };
    Request::try_new("d", vec![descriptor]).expect("the request is right")
}

fn decide(criterion: &mut Criterion) {
    let user: &[(&str, &str)] = &[("user", "alice")];
    let search: &[(&str, &str)] = &[("provider", "hotelbeds"), ("endpoint", "search")];
    for (name, policy, entries) in [
        ("no rule", ONE_LIMIT, &[("other", "x")][..]),
        ("one limit", ONE_LIMIT, user),
        ("four limits of a rule", FOUR_LIMITS, search),
        ("refused", REFUSED, user),
    ] {
        let engine = engine(policy);
        criterion.bench_function(&format!("decide/{name}"), |bencher| {
            bencher.iter(|| ready(answer(&engine, black_box(&request(entries)))));
        });
    }
}

/// Finding a rule among many values, networks and expressions.
fn matching(criterion: &mut Criterion) {
    let list = |item: fn(usize) -> String, count: usize| {
        (0..count).map(item).collect::<Vec<_>>().join(", ")
    };
    let network = |number: usize| format!("10.{}.{}.0/24", number / 256 % 256, number % 256);
    let value = |number: usize| format!("value-{number}");
    let rule = |number: usize| {
        format!(
            "{{key: x, cidr: [10.{}.{}.0/24], limits: [1000000000/minute]}}",
            number / 256,
            number % 256
        )
    };
    let limits = "limits: [1_000_000_000/minute]";
    for count in [10, 10_000] {
        for (name, rules, value) in [
            (
                "networks",
                format!("{{key: x, cidr: [{}], {limits}}}", list(network, count)),
                "10.0.9.7",
            ),
            ("rules for a network", list(rule, count), "10.0.9.7"),
            (
                "values",
                format!("{{key: x, one_of: [{}], {limits}}}", list(value, count)),
                "value-9",
            ),
            (
                "not values",
                format!("{{key: x, not: {{one_of: [{}]}}, {limits}}}", list(value, count)),
                "y",
            ),
        ] {
            let engine = engine(&format!("{{domain: d, descriptors: [{rules}]}}"));
            criterion.bench_function(&format!("matching/{count} {name}"), |bencher| {
                bencher.iter(|| ready(answer(&engine, black_box(&request(&[("x", value)])))));
            });
        }
    }
}

/// The stages of a decision one by one, and then all together.
fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stages");
    let message = message();
    let engine = engine(ONE_LIMIT);
    let answer = ready(answer_bytes(&engine, &message)).expect("the message is right");
    let answer = RateLimitResponse::decode(answer.as_slice()).expect("an answer");
    group.bench_function("parse", |bencher| {
        bencher.iter(|| RateLimitRequest::decode(black_box(message.as_slice())));
    });
    let source = Source { path: "bench.yaml".to_owned(), text: ONE_LIMIT.to_owned() };
    let policies = compile(&[source], CompileOptions::default()).expect("the policy is right");
    let memory = Memory::new(100_000);
    let at = Clock::system().now().timestamp();
    group.bench_function("match", |bencher| bencher.iter(|| batch(black_box(&policies))));
    let batch = batch(&policies);
    group.bench_function("decide", |bencher| {
        bencher.iter(|| memory.charge_at(black_box(&batch), at));
    });
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(&answer).encode_to_vec());
    });
    group.bench_function("whole", |bencher| {
        bencher.iter(|| ready(answer_bytes(&engine, black_box(&message))));
    });
}

/// Envoy's message for one descriptor.
fn message() -> Vec<u8> {
    let entry = Entry { key: "user".to_owned(), value: "alice".to_owned() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() };
    RateLimitRequest { domain: "d".to_owned(), descriptors: vec![descriptor], hits_addend: 0 }
        .encode_to_vec()
}

/// The batch of a request with one limit: find the limit, build its key.
fn batch(policies: &PolicySet) -> Batch {
    let entries = black_box([("user", "alice")]);
    let domain = policies.domain("d").expect("it is in the policy");
    let walk = domain.walk(&entries);
    let rule = walk.end().expect("it has a rule for users");
    let mut batch = Batch::default();
    let key_index = batch.key_index(domain.key(&walk, &entries, 1));
    batch.charges.push(Charge::plain(key_index, rule.limits[0].limit.clone(), Hits::Spend(1)));
    batch
}

fn many_keys(criterion: &mut Criterion) {
    let engine = engine(ONE_LIMIT);
    let users: Vec<String> = (0..50_000).map(|user| format!("user-{user}")).collect();
    let mut next = users.iter().cycle();
    criterion.bench_function("decide/50,000 keys in turn", |bencher| {
        bencher.iter(|| {
            let user = next.next().expect("a cycle does not end");
            ready(answer(&engine, black_box(&request(&[("user", user)]))))
        });
    });
}

fn compile_policies(criterion: &mut Criterion) {
    let rules: String = (0..1_000)
        .map(|rule| format!("- {{key: k, value: v{rule}, limits: [10/second, 100/day]}}\n"))
        .collect();
    let text = format!("domain: d\ndescriptors:\n{rules}");
    let source = Source { path: "bench.yaml".to_owned(), text };
    criterion.bench_function("compile/1,000 rules", |bencher| {
        bencher.iter(|| compile(std::slice::from_ref(&source), CompileOptions::default()));
    });
}

/// Number of callers in the directory of [`sharing`].
const CALLERS: usize = 1_000_000;

/// Number of callers in a file: up to 250,000 short ones fit.
const CALLERS_A_FILE: usize = 200_000;

/// A policy of a thousand rules for callers of three tiers and their shared providers.
fn thousand_rules() -> String {
    let mut policy = "
domain: d
tiers: [free, premium, enterprise]
caller: { key: user, tier: { key: tier, default: free }, priority: { default: 1, add: { tier: { enterprise: 2 } } } }
descriptors:
- key: user
  limits: [{ name: daily, by_tier: { free: 1_000_000_000/day, premium: 2_000_000_000/day, enterprise: 3_000_000_000/day } }]
"
    .to_owned();
    for provider in 0..999 {
        policy.push_str(&format!(
            "- key: provider
  value: provider-{provider}
  limits: [1_000_000_000/minute]
  capacity:
    reserve: {{ enterprise: 20%, premium: 10% }}
    pressure: [{{ above: 80%, scale: {{ free: 0.8 }} }}, {{ above: 95%, only: {{ tier: [enterprise], priority: 4 }} }}]
"
        ));
    }
    policy
}

/// The cost of a large policy and a large directory, compared with a policy of one rule.
fn sharing(criterion: &mut Criterion) {
    let tiers = ["free", "premium", "enterprise"];
    let file = |file: usize| {
        let mut text = "callers:\n".to_owned();
        for caller in file * CALLERS_A_FILE..(file + 1) * CALLERS_A_FILE {
            text.push_str(&format!("  caller-{caller}: {{ tier: {} }}\n", tiers[caller % 3]));
        }
        Source { path: format!("{file}.yaml"), text }
    };
    let sources: Vec<Source> = (0..CALLERS / CALLERS_A_FILE).map(file).collect();
    let callers = compile_callers(&sources).expect("the callers are right");
    let directory = Directory::files();
    directory.replace(callers);
    let names: Vec<String> =
        (0..CALLERS).step_by(19).map(|caller| format!("caller-{caller}")).collect();
    let small = engine(ONE_LIMIT);
    let large = engine_knowing(&thousand_rules(), directory);
    let provider: &[(&str, &str)] = &[("provider", "provider-500")];
    for (name, engine, provider) in [
        ("one rule", &small, &[][..]),
        ("1,000 rules, 1,000,000 callers", &large, &[][..]),
        ("the same, and a provider's capacity", &large, provider),
    ] {
        let mut next = names.iter().cycle();
        criterion.bench_function(&format!("sharing/{name}"), |bencher| {
            bencher.iter(|| {
                let user = next.next().expect("a cycle does not end");
                let descriptor = |entries| Descriptor {
                    entries,
                    hits: Hits::Spend(1),
                    hits_source: HitsSource::Request,
                    limit: None,
                };
                let mut descriptors = vec![descriptor(vec![("user", user.as_str())])];
                if !provider.is_empty() {
                    descriptors.push(descriptor(provider.to_vec()));
                }
                let request = Request::try_new("d", descriptors).expect("the request is right");
                ready(answer(engine, black_box(&request)))
            });
        });
    }
}

/// The cost of recording each decision for a consumer that only counts, consumer included.
fn sink(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sink");
    let message = message();
    let plain = engine(ONE_LIMIT);
    group.bench_function("none", |bencher| {
        bencher.iter(|| ready(answer_bytes(&plain, black_box(&message))));
    });
    let sink = Arc::new(Sink::new(Metrics::new().sink_dropped));
    let recorded = engine(ONE_LIMIT).with_sink(sink.clone());
    let (mut taken, mut count) = (Vec::new(), 0);
    group.bench_function("counted", |bencher| {
        let mut since_drain = 0;
        bencher.iter(|| {
            // As many as arrive within an interval at 20,000 decisions a second; on this thread, so that it is counted.
            since_drain += 1;
            if since_drain == 1_000 {
                since_drain = 0;
                sink.drain(&mut taken, &mut |records| count += records.len());
            }
            ready(answer_bytes(&recorded, black_box(&message)))
        });
    });
    black_box(count);
}

/// The cost of lines in the audit log, written to a file, for refused requests of a caller: formatting, hashes and the
/// write included. Without lines, the records are only counted.
fn audit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("audit");
    let message = message();
    let folder = tempfile::tempdir().expect("the folder of temporary files can be written");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs no IO");
    for (name, share) in [("none", 0.0), ("a hundredth", 0.01), ("a tenth", 0.1), ("all", 1.0)] {
        let log = Audit::open(AuditOptions {
            destination: Destination::File(folder.path().join(name)),
            rotation: Rotation { size_max: Some(64 << 20), files_max: 1 },
            stream: None,
            redaction: None,
            metrics: AuditMetrics::default(),
        });
        let log = log.expect("the file can be written");
        let wanted = Wanted { all: true, refusals: share };
        let sink = Arc::new(Sink::of(wanted, Metrics::new().sink_dropped));
        let recorded = engine(REFUSED_CALLER).with_sink(sink.clone());
        let (mut taken, mut since_drain) = (Vec::new(), 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                since_drain += 1;
                if since_drain == 1_000 {
                    since_drain = 0;
                    sink.drain(&mut taken, &mut |records| log.offer(records));
                    runtime.block_on(log.flush());
                }
                ready(answer_bytes(&recorded, black_box(&message)))
            });
        });
    }
}

criterion_group!(
    benches,
    stages,
    decide,
    matching,
    sink,
    audit,
    many_keys,
    compile_policies,
    sharing
);
criterion_main!(benches);
