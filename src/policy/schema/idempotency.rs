//! The types of `idempotency` in a policy file.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::map::{Read, map, start_of};
use super::readers::text;
use crate::policy::yaml::{Node, Reader, Spanned, Value};
use crate::printable::is_blank;

/// The number of free retries: each takes space in the mark of the request.
const RETRIES: RangeInclusive<i64> = 1..=100;

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
    #[schemars(range(min = 1, max = 100))]
    retries: Spanned<u64> = retries;
}

/// Identifies retries for the limits of a rule.
#[derive(Clone, Debug)]
pub enum RuleIdempotencyFile {
    /// No request is a retry; with its place.
    Off(Range<usize>),
    These(IdempotencyFile),
}

impl RuleIdempotencyFile {
    /// The settings; None if no request is a retry.
    pub fn these(&self) -> Option<&IdempotencyFile> {
        match self {
            Self::Off(_) => None,
            Self::These(file) => Some(file),
        }
    }

    /// Its place in the file.
    pub fn span(&self) -> &Range<usize> {
        match self {
            Self::Off(span) => span,
            Self::These(file) => &file.span,
        }
    }
}

impl JsonSchema for RuleIdempotencyFile {
    fn schema_name() -> Cow<'static, str> {
        "RuleIdempotency".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let these = generator.subschema_for::<IdempotencyFile>();
        schemars::json_schema!({
            "description": "Identifies retries of earlier requests; false: every attempt is charged.",
            "anyOf": [{ "const": false }, these],
        })
    }
}

/// Reads `idempotency` of a rule.
pub fn of_rule(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<RuleIdempotencyFile> {
    Some(match node.scalar() {
        Some("false") => RuleIdempotencyFile::Off(node.span.clone()),
        _ => RuleIdempotencyFile::These(IdempotencyFile::read(reader, node)),
    })
}

/// Reads `idempotency: false` of a limit.
pub fn off(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<Spanned<bool>> {
    if node.scalar() == Some("false") {
        return Some(Spanned { value: false, span: node.span.clone() });
    }
    let message =
        "a limit can only say `idempotency: false`; a policy or a rule identifies the retries";
    reader.error(node.span.clone(), message);
    None
}

fn retries(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<u64>> {
    let number = reader.integer(node, &format!("{what} must be a whole number"), RETRIES)?;
    Some(Spanned { value: number.value.unsigned_abs(), span: number.span })
}

fn check(file: &IdempotencyFile, reader: &mut Reader<'_>, node: &Node) {
    if !matches!(node.value, Value::Map(_)) {
        return;
    }
    if let Some(key) = file.key.as_ref().filter(|key| is_blank(&key.value)) {
        reader.error(
            key.span.clone(),
            "`key` is blank; use the key of the entry that holds the idempotency key",
        );
    }
    if let Some(key) = file.key.as_ref().filter(|key| key.value.contains('*')) {
        let message = format!("`{}` is no pattern here; name one entry", key.value);
        reader.error(key.span.clone(), message);
    }
    if node.get("key").is_none() && node.get("fingerprint").is_none() {
        reader.error(start_of(node), "`idempotency` requires `key` or `fingerprint`");
    }
    if let Some(life) = file.r#for.as_ref().filter(|_| node.get("key").is_none()) {
        reader.error(
            life.span.clone(),
            "`for` requires `key`; `fingerprint` has a duration of its own",
        );
    }
}

fn life(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<Spanned<String>> {
    reader.text(node, "`for`")
}
