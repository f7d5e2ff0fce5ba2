//! What a policy file may say of reservations.

use super::map::{map, start_of};
use super::readers::text;
use crate::policy::yaml::{Node, Reader, Spanned, Value};
use crate::printable::is_blank;

map! {
    /// Reservations: hits that are held for an operation, count as used meanwhile, and are settled for what it used.
    pub struct ReservationFile in "`reservation`" at span checked by check;

    /// The key of the entry that holds the id of a reservation. It is no part of a descriptor's path. If absent, reservations are
    /// made over HTTP alone.
    key: Spanned<String> = text;
    /// The key of the entry that says what a request does with its reservation: reserve, settle, extend or cancel; settle if the
    /// request has no such entry. It is no part of a descriptor's path.
    action: Spanned<String> = text;
    /// How long hits are held before they lapse, such as 10m; 10m if absent.
    ttl: Spanned<String> = text;
    /// The longest time for which a request over HTTP may have hits held; 1d, or `ttl` if that is longer, if absent.
    ttl_max: Spanned<String> = text;
}

fn check(file: &ReservationFile, reader: &mut Reader<'_>, node: &Node) {
    if !matches!(node.value, Value::Map(_)) {
        return;
    }
    for (name, key) in [("key", &file.key), ("action", &file.action)] {
        if let Some(key) = key.as_ref().filter(|key| is_blank(&key.value)) {
            reader.error(key.span.clone(), format!("`{name}` is blank; name the entry"));
        }
    }
    if let Some(action) = file.action.as_ref().filter(|_| node.get("key").is_none()) {
        let message = "`action` requires `key`, the entry that holds the id of the reservation";
        reader.error(action.span.clone(), message);
    }
    if let (Some(key), Some(action)) = (&file.key, &file.action)
        && key.value == action.value
    {
        let message = "`action` must name another entry than `key`";
        reader.error(action.span.clone(), message);
    }
    if node.get("key").is_some() && node.get("action").is_none() {
        let message = "`key` requires `action`: without it no request could reserve anything";
        reader.error(start_of(node), message);
    }
}
