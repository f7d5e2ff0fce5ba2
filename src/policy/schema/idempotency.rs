//! What a policy file may say of retries.

use super::map::{map, start_of};
use super::readers::{number, text};
use crate::policy::yaml::{Node, Reader, Spanned, Value};
use crate::printable::is_blank;

/// Retries that a policy may let pass free: each has its place in the mark of the request.
const RETRIES_MAX: u64 = 100;

map! {
    /// Which requests are retries of earlier ones, and so are charged once.
    pub struct IdempotencyFile in "`idempotency`" at span checked by check;

    /// The key of the entry that holds the idempotency key of a request, such as its id. It is no part of a descriptor's path.
    key: Spanned<String> = text;
    /// How long retries are free, from the first attempt that passed; 10m if absent.
    r#for: Spanned<String> = life;
    /// For requests without that entry: how long a request of the same descriptors and hits counts as a retry, such as 5s.
    /// Absent: it never does.
    fingerprint: Spanned<String> = text;
    /// How many retries are free; 5 if absent.
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
