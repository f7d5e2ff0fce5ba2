//! Values of YAML files with their places, and how they are read so that every problem is noted.

mod reader;
mod tree;

use std::ops::Range;

pub use reader::{Fields, Reader, Shape, nearest};
pub use tree::{Node, Value};

/// A value and the bytes of the file that it stands at.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Range<usize>,
}
