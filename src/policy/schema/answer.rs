//! The types of `answer` in a policy file.

use std::collections::BTreeMap;

use super::map::map;
use super::readers::word;
use super::words::{
    AnswerBodyFile, AnswerLimitsFile, AnswerMetadataFile, HeaderSetFile, RefusalIdFile, Word,
};
use crate::policy::yaml::{Node, Reader, Spanned, Value};

map! {
    /// Headers, body and metadata of answers.
    pub struct AnswerFile in "`answer`";

    /// Sets of response headers with the state of the limits; none if absent.
    headers: Vec<Spanned<HeaderSetFile>> = header_sets;
    /// Which limits the headers describe; tightest if absent.
    limits: Spanned<AnswerLimitsFile> = word;
    /// The body of a refusal; empty if absent, so that the gateway uses its own.
    body: Spanned<AnswerBodyFile> = word;
    /// Which answers have dynamic metadata with details of their limits; refused if absent.
    metadata: Spanned<AnswerMetadataFile> = word;
    /// Where a refusal has an id, by which `/v1/why/{id}` explains it; nowhere if absent.
    refusal_id: Vec<Spanned<RefusalIdFile>> = id_places;
    /// Where a caller gets a higher tier: in the body of a refusal (`body: problem`), and on `/me`.
    upgrade_url: Spanned<String> = web_address;
    /// Headers for the upstream. Envoy appends them, so remove these headers from incoming requests.
    request_headers: BTreeMap<String, Spanned<String>> = headers;
    /// Headers for the response to the caller.
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

/// An address of the web.
fn web_address(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let address = reader.text(node, what)?;
    let rest = ["https://", "http://"].iter().find_map(|scheme| address.value.strip_prefix(scheme));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if !rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain)) {
        let message = format!(
            "invalid address `{}`; use one such as https://example.com/upgrade",
            address.value
        );
        reader.error(address.span.clone(), message);
        return None;
    }
    Some(address)
}

fn id_places(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Option<Vec<Spanned<RefusalIdFile>>> {
    let items = reader.list(node, what).iter();
    let place = |item| reader.word(item, "a place of the id", RefusalIdFile::WORDS);
    Some(items.filter_map(place).collect())
}

/// Fixed headers, by name. Names that start with `:`, and `host`, are invalid: Envoy treats them as parts of the request
/// line.
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

/// Whether a header with this name may be set.
pub fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token) && name != "host"
}
