//! Names as records keep them.

use crate::policy::NAME_LEN_MAX;

/// A name truncated to the maximum length in the directory, so that records stay small.
pub fn stored_name(name: &str) -> &str {
    let mut len = name.len().min(NAME_LEN_MAX);
    while !name.is_char_boundary(len) {
        len -= 1;
    }
    &name[..len]
}
