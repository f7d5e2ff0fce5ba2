//! What a policy file may say of answers.

use std::collections::BTreeMap;

use super::map::map;
use super::readers::word;
use super::words::{AnswerBodyFile, AnswerLimitsFile, AnswerMetadataFile, HeaderSetFile, Word};
use crate::policy::yaml::{Node, Reader, Spanned, Value};

map! {
    /// What goes back with each answer.
    pub struct AnswerFile in "`answer`";

    /// Sets of response headers that tell how the limits stand.
    headers: Vec<Spanned<HeaderSetFile>> = header_sets;
    /// Whether the headers tell of the tightest limit or of all; the tightest if absent.
    limits: Spanned<AnswerLimitsFile> = word;
    /// The body of a refusal; the gateway's own if absent.
    body: Spanned<AnswerBodyFile> = word;
    /// Which answers carry dynamic metadata on their limits; refusals if absent.
    metadata: Spanned<AnswerMetadataFile> = word;
    /// Headers for the upstream. Envoy appends them: strip them from what callers send.
    request_headers: BTreeMap<String, Spanned<String>> = headers;
    /// Headers for the caller.
    response_headers: BTreeMap<String, Spanned<String>> = headers;
}

fn header_sets(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Option<Vec<Spanned<HeaderSetFile>>> {
    let items = reader.list(node, what).iter();
    let sets = items.filter_map(|item| reader.word(item, "a set of headers", HeaderSetFile::WORDS));
    Some(sets.collect())
}

/// Fixed headers, by name. Envoy reads a name that starts with `:` as a part of the request line, and
/// `host` as its authority: neither may be set from here.
fn headers(
    reader: &mut Reader<'_>,
    node: &Node,
    _: &str,
) -> Option<BTreeMap<String, Spanned<String>>> {
    let Value::Map(entries) = &node.value else {
        reader.error(node.span.clone(), format!("headers must be a map, not {}", node.kind()));
        return None;
    };
    let mut headers = BTreeMap::new();
    for (key, value) in entries {
        let name = key.scalar().unwrap_or_default().to_ascii_lowercase();
        if !is_header_name(&name) {
            reader.error(key.span.clone(), format!("invalid or reserved header name `{name}`"));
        } else if let Some(text) = reader.text(value, &format!("the header `{name}`"))
            && headers.insert(name.clone(), text).is_some()
        {
            reader.error(key.span.clone(), format!("duplicate header `{name}`"));
        }
    }
    Some(headers)
}

/// Whether a header of that name may be set.
pub fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token) && name != "host"
}
