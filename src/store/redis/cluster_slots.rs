//! `CLUSTER SLOTS`: the command, and its answer as ranges of slots with their masters.

use std::ops::RangeInclusive;

use ::redis::{Cmd, FromRedisValue, Value};

use super::slot::SLOTS;

/// Host and port.
pub type Address = (String, u16);

/// Slots and their master, from the cluster.
pub type SlotRange = (RangeInclusive<u16>, Address);

/// The command.
pub fn question() -> Cmd {
    let mut command = Cmd::new();
    command.arg("CLUSTER").arg("SLOTS");
    command
}

/// The answer that most masters gave.
pub fn most(mut answers: Vec<Vec<SlotRange>>) -> Option<Vec<SlotRange>> {
    answers.iter_mut().for_each(|answer| answer.sort_by_key(|(range, _)| *range.start()));
    let votes = |one: &Vec<SlotRange>| answers.iter().filter(|other| *other == one).count();
    answers.iter().max_by_key(|one| votes(one)).cloned()
}

/// Parses the answer of `host` to `CLUSTER SLOTS`; None if it has no slots, or is malformed.
pub fn read(answer: Value, host: &str) -> Option<Vec<SlotRange>> {
    let ranges = Vec::<Vec<Value>>::from_redis_value(answer).ok()?;
    let ranges = ranges.into_iter().map(|range| {
        let mut parts = range.into_iter();
        let mut slot = || number(parts.next()?).filter(|slot| *slot < SLOTS);
        let slots = slot()?..=slot()?;
        let mut master = Vec::<Value>::from_redis_value(parts.next()?).ok()?.into_iter();
        let named = Option::<String>::from_redis_value(master.next()?).ok()?;
        // A node that doesn't know its own name sends an empty one, or `?`.
        let named = named.filter(|named| !named.is_empty() && named != "?");
        let port = number(master.next()?)?;
        Some((slots, (named.unwrap_or_else(|| host.to_owned()), port)))
    });
    ranges.collect::<Option<Vec<SlotRange>>>().filter(|ranges| !ranges.is_empty())
}

/// A number, if it is in range: the client library truncates it.
fn number(value: Value) -> Option<u16> {
    i64::from_redis_value(value).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, master: Vec<Value>) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(master)])
    }

    #[test]
    fn the_map_is_read_whatever_nodes_are_called() {
        let answer = Value::Array(vec![
            range(0, 5, vec![text("10.0.0.7"), Value::Int(7000), text("id")]),
            range(6, 6, vec![text(""), Value::Int(7001)]),
            range(7, 8, vec![Value::Nil, Value::Int(7002)]),
            range(9, 9, vec![text("?"), Value::Int(7003)]),
        ]);
        let address = |host: &str, port| (host.to_owned(), port);
        let expected = vec![
            (0..=5, address("10.0.0.7", 7000)),
            (6..=6, address("asked", 7001)),
            (7..=8, address("asked", 7002)),
            (9..=9, address("asked", 7003)),
        ];
        assert_eq!(read(answer, "asked"), Some(expected));
    }

    #[test]
    fn what_is_no_map_is_none() {
        for answer in [
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![Value::Array(vec![Value::Int(1), Value::Int(2)])]),
            Value::Array(vec![range(0, 70_000, vec![text("a"), Value::Int(1)])]),
            Value::Array(vec![range(0, 1, vec![text("a")])]),
            Value::Array(vec![range(0, 1, vec![text("a"), Value::Int(70_000)])]),
        ] {
            assert_eq!(read(answer.clone(), "asked"), None, "{answer:?}");
        }
    }

    #[test]
    fn what_most_say_is_taken() {
        let answer = |port| vec![(0..=5, ("a".to_owned(), port))];
        assert_eq!(most(vec![answer(1), answer(2), answer(2)]), Some(answer(2)));
        assert_eq!(most(Vec::new()), None);
    }
}
