//! Maps of the policy language: each field is declared once, with its key, its meaning, its type and its reader.

use std::ops::Range;

use crate::policy::yaml::{Node, Reader, Shape, Value};

/// A value of the language that is read from a node, with all problems of form.
pub trait Read: Sized {
    /// The value of the node; invalid parts are omitted.
    fn read(reader: &mut Reader<'_>, node: &Node) -> Self;
}

/// A map of the language.
pub trait MapFile {
    /// Its keys.
    const SHAPE: Shape;
}

/// Declares a map: a struct with an optional field for each key, its JSON Schema, its keys, and its reader.
///
/// `requires` lists required keys. `at` declares a field for the place, and `checked by` a function for further checks.
/// A field is read by a function of `readers.rs`, or by one of its own.
macro_rules! map {
    (
        $(#[$doc:meta])*
        pub struct $name:ident in $what:literal
            $(requires [$($required:literal),*])?
            $(at $span:ident)?
            $(checked by $check:path)?;

        $($(#[$field_doc:meta])* $field:ident: $type:ty = $read:expr;)*
    ) => {
        #[derive(Clone, Debug, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $(#[$doc])*
        pub struct $name {
            $($(#[$field_doc])* pub $field: Option<$type>,)*
            $(
                /// The place.
                #[schemars(skip)]
                pub $span: std::ops::Range<usize>,
            )?
        }

        impl $crate::policy::schema::map::MapFile for $name {
            const SHAPE: $crate::policy::yaml::Shape = $crate::policy::yaml::Shape {
                what: $what,
                keys: &[$($crate::policy::schema::map::key_of(stringify!($field))),*],
            };
        }

        impl $crate::policy::schema::map::Read for $name {
            fn read(
                reader: &mut $crate::policy::yaml::Reader<'_>,
                node: &$crate::policy::yaml::Node,
            ) -> Self {
                use $crate::policy::schema::map;

                let fields = reader.fields(node, &<Self as map::MapFile>::SHAPE);
                map::note_missing(reader, node, &[$($($required),*)?]);
                let read = Self {
                    $($field: fields.get(map::key_of(stringify!($field))).and_then(|node| {
                        let what = format!("`{}`", map::key_of(stringify!($field)));
                        ($read)(reader, node, &what)
                    }),)*
                    $($span: map::start_of(node),)?
                };
                $($check(&read, reader, node);)?
                read
            }
        }
    };
}

pub(super) use map;

/// The key of a field: the field for `for`, a Rust keyword, is `r#for`.
pub const fn key_of(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Reports missing keys of a map.
pub fn note_missing(reader: &mut Reader<'_>, node: &Node, keys: &[&str]) {
    if !matches!(node.value, Value::Map(_)) {
        return;
    }
    for key in keys.iter().filter(|key| node.get(key).is_none()) {
        reader.error(start_of(node), format!("`{key}` is missing"));
    }
}

/// The start of a map for a reader: its first key. YAML locates a block by the token before it.
pub fn start_of(node: &Node) -> Range<usize> {
    match &node.value {
        Value::Map(entries) => {
            entries.first().map_or(node.span.clone(), |(key, _)| key.span.clone())
        }
        _ => node.span.clone(),
    }
}
