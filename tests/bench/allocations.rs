//! Allocations of a decision: `cargo bench --bench allocations`.
//!
//! The stages are those of an embedded decision. The rows of Redis count everything in this process that a decision
//! causes, the connection's task and its library included.

// A benchmark's product is its output.
#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use anyhow::{Result, ensure};
use dhat::HeapStats;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;
use tollgate::clock::Clock;
use tollgate::engine::{Descriptor, Engine, HitsSource, Request};
use tollgate::limit::Hits;
use tollgate::{answer, grpc};

use support::{children, drive, engine, message};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Number of decisions for each figure, after as many for the warm-up.
const DECISIONS: u64 = 1_000;

const POLICY: &str = "
domain: bench
descriptors:
- key: user
  limits: [1_000_000_000/day]
- key: search
  limits: [1_000_000_000/second, 1_000_000_000/minute, 1_000_000_000/hour, 1_000_000_000/day]
- key: spent
  limits: [0/day]
";

/// A request: a name, the descriptor, and the expected answer.
const CASES: [(&str, &str, Code); 3] = [
    ("one limit", "user=alice", Code::Ok),
    ("four limits", "search=all", Code::Ok),
    ("refused", "spent=alice", Code::OverLimit),
];

fn main() -> Result<()> {
    let _profiler = dhat::Profiler::builder().testing().build();
    println!(
        "{:24} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "allocations", "read", "check", "encode", "whole", "bytes"
    );
    drive::block_on(async {
        let embedded = engine::in_memory(POLICY, &Clock::system(), 1_000)?;
        print("embedded", &embedded).await?;
        let folder = tempfile::tempdir()?;
        print_redis(&folder.path().join("redis.sock")).await
    })
}

async fn print_redis(socket: &Path) -> Result<()> {
    let Ok((_running, _)) = children::redis(socket) else {
        println!("there is no redis-server, so nothing of Redis is counted");
        return Ok(());
    };
    let engine = engine::on_redis(POLICY, &Clock::system(), socket).await?;
    print("Redis", &engine).await
}

async fn print(store: &str, engine: &Engine) -> Result<()> {
    for (name, descriptor, code) in CASES {
        let bytes = message::message("bench", &[descriptor]);
        let answer = grpc::answer_bytes(engine, &bytes).await?;
        ensure!(RateLimitResponse::decode(answer.as_slice())?.overall_code() == code);
        let read = counted(async || {
            RateLimitRequest::decode(bytes.as_slice())?;
            Ok(())
        });
        let (read, _) = read.await?;
        let (key, value) = descriptor.split_once('=').unwrap_or_default();
        let (check, _) = counted(async || {
            let descriptor = Descriptor {
                entries: vec![(key, value)],
                hits: Hits::Spend(1),
                hits_source: HitsSource::Request,
                limit: None,
            };
            let (snapshot, request) =
                (engine.snapshot(), Request::try_new("bench", vec![descriptor])?);
            answer::render(&*engine.check(&snapshot, &request).await);
            Ok(())
        })
        .await?;
        let (whole, whole_bytes) = counted(async || {
            grpc::answer_bytes(engine, &bytes).await?;
            Ok(())
        })
        .await?;
        let encode = whole - read - check;
        let name = format!("{store}, {name}");
        println!(
            "{name:24} {read:>12.1} {check:>12.1} {encode:>12.1} {whole:>12.1} {whole_bytes:>12.0}"
        );
    }
    Ok(())
}

/// Allocations of one run of `work`, and their bytes, on average.
async fn counted(work: impl AsyncFn() -> Result<()>) -> Result<(f64, f64)> {
    for _ in 0..DECISIONS {
        work().await?;
    }
    let before = HeapStats::get();
    for _ in 0..DECISIONS {
        work().await?;
    }
    let after = HeapStats::get();
    let each = |before: u64, after: u64| (after - before) as f64 / DECISIONS as f64;
    Ok((each(before.total_blocks, after.total_blocks), each(before.total_bytes, after.total_bytes)))
}
