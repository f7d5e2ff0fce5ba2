//! The types of `idempotency` in a policy file.

use super::map::{map, start_of};
use super::readers::{number, text};
use crate::policy::yaml::{Node, Reader, Spanned, Value};
use crate::printable::is_blank;

/// Maximum number of free retries: each takes space in the mark of the request.
const RETRIES_MAX: u64 = 100;

map! {
    /// Identifies retries of earlier requests, which are charged once.
    pub struct IdempotencyFile in "`idempotency`" at span checked by check;

    /// The key of the entry that holds the idempotency key, such as a request id. It is not part of a descriptor's
    /// path.
    key: Spanned<String> = text;
    /// How long retries are free, counted from the first attempt that passed; 10m if absent.
    r#for: Spanned<String> = life;
    /// For requests without that entry: how long a request with the same descriptors and hits counts as a retry, such
    /// as 5s. If absent, it never does.
    fingerprint: Spanned<String> = text;
    /// Maximum number of free retries; 5 if absent.
    retries: Spanned<u64> = number::<RETRIES_MAX>;
}

fn check(file: &IdempotencyFile, reader: &mut Reader<'_>, node: &Node) {
    if !matches!(node.value, Value::Map(_)) {
        return;
    }
    if let Some(key) = file.key.as_ref().filter(|key| is_blank(&key.value)) {
        reader.error(
            key.span.clone(),
            "`key` is blank; name the entry that holds the idempotency key",
        );
    }
    if node.get("key").is_none() && node.get("fingerprint").is_none() {
        reader.error(start_of(node), "`idempotency` requires `key` or `fingerprint`");
    }
    if let Some(life) = file.r#for.as_ref().filter(|_| node.get("key").is_none()) {
        reader.error(life.span.clone(), "`for` requires `key`; a fingerprint says its time itself");
    }
}

fn life(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<Spanned<String>> {
    reader.text(node, "`for`")
}
