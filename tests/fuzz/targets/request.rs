//! Any bytes as a request over gRPC, decided on the embedded store: an answer or an error status.
#![no_main]

#[path = "engine.rs"]
mod engine;

use libfuzzer_sys::fuzz_target;
use tollgate::grpc::answer_bytes;

use engine::{ENGINE, RUNTIME};

fuzz_target!(|bytes: &[u8]| {
    let _ = RUNTIME.block_on(answer_bytes(&ENGINE, bytes));
});
