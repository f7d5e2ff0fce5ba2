//! Removes the counters of a caller: scans all keys of all masters.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, Value};
use tokio::time;

use super::fault;
use super::link::Link;
use super::route::Route;
use crate::policy::KeyEntry;
use crate::store::StoreError;

/// Timeout of a command; no decision waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keys that one command looks at: less than a millisecond of the server.
const SCANNED_AT_ONCE: u32 = 1_000;

/// Removes the counters with one of the entries in their key, and returns their number.
///
/// # Errors
/// If Redis does not answer as expected; some may be removed.
pub async fn erase(route: &Route, entries: &[KeyEntry]) -> Result<u64, StoreError> {
    let mut erased = 0;
    for link in links(route)? {
        for entry in entries {
            erased += erase_on(&link, entry).await?;
        }
    }
    Ok(erased)
}

/// Removes a key, by its whole name.
///
/// # Errors
/// If Redis does not answer as expected.
pub async fn remove(route: &Route, name: &str) -> Result<(), StoreError> {
    let link = route.link(route.slot(name));
    let link = link.ok_or_else(|| StoreError::unexplored("the slot of a counter"))?;
    let mut command = Cmd::new();
    command.arg("DEL").arg(name);
    ask(&link, &command).await.map(drop)
}

fn links(route: &Route) -> Result<Vec<Arc<Link>>, StoreError> {
    match route {
        Route::One(link) => Ok(vec![link.clone()]),
        Route::Cluster(nodes) => {
            let map = nodes.map();
            if map.masters.is_empty() {
                return Err(StoreError::unexplored("the masters"));
            }
            Ok(map.masters.iter().map(|master| master.link.clone()).collect())
        }
    }
}

async fn erase_on(link: &Link, entry: &KeyEntry) -> Result<u64, StoreError> {
    let pattern =
        format!("{}tg1*{}*", link.settings().key_prefix.as_str(), literal(entry.as_str()));
    let (mut cursor, mut erased) = ("0".to_owned(), 0);
    loop {
        let mut command = Cmd::new();
        command.arg("SCAN").arg(&cursor).arg("MATCH").arg(&pattern);
        command.arg("COUNT").arg(SCANNED_AT_ONCE);
        let answer = ask(link, &command).await?;
        let (next, keys): (String, Vec<String>) = parse(answer)?;
        for key in &keys {
            if !entry.is_in(key) {
                continue;
            }
            let mut command = Cmd::new();
            command.arg("DEL").arg(key);
            let removed = ask(link, &command).await?;
            erased += parse::<u64>(removed)?;
        }
        if next == "0" {
            return Ok(erased);
        }
        cursor = next;
    }
}

/// A text as a pattern that matches only itself.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

fn parse<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|error| StoreError::Garbled { reason: error.to_string() })
}

async fn ask(link: &Link, command: &Cmd) -> Result<Value, StoreError> {
    let late = |_| StoreError::Late { deadline: PATIENCE };
    let answer = time::timeout(PATIENCE, link.send(command)).await.map_err(late)??;
    answer.extract_error().map_err(|error| fault::refused(&error))
}
