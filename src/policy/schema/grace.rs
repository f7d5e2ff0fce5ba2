//! The types of `grace` in a policy file.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::map::{Read, map};
use super::readers::text;
use crate::policy::yaml::{Node, Reader, Spanned};

/// A grace: a map, or its `over` alone.
#[derive(Clone, Debug, Default)]
pub struct GraceFile(pub GraceMapFile);

map! {
    /// A grace: the limit may be exceeded for a limited time, from the first breach on.
    pub struct GraceMapFile in "`grace`" requires ["over"] at span;

    /// How far the limit may be exceeded, such as 10%.
    #[schemars(required)]
    over: Spanned<String> = text;
    /// How long, such as 12h; 24h if absent.
    r#for: Spanned<String> = text;
}

impl JsonSchema for GraceFile {
    fn schema_name() -> Cow<'static, str> {
        "Grace".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<GraceMapFile>();
        schemars::json_schema!({
            "description": "How far the limit may be exceeded for 24h, such as 10%; or a map with that as its over.",
            "anyOf": [{ "type": "string", "pattern": "^ *[0-9]+ *% *$" }, map],
        })
    }
}

impl Read for GraceFile {
    fn read(reader: &mut Reader<'_>, node: &Node) -> Self {
        if node.scalar().is_some() {
            let over = reader.text(node, "`grace`");
            return Self(GraceMapFile { over, span: node.span.clone(), ..GraceMapFile::default() });
        }
        Self(GraceMapFile::read(reader, node))
    }
}
