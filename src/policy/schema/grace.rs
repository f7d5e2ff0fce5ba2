//! What a policy file may say of the grace of a limit.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::map::{Read, map};
use super::readers::text;
use crate::policy::yaml::{Node, Reader, Spanned};

/// More than a limit passes for a while: a map, or its `over` alone.
#[derive(Clone, Debug, Default)]
pub struct GraceFile(pub GraceMapFile);

map! {
    /// More than a limit passes for a while from the first breach on, and then no more until the window ends.
    pub struct GraceMapFile in "`grace`" requires ["over"] at span;

    /// How much more, such as 10%.
    #[schemars(required)]
    over: Spanned<String> = text;
    /// For how long, such as 12h; 24h if absent.
    r#for: Spanned<String> = text;
}

impl JsonSchema for GraceFile {
    fn schema_name() -> Cow<'static, str> {
        "Grace".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<GraceMapFile>();
        schemars::json_schema!({
            "description": "How much more than the limit passes for 24h, such as 10%; or a map with that as its over.",
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
