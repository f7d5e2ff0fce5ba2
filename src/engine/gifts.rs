//! Gifts: hits of a bonus of one caller become a bonus of another.
//!
//! The counter of the giver and the record of the receiver may be on different servers, so a gift has three steps, each of
//! which is atomic and may be made again: it is noted as pending; its hits are spent of the giver's bonus, under a mark with
//! its id, so that they are spent once; the receiver gets them, in the step in which the gift is noted as done. Whoever finds a
//! pending gift carries it on. Nobody gets the hits before their debit is as durable as the credit will be
//! (`AnyStore::is_durable`). A receiver that can't take the hits leaves them to the giver, as a bonus. So hits are nowhere for a
//! moment, and never twice. A gift between callers that were both removed ends with them.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::{Backoff, Timestamp};
use crate::limit::{Bonus, Fit, Hits, Limit, Overdraft};
use crate::policy::{Caller, CallerBonus, CallerForm, Domain, RetryId};
use crate::store::{
    Batch, Change, Charge, Decision, DirectoryError, FINAL, GIFT_MARK_MS, Gift, GiftChange,
    GiftEvent, GiftEventKind, GiftState, IdempotencyMark, Once,
};

use super::Engine;
use super::caller::CallerContext;
use super::deadline::DeadlineBudget;
use super::plan::{Notes, Plan, Question};
use super::request::{Descriptor, HitsSource, Request};

/// What the ids of bonuses begin with that came by gifts. Gifts that end at the same time share one.
pub const GIFT_PREFIX: &str = "gift-";

/// Bytes of a hash in such an id.
const ID_HASH_LEN: usize = 12;

/// How long a gift is left to the sidecar that began it.
const DUE_AFTER: Duration = Duration::from_secs(10);

/// When a gift is looked at again that can't be carried on now.
const DUE_AGAIN: Duration = Duration::from_secs(60);

/// Gifts that are carried on at a time.
const DUE_MAX: usize = 64;

/// How often the hits may be found spent.
const RETRIES_MAX: u16 = u16::MAX;

/// How often a step is tried while others change the same records.
const ATTEMPTS_MAX: u32 = 12;

/// The pauses between them, so that many gifts to one caller part.
const RETRY: Backoff = Backoff::new(Duration::from_millis(16), Duration::from_millis(512));

/// How the hits were taken from the giver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Debit {
    /// They are spent, now or before.
    Made,
    /// The bonus does not have them.
    Lacking,
    /// No limit applies, or the store did not answer: they may be spent or not.
    Unknown,
}

impl Engine {
    /// Notes a gift that begins. False if another one with this id came first.
    ///
    /// # Errors
    /// When the directory is not changed from here, or does not answer.
    pub async fn begin_gift(
        &self,
        seen: Option<&Gift>,
        gift: &Gift,
    ) -> Result<bool, DirectoryError> {
        let change = GiftChange { seen, gift, credit: None, log: &[] };
        self.directory().write_gift(change, self.now().after(DUE_AFTER)).await
    }

    /// Carries a gift on as far as it can be, and returns it. Whoever else does the same makes no difference.
    ///
    /// # Errors
    /// When the directory does not answer. The gift is carried on later.
    pub async fn carry_gift(&self, gift: Gift) -> Result<Gift, DirectoryError> {
        if gift.state != GiftState::Pending {
            return Ok(gift);
        }
        match self.debit(&gift).await {
            Debit::Unknown if self.is_between_removed(&gift).await? => {
                self.end(gift, GiftState::Returned).await
            }
            Debit::Unknown => Ok(gift),
            Debit::Lacking => self.end(gift, GiftState::Refused).await,
            // Until then a crash could leave the hits to both.
            Debit::Made if !self.store().is_durable().await => Ok(gift),
            Debit::Made => self.credit(gift).await,
        }
    }

    /// Carries on the gifts that were left pending.
    ///
    /// # Errors
    /// When the directory does not answer.
    pub async fn resume_gifts(&self) -> Result<usize, DirectoryError> {
        let due = self.directory().due_gifts(self.now(), DUE_MAX).await?;
        let mut ended = 0;
        for id in due {
            let Some(gift) = self.directory().gift(&id).await? else { continue };
            let gift = self.carry_gift(gift).await?;
            if gift.state == GiftState::Pending {
                // Others come first then.
                let change = GiftChange { seen: Some(&gift), gift: &gift, credit: None, log: &[] };
                self.directory().write_gift(change, self.now().after(DUE_AGAIN)).await?;
            } else {
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// Spends the hits of the giver's bonus, once.
    async fn debit(&self, gift: &Gift) -> Debit {
        let snapshot = self.snapshot();
        let Some(domain) = snapshot.policies.domain(&gift.domain) else { return Debit::Unknown };
        let Some(request) = request(domain, gift) else { return Debit::Unknown };
        let (budget, now) = (DeadlineBudget::patient(), self.decider.settings.clock.now());
        let lineage = self.decider.lineage(domain, &request, &budget).await;
        if lineage.is_incomplete {
            return Debit::Unknown;
        }
        let caller = CallerContext::new(&domain.classes, &request, (lineage, now.timestamp()));
        let (modes, mut notes) = (self.decider.settings.modes, Notes::default());
        let question =
            Question { domain, request: &request, caller: &caller, modes, now: now.timestamp() };
        let plan = Plan::new(question, Some(&mut notes));
        let own = plan.limits.iter().position(|limit| *limit.name == *gift.limit);
        let Some(index) = own else { return Debit::Unknown };
        let charge = &plan.batch.charges[index];
        let mut batch = Batch::default();
        let key = &plan.batch.keys[charge.key_index];
        let mark = key.mark(caller.name, RetryId::Gift(&gift.id));
        let (key_index, mark) = (batch.key_index(key.clone()), batch.key_index(mark));
        let bonus = charge.bonuses.iter().position(|bonus| *bonus.id == *gift.bonus);
        batch.charges.push(debit(charge, (key_index, mark), (bonus, gift.hits)));
        let outcome = self.decider.charge(&batch, &budget, now).await;
        match outcome.decisions.first() {
            _ if outcome.fallback => Debit::Unknown,
            Some(Decision { fit: Fit::Now, .. }) if outcome.admitted => Debit::Made,
            Some(_) => Debit::Lacking,
            None => Debit::Unknown,
        }
    }

    /// Whether neither the giver nor the receiver is in the directory.
    async fn is_between_removed(&self, gift: &Gift) -> Result<bool, DirectoryError> {
        for name in [&gift.from, &gift.to] {
            if self.directory().read(name).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes that a gift has ended by which nobody gets the hits.
    async fn end(&self, gift: Gift, state: GiftState) -> Result<Gift, DirectoryError> {
        let ended = Gift { state, ..gift.clone() };
        let change = GiftChange { seen: Some(&gift), gift: &ended, credit: None, log: &[] };
        match self.directory().write_gift(change, self.now()).await? {
            true => Ok(ended),
            // Somebody else has carried it on.
            false => Ok(self.directory().gift(&gift.id).await?.unwrap_or(gift)),
        }
    }

    /// Gives the hits, which are taken, to the receiver, or back to the giver.
    async fn credit(&self, gift: Gift) -> Result<Gift, DirectoryError> {
        let directory = self.directory();
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(failures) = attempt.checked_sub(1) {
                // A concurrent change of the receiver, or of the gift, won.
                tokio::time::sleep(RETRY.jittered(failures)).await;
            }
            let Some(seen) = directory.gift(&gift.id).await? else { return Ok(gift) };
            let receiver = match seen.state {
                GiftState::Done | GiftState::Returned => return Ok(seen),
                GiftState::Pending => Some(&seen.to),
                // It was refused before the hits came, which have been taken since.
                GiftState::Refused => None,
            };
            if self.is_between_removed(&seen).await? {
                return self.end(seen, GiftState::Returned).await;
            }
            for (name, state) in receiver
                .map(|name| (name, GiftState::Done))
                .into_iter()
                .chain([(&seen.from, GiftState::Returned)])
            {
                let Some(record) = directory.read(name).await? else { continue };
                let Some((caller, bonus)) = credited(&record.caller, &seen, self.now()) else {
                    continue;
                };
                let after = Gift { state, ..seen.clone() };
                let credit =
                    Change { name, seen: record.revision, depends_on: &[], caller: Some(&caller) };
                let log = events(&after, &bonus, self.now());
                let change =
                    GiftChange { seen: Some(&seen), gift: &after, credit: Some(credit), log: &log };
                if directory.write_gift(change, self.now()).await? {
                    return Ok(after);
                }
                break;
            }
        }
        Ok(gift)
    }
}

/// The request by which the giver's limits are found.
fn request<'g>(domain: &'g Domain, gift: &'g Gift) -> Option<Request<'g>> {
    let mut entries = vec![(domain.classes.caller_key.as_deref()?, gift.from.as_str())];
    entries.extend(gift.entries.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let (hits, hits_source) = (Hits::GiveBack(0), HitsSource::Request);
    let descriptor = Descriptor { entries, hits, hits_source, limit: None };
    Request::try_new(&domain.name, vec![descriptor]).ok()
}

/// Spends so many hits of one bonus alone, once, of the limit of a charge. Hits that reservations hold are left.
fn debit(
    charge: &Charge,
    (key_index, mark): (usize, usize),
    (bonus, hits): (Option<usize>, u64),
) -> Charge {
    let limit = Limit::clone(&charge.limit).without_grace().overdrawn(Overdraft::None);
    let life = IdempotencyMark {
        key_index: 0,
        retries_max: RETRIES_MAX,
        life_ms: GIFT_MARK_MS,
        attempt: FINAL,
    };
    Charge {
        bonuses: charge.bonuses.clone(),
        // A bonus that is not there has no hits.
        bonus_alone: Some(bonus.unwrap_or(charge.bonuses.len())),
        reservation: charge.counting(),
        once: Some(Once::Mark(life).under(mark)),
        ..Charge::plain(key_index, limit.into(), Hits::Spend(hits))
    }
}

/// A caller with the hits of a gift in a bonus, and the id of that. None if it has no room for it.
fn credited(caller: &Caller, gift: &Gift, now: Timestamp) -> Option<(Caller, String)> {
    let mut caller = caller.clone();
    let is_gift = |known: &CallerBonus| known.bonus.id.starts_with(GIFT_PREFIX);
    caller.bonuses.retain(|known| !is_gift(known) || now < known.bonus.until);
    let same = |known: &&mut CallerBonus| {
        let is_same = known.limit == gift.limit && known.bonus.until == gift.until;
        is_same && is_gift(known) && known.bonus.recurs.is_none()
    };
    let id = match caller.bonuses.iter_mut().find(same) {
        Some(known) => {
            known.bonus.amount = known.bonus.amount.checked_add(gift.hits)?;
            known.bonus.id.to_string()
        }
        None => {
            let id = bonus_id(gift);
            let bonus = Bonus::new(id.as_str(), gift.hits, gift.until);
            caller.bonuses.push(CallerBonus { limit: gift.limit.clone(), bonus });
            id
        }
    };
    let has_room = CallerForm::from(&caller).check().is_ok();
    has_room.then_some((caller, id))
}

/// The id of a bonus that begins with a gift. It was never used before, so nothing is spent of it.
fn bonus_id(gift: &Gift) -> String {
    let hash = Sha256::digest(gift.id.as_bytes());
    let hex: String = hash[..ID_HASH_LEN].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{GIFT_PREFIX}{hex}")
}

/// What giver and receiver are told of a gift that has come to an end. `bonus` got the hits.
fn events(gift: &Gift, bonus: &str, at: Timestamp) -> Vec<GiftEvent> {
    let event = |kind, (caller, with): (&str, &str), bonus: &str| GiftEvent {
        caller: caller.into(),
        at,
        kind,
        gift: gift.id.clone(),
        limit: gift.limit.clone(),
        bonus: bonus.to_owned(),
        hits: gift.hits,
        with: with.to_owned(),
    };
    let (from, to) = (gift.from.as_str(), gift.to.as_str());
    let given = event(GiftEventKind::Given, (from, to), &gift.bonus);
    let got = match gift.state {
        GiftState::Returned => event(GiftEventKind::Returned, (from, to), bonus),
        _ => event(GiftEventKind::Received, (to, from), bonus),
    };
    vec![given, got]
}
