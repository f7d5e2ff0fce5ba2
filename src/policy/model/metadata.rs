//! The metadata of a rule: free-form data in answers.

use std::collections::BTreeMap;

/// Values by name.
pub type Metadata = BTreeMap<String, MetadataValue>;

/// A value of metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    Null,
    Bool(bool),
    /// From the minimum of `i64` to the maximum of `u64`.
    Integer(i128),
    /// It is finite.
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Metadata),
}
