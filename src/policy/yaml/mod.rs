//! Values of YAML files with their places, and a reader that collects all problems.

mod reader;
mod tree;

use std::ops::Range;

pub use reader::{Fields, Reader, Shape, nearest};
pub use tree::{Node, Value};

/// A value and its bytes in the file.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Range<usize>,
}
