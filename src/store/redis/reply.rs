//! Reads the replies of the Lua code, whatever bytes they hold.

use bytes::Buf;

use crate::clock::Timestamp;
use crate::limit::{Crossed, Fit, Standing};
use crate::store::{
    Batch, BonusStand, Charge, Decision, LEVELS_MAX, Notice, Outcome, Retry, StoreError,
};

/// What stands for hits that were taken ahead where a debit counts although the request was refused, as in special.lua:
/// more than any limit has. Hits that are forgiven are added to it.
const COUNTED: i64 = 1 << 52;

/// What stands for them where a charge was made before under its idempotency key, as in retries.lua: more than any limit has,
/// too.
const RETRIED: i64 = 1 << 51;

/// Bytes of a time, and of other numbers that are never below zero.
const LONG_LEN: usize = 7;

/// What was replied to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The batch was decided.
    Decided(Outcome),
    /// Nothing was done: by the server's clock it is this time, for which the calendar periods that came
    /// with the batch are the wrong ones.
    OtherTime(Timestamp),
    /// Nothing was done: by the server's clock it is this time, and the request's deadline has passed.
    Late(Timestamp),
}

/// How many of each the batch has that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSize {
    pub charges: usize,
    pub gauges: usize,
    /// Whether there may be something to report on its charges.
    pub has_notices: bool,
    /// Whether any of them may be made in part.
    pub has_parts: bool,
}

impl BatchSize {
    /// Of a batch.
    pub fn of(batch: &Batch) -> Self {
        let mut charges = batch.charges.iter();
        Self {
            charges: batch.charges.len(),
            gauges: batch.gauges.len(),
            has_notices: charges.any(Charge::may_notice),
            has_parts: batch.charges.iter().any(Charge::is_partial),
        }
    }
}

/// The replies to a group of requests, in order.
#[derive(Clone, Copy, Debug)]
pub struct Replies<'a> {
    at: Timestamp,
    left: &'a [u8],
}

impl<'a> Replies<'a> {
    /// The replies in these bytes.
    ///
    /// # Errors
    /// When they don't even tell the time.
    pub fn read(bytes: &'a [u8]) -> Result<Self, StoreError> {
        let (mut time, left) =
            bytes.split_at_checked(LONG_LEN).ok_or_else(|| garbled("too short"))?;
        Ok(Self { at: Timestamp::from_ms(time.get_uint_le(LONG_LEN)), left })
    }

    /// The time by which the server has decided.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The reply to the next request, which `asked` so much. After an error there is no other one.
    ///
    /// # Errors
    /// When a key of the request holds something else, or the bytes are no such reply.
    pub fn next(&mut self, asked: BatchSize) -> Result<Reply, StoreError> {
        let admitted = match self.byte()? {
            0 => false,
            1 => true,
            2 => return Ok(Reply::OtherTime(self.at)),
            3 => return Err(self.failure()?),
            4 => return Ok(Reply::Late(self.at)),
            other => return Err(garbled(&format!("it begins with {other}"))),
        };
        let decisions = (0..asked.charges).map(|_| self.decision());
        let mut decisions = decisions.collect::<Result<Vec<Decision>, _>>()?;
        let levels = (0..asked.gauges).map(|_| self.level()).collect::<Result<_, _>>()?;
        let notices = if asked.has_notices { self.notices(asked)? } else { Vec::new() };
        if asked.has_parts {
            self.read_parts(&mut decisions)?;
        }
        let at = self.at;
        Ok(Reply::Decided(Outcome { admitted, at, decisions, levels, notices, fallback: false }))
    }

    fn failure(&mut self) -> Result<StoreError, StoreError> {
        let len = usize::from(self.short()?);
        let (reason, left) =
            self.left.split_at_checked(len).ok_or_else(|| garbled("it ends early"))?;
        self.left = left;
        Ok(StoreError::Foreign { reason: String::from_utf8_lossy(reason).into_owned() })
    }

    fn level(&mut self) -> Result<u8, StoreError> {
        match self.byte()? {
            level if level <= LEVELS_MAX => Ok(level),
            other => Err(garbled(&format!("no gauge has a level {other}"))),
        }
    }

    /// The hits that charges did not get which are made in part.
    fn read_parts(&mut self, decisions: &mut [Decision]) -> Result<(), StoreError> {
        for _ in 0..self.short()? {
            let number = usize::from(self.short()?);
            let decision = number.checked_sub(1).and_then(|index| decisions.get_mut(index));
            let decision =
                decision.ok_or_else(|| garbled(&format!("there is no charge {number}")))?;
            decision.clipped = self.long()?;
        }
        Ok(())
    }

    /// What is reported of charges, each at most once.
    fn notices(&mut self, asked: BatchSize) -> Result<Vec<Notice>, StoreError> {
        let number = usize::from(self.short()?);
        if asked.charges < number {
            return Err(garbled(&format!("it reports on {number} charges")));
        }
        (0..number).map(|_| self.notice(asked)).collect()
    }

    fn notice(&mut self, asked: BatchSize) -> Result<Notice, StoreError> {
        let number = usize::from(self.short()?);
        let charge = number.checked_sub(1).filter(|index| *index < asked.charges);
        let charge = charge.ok_or_else(|| garbled(&format!("there is no charge {number}")))?;
        let crossed = Crossed(self.byte()?);
        let (grace_until, grace_left) = (self.long()?, self.long()?);
        let grace_until = (grace_until != 0).then(|| Timestamp::from_ms(grace_until));
        let (held, settled) = (self.long()?, self.long()?);
        let bonuses = (0..self.byte()?).map(|_| self.bonus()).collect::<Result<_, _>>()?;
        Ok(Notice { charge, crossed, grace_until, grace_left, held, settled, bonuses })
    }

    fn bonus(&mut self) -> Result<BonusStand, StoreError> {
        let (carried, spent, expired) = (self.long()?, self.long()?, self.long()?);
        Ok(BonusStand { carried, spent, expired, taken: self.long()? })
    }

    fn decision(&mut self) -> Result<Decision, StoreError> {
        let fit = self.integer()?;
        let conflict = (fit == -2).then_some(Retry::Conflict);
        let fit = match fit {
            -1 | -2 => Fit::Never,
            0 => Fit::Now,
            number => Fit::AfterMs(natural(number)?),
        };
        let remaining = natural(self.integer()?)?;
        let reset_ms = match self.integer()? {
            -1 => None,
            number => Some(natural(number)?),
        };
        let taken = self.integer()?;
        let counted = COUNTED <= taken;
        let (ahead, clipped) = match taken {
            COUNTED.. => (0, natural(taken - COUNTED)?),
            RETRIED.. => (0, 0),
            taken @ 0.. => (natural(taken)?, 0),
            forgiven => (0, forgiven.unsigned_abs()),
        };
        let standing = Standing { remaining, reset_ms };
        let retry = match taken {
            RETRIED..COUNTED => Some(Retry::Free {
                age_ms: u32::try_from(taken - RETRIED)
                    .map_err(|_| garbled(&format!("it was made {taken} ms ago")))?,
            }),
            _ => conflict,
        };
        Ok(Decision { ahead, clipped, counted, retry, ..Decision::new(fit, standing) })
    }

    fn long(&mut self) -> Result<u64, StoreError> {
        self.left.try_get_uint_le(LONG_LEN).map_err(|_| garbled("it ends early"))
    }

    fn short(&mut self) -> Result<u16, StoreError> {
        self.left.try_get_u16_le().map_err(|_| garbled("it ends early"))
    }

    fn byte(&mut self) -> Result<u8, StoreError> {
        self.left.try_get_u8().map_err(|_| garbled("it ends early"))
    }

    fn integer(&mut self) -> Result<i64, StoreError> {
        self.left.try_get_i64_le().map_err(|_| garbled("it ends early"))
    }
}

fn natural(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| garbled(&format!("{number} is below zero")))
}

fn garbled(reason: &str) -> StoreError {
    StoreError::Garbled { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a status and numbers come to as the reply to one charge and so many gauges.
    fn check(status: u8, numbers: &[i64], levels: &[u8], expected: Option<&Reply>) {
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let bytes = [&[7, 0, 0, 0, 0, 0, 0, status], numbers.as_slice(), levels].concat();
        let gauges = levels.len();
        let asked = BatchSize { charges: 1, gauges, ..BatchSize::default() };
        let reply = Replies::read(&bytes).unwrap().next(asked).ok();
        assert_eq!(reply.as_ref(), expected, "{status} {numbers:?} {levels:?}");
    }

    fn decided(admitted: bool, fit: Fit, reset_ms: Option<u64>, levels: &[u8]) -> Reply {
        let standing = Standing { remaining: 8, reset_ms };
        let decisions =
            [Decision { ahead: 6, ..Decision::new(fit, standing) }].into_iter().collect();
        let at = Timestamp::from_ms(7);
        let levels = levels.into();
        let notices = Vec::new();
        Reply::Decided(Outcome { admitted, at, decisions, levels, notices, fallback: false })
    }

    #[test]
    fn a_reply_is_an_outcome_or_an_error() {
        check(1, &[0, 8, 9, 6], &[], Some(&decided(true, Fit::Now, Some(9), &[])));
        check(0, &[5, 8, 9, 6], &[], Some(&decided(false, Fit::AfterMs(5), Some(9), &[])));
        check(0, &[-1, 8, -1, 6], &[], Some(&decided(false, Fit::Never, None, &[])));
        check(2, &[], &[], Some(&Reply::OtherTime(Timestamp::from_ms(7))));
        check(3, &[], &[], None);
        check(4, &[], &[], Some(&Reply::Late(Timestamp::from_ms(7))));
        check(5, &[0, 8, 9, 6], &[], None);
        check(1, &[0, 8, 9], &[], None);
        check(1, &[-3, 8, 9, 6], &[], None);
        check(1, &[0, -8, 9, 6], &[], None);
        check(1, &[0, 8, -2, 6], &[], None);
    }

    #[test]
    fn levels_of_gauges_follow_the_decisions() {
        let numbers = [0, 8, 9, 6];
        check(1, &numbers, &[0, 4], Some(&decided(true, Fit::Now, Some(9), &[0, 4])));
        check(1, &numbers, &[5], None);
    }

    #[test]
    fn notices_follow_the_levels() {
        let numbers: Vec<u8> = [0_i64, 8, 9, 6].iter().flat_map(|one| one.to_le_bytes()).collect();
        let check = |notices: &[u8], expected: Option<&[Notice]>| {
            let bytes = [&[7, 0, 0, 0, 0, 0, 0, 1], numbers.as_slice(), notices].concat();
            let asked = BatchSize { charges: 1, has_notices: true, ..BatchSize::default() };
            let reply = Replies::read(&bytes).unwrap().next(asked).ok();
            let read = reply.map(|reply| match reply {
                Reply::Decided(outcome) => outcome.notices,
                other => panic!("{other:?}"),
            });
            assert_eq!(read.as_deref(), expected, "{notices:?}");
        };
        check(&[0, 0], Some(&[]));
        let long = |number: u64| number.to_le_bytes()[..LONG_LEN].to_vec();
        let notice = |charge: u8, crossed: u8, numbers: [u64; 4], bonuses: &[[u64; 4]]| {
            let head = vec![1, 0, charge, 0, crossed];
            let number = vec![u8::try_from(bonuses.len()).unwrap()];
            let bonuses = bonuses.concat().into_iter().map(long).collect::<Vec<_>>().concat();
            [head, numbers.map(long).concat(), number, bonuses].concat()
        };
        let crossed = Notice { crossed: Crossed(3), ..Notice::of(0) };
        check(&notice(1, 3, [0; 4], &[]), Some(&[crossed]));
        let grace_until = Some(Timestamp::from_ms(513));
        let graced = Notice { grace_until, grace_left: 7, ..Notice::of(0) };
        check(&notice(1, 0, [513, 7, 0, 0], &[]), Some(&[graced]));
        let reserved = Notice { held: 5, settled: 258, ..Notice::of(0) };
        check(&notice(1, 0, [0, 0, 5, 258], &[]), Some(&[reserved]));
        let bonuses = vec![BonusStand { carried: 5, spent: 6, expired: 7, taken: 4 }];
        let standing = notice(1, 0, [0; 4], &[[5, 6, 7, 4]]);
        check(&standing, Some(&[Notice { bonuses, ..Notice::of(0) }]));
        let short = notice(1, 3, [0; 4], &[]);
        let broken: [&[u8]; 8] = [
            &standing[..standing.len() - 1],
            &[],
            &[1],
            &[1, 0],
            &[1, 0, 1, 0],
            &short[..short.len() - 1],
            &notice(0, 3, [0; 4], &[]),
            &notice(2, 3, [0; 4], &[]),
        ];
        for broken in broken {
            check(broken, None);
        }
    }

    #[test]
    fn parts_follow_the_notices() {
        let numbers: Vec<u8> = [0_i64, 8, 9, 0].iter().flat_map(|one| one.to_le_bytes()).collect();
        let check = |parts: &[u8], expected: Option<u64>| {
            let bytes = [&[7, 0, 0, 0, 0, 0, 0, 1], numbers.as_slice(), parts].concat();
            let asked = BatchSize { charges: 1, has_parts: true, ..BatchSize::default() };
            let reply = Replies::read(&bytes).unwrap().next(asked).ok();
            let clipped = reply.map(|reply| match reply {
                Reply::Decided(outcome) => outcome.decisions[0].clipped,
                other => panic!("{other:?}"),
            });
            assert_eq!(clipped, expected, "{parts:?}");
        };
        check(&[0, 0], Some(0));
        check(&[1, 0, 1, 0, 13, 0, 0, 0, 0, 0, 0], Some(13));
        for broken in [&[][..], &[1, 0], &[1, 0, 2, 0, 13, 0, 0, 0, 0, 0, 0], &[1, 0, 1, 0, 13]] {
            check(broken, None);
        }
    }

    #[test]
    fn a_request_that_failed_leaves_the_next_ones_alone() {
        let bytes = [7, 0, 0, 0, 0, 0, 0, 3, 2, 0, b'n', b'o', 1];
        let mut replies = Replies::read(&bytes).unwrap();
        let failed = replies.next(BatchSize { charges: 5, ..BatchSize::default() }).unwrap_err();
        assert!(matches!(failed, StoreError::Foreign { .. }), "{failed}");
        assert!(matches!(replies.next(BatchSize::default()).unwrap(), Reply::Decided(_)));
    }

    #[test]
    fn no_bytes_are_a_panic() {
        for bytes in [&b""[..], b"123456", b"1234567", b"1234567\x03", b"1234567\x03\xff\xff"] {
            let reply = Replies::read(bytes).and_then(|mut all| all.next(BatchSize::default()));
            assert!(reply.is_err(), "{bytes:?}");
        }
    }
}
