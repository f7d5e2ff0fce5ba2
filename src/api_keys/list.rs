//! Lists of texts in forms.

use crate::policy::Flaws;

/// Maximum number of items of one list: requests search them.
const LIST_LEN_MAX: usize = 64;

/// Whether a field is left out.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The values of the texts at a place. Problems are noted with their indexes.
pub fn items<T>(
    flaws: &mut Flaws,
    place: &[&str],
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    flaws.note_if(LIST_LEN_MAX < texts.len(), place, || {
        let name = place.last().copied().unwrap_or_default();
        format!("too many {name}: {}; at most {LIST_LEN_MAX} are allowed", texts.len())
    });
    let mut values = Vec::new();
    for (index, text) in texts.iter().take(LIST_LEN_MAX).enumerate() {
        let index = index.to_string();
        let place: Vec<&str> = place.iter().copied().chain([&*index]).collect();
        values.extend(flaws.take(&place, parse(text)));
    }
    values
}
