#!/usr/bin/env bash
# Fuzzes each target for a minute, or for SECONDS: tests/fuzz/run.sh [SECONDS]
#
# An hour each of policy (544,621 inputs) and request (5,310,091) on 2026-11-23 found nothing that fails, nor did forty minutes
# each of reply (3,712,046), json (1,925,347) and callers (176,544). corpus/*/found-* is a sample of what reached new code.
#
# libFuzzer on stable Rust. What it finds of interest stays in target/fuzz, where the next run goes on; an
# input that fails is named in the output and lies there too. To run that one again:
# target/debug/fuzz-policy target/fuzz/policy/crash-...
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
target=${CARGO_TARGET_DIR:-target}

RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/instrument cargo build --locked --package tollgate-fuzz

# fuzz NAME ARGUMENTS...: flags and folders of inputs to begin with.
fuzz() {
  local name=$1 found=$target/fuzz/$1
  shift
  mkdir -p "$found/corpus"
  echo "fuzzing $name for $seconds s"
  "$target/debug/fuzz-$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
    -verbosity=0 -print_final_stats=1 -artifact_prefix="$found/" "$found/corpus" "$@"
}

fuzz policy -dict=tests/fuzz/policy.dict config/policies tests/policy/bad tests/fuzz/corpus/policy
fuzz request tests/fuzz/corpus/request
fuzz reply tests/fuzz/corpus/reply
fuzz json tests/fuzz/corpus/json
fuzz callers -dict=tests/fuzz/policy.dict config tests/fuzz/corpus/callers
