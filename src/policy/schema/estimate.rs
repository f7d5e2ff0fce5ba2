//! The types of `estimate` in a policy file.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::map::{Read, map};
use super::readers::{number, text, word};
use super::words::EstimateAtFile;
use crate::limit::AMOUNT_MAX;
use crate::policy::yaml::{Node, Reader, Spanned};

/// An estimate: a map, or its `hits` alone.
#[derive(Clone, Debug, Default)]
pub struct EstimateFile(pub EstimateMapFile);

map! {
    /// Hits that a request holds until its cost is debited.
    pub struct EstimateMapFile in "`estimate`" requires ["hits"] at span;

    /// How many, such as 500; 0 for none.
    #[schemars(required)]
    hits: Spanned<u64> = number::<AMOUNT_MAX>;
    /// How long they are held if no debit settles them, such as 1m; 5m if absent.
    r#for: Spanned<String> = text;
    /// The key of the entry with which a request states the hits that it will probably cost, such as max_tokens.
    key: Spanned<String> = text;
    /// The most that are held for a request with that entry.
    max: Spanned<u64> = number::<AMOUNT_MAX>;
    /// Which requests hold them; request if absent.
    at: Spanned<EstimateAtFile> = word;
}

impl JsonSchema for EstimateFile {
    fn schema_name() -> Cow<'static, str> {
        "Estimate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<EstimateMapFile>();
        schemars::json_schema!({
            "description": "Hits that a request holds until its cost is debited, such as 500; 0 for none; or a map with that as its hits.",
            "anyOf": [{ "type": "integer", "minimum": 0, "maximum": AMOUNT_MAX }, map],
        })
    }
}

impl Read for EstimateFile {
    fn read(reader: &mut Reader<'_>, node: &Node) -> Self {
        if node.scalar().is_some() {
            let hits = number::<AMOUNT_MAX>(reader, node, "`estimate`");
            let span = node.span.clone();
            return Self(EstimateMapFile { hits, span, ..EstimateMapFile::default() });
        }
        Self(EstimateMapFile::read(reader, node))
    }
}
