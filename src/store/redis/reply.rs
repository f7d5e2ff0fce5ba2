//! Reads what the script replied, whatever it is.

use ::redis::Value;

use crate::clock::Timestamp;
use crate::limit::Fit;
use crate::limit::Standing;
use crate::store::Decision;
use crate::store::LEVELS_MAX;
use crate::store::Outcome;
use crate::store::StoreError;

/// Numbers of a reply before its decisions, and in each of those.
const HEAD_LEN: usize = 2;
const DECISION_LEN: usize = 3;

/// What the script replied.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every reply is the large one, and none is kept"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The batch was decided.
    Decided(Outcome),
    /// Nothing was done: by the server's clock it is this time, for which the calendar periods that came
    /// with the batch are the wrong ones.
    OtherTime(Timestamp),
}

/// How many of each the batch has that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub charges: usize,
    pub gauges: usize,
}

/// Reads the reply to a batch that `asked` so much.
///
/// # Errors
/// When the server answered with an error, or with something that is no such reply.
pub fn parse_reply(value: &Value, asked: Asked) -> Result<Reply, StoreError> {
    let numbers = match value {
        Value::Array(numbers) => numbers,
        Value::ServerError(error) => return Err(StoreError::Refused(error.clone().into())),
        _ => return Err(garbled("it is no array")),
    };
    let (head, rest) = numbers.split_at_checked(HEAD_LEN).ok_or_else(|| garbled("too short"))?;
    let at = Timestamp::from_ms(natural(&head[1])?);
    let admitted = match integer(&head[0])? {
        0 => false,
        1 => true,
        2 => return Ok(Reply::OtherTime(at)),
        other => return Err(garbled(&format!("it begins with {other}"))),
    };
    if rest.len() != asked.charges * DECISION_LEN + asked.gauges {
        let reason = format!("{} numbers for {asked:?}", rest.len());
        return Err(garbled(&reason));
    }
    let (decisions, levels) = rest.split_at(asked.charges * DECISION_LEN);
    let decisions = decisions.chunks_exact(DECISION_LEN).map(decision);
    Ok(Reply::Decided(Outcome {
        admitted,
        at,
        decisions: decisions.collect::<Result<_, _>>()?,
        levels: levels.iter().map(level).collect::<Result<_, _>>()?,
    }))
}

fn level(value: &Value) -> Result<u8, StoreError> {
    let number = integer(value)?;
    let level = u8::try_from(number).ok().filter(|level| *level <= LEVELS_MAX);
    level.ok_or_else(|| garbled(&format!("no gauge has a level {number}")))
}

fn decision(numbers: &[Value]) -> Result<Decision, StoreError> {
    let [fit, remaining, reset] = numbers else {
        return Err(garbled("a decision has three numbers"));
    };
    let fit = match integer(fit)? {
        -1 => Fit::Never,
        0 => Fit::Now,
        _ => Fit::AfterMs(natural(fit)?),
    };
    let reset_ms = match integer(reset)? {
        -1 => None,
        _ => Some(natural(reset)?),
    };
    let standing = Standing { remaining: natural(remaining)?, reset_ms };
    Ok(Decision { fit, standing, ahead: 0 })
}

fn natural(value: &Value) -> Result<u64, StoreError> {
    let number = integer(value)?;
    u64::try_from(number).map_err(|_| garbled(&format!("{number} is below zero")))
}

fn integer(value: &Value) -> Result<i64, StoreError> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(garbled("it holds something that is no integer")),
    }
}

fn garbled(reason: &str) -> StoreError {
    StoreError::Garbled { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What numbers come to as the reply to one charge and so many gauges.
    fn check(gauges: usize, numbers: &[i64], expected: Option<&Reply>) {
        let value = Value::Array(numbers.iter().copied().map(Value::Int).collect());
        let reply = parse_reply(&value, Asked { charges: 1, gauges }).ok();
        assert_eq!(reply.as_ref(), expected, "{numbers:?}");
    }

    fn decided(admitted: bool, fit: Fit, reset_ms: Option<u64>) -> Reply {
        let standing = Standing { remaining: 8, reset_ms };
        leveled(admitted, Decision { fit, standing, ahead: 0 }, &[])
    }

    fn leveled(admitted: bool, decision: Decision, levels: &[u8]) -> Reply {
        let at = Timestamp::from_ms(7);
        let decisions = [decision].into_iter().collect();
        Reply::Decided(Outcome { admitted, at, decisions, levels: levels.into() })
    }

    #[test]
    fn a_reply_is_an_outcome_or_an_error() {
        check(0, &[1, 7, 0, 8, 9], Some(&decided(true, Fit::Now, Some(9))));
        check(0, &[0, 7, 5, 8, 9], Some(&decided(false, Fit::AfterMs(5), Some(9))));
        check(0, &[0, 7, -1, 8, -1], Some(&decided(false, Fit::Never, None)));
        check(0, &[2, 7], Some(&Reply::OtherTime(Timestamp::from_ms(7))));
        check(0, &[], None);
        check(0, &[1], None);
        check(0, &[3, 7, 0, 8, 9], None);
        check(0, &[1, -7, 0, 8, 9], None);
        check(0, &[1, 7, 0, 8], None);
        check(0, &[1, 7, 0, 8, 9, 0], None);
        check(0, &[1, 7, 0, -8, 9], None);
        check(0, &[1, 7, -2, 8, 9], None);
        check(0, &[1, 7, 0, 8, -2], None);
    }

    #[test]
    fn levels_of_gauges_follow_the_decisions() {
        let standing = Standing { remaining: 8, reset_ms: Some(9) };
        let expected = leveled(true, Decision { fit: Fit::Now, standing, ahead: 0 }, &[0, 4]);
        check(2, &[1, 7, 0, 8, 9, 0, 4], Some(&expected));
        check(2, &[1, 7, 0, 8, 9, 0], None);
        check(1, &[1, 7, 0, 8, 9, -1], None);
        check(1, &[1, 7, 0, 8, 9, 5], None);
    }

    #[test]
    fn no_value_is_a_panic() {
        for value in [
            Value::Nil,
            Value::Okay,
            Value::Int(1),
            Value::SimpleString("OK".to_owned()),
            Value::Array(vec![Value::Nil, Value::Nil]),
            Value::Array(vec![Value::Int(1), Value::BulkString(b"1".to_vec())]),
            Value::Map(vec![(Value::Int(1), Value::Int(1))]),
        ] {
            assert!(parse_reply(&value, Asked::default()).is_err(), "{value:?}");
        }
    }
}
