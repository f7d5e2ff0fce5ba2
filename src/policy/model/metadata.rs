//! The metadata of a rule: free data that goes into answers.

use std::collections::BTreeMap;

/// Values by name.
pub type Metadata = BTreeMap<String, MetadataValue>;

/// A value of metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    Null,
    Bool(bool),
    /// From that of an `i64` to that of a `u64`.
    Integer(i128),
    /// It is finite.
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Metadata),
}
