//! What explains the balance of a caller's limits: entries that add up to what remains.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::engine::{BonusStanding, Code, GIFT_PREFIX, Preview, Standing};
use crate::http::auth::{Authorized, Own};
use crate::http::edge::Edge;
use crate::http::extract::{UrlPath, UrlQuery};
use crate::http::openapi::{self, Operation};
use crate::http::problem::Problem;
use crate::http::quota::{LOOK, QuotaParams, Target};
use crate::observe::audit::instant;
use crate::store::{GiftEvent, GiftEventKind};

pub fn operations() -> [Operation; 1] {
    [openapi::get(
        "/v1/callers/{name}/ledger",
        "getLedger",
        "Explain what remains of each limit that applies to a caller: entries that add up to it",
        show,
    )
    .or([
        (404, "No limit applies to the caller (QUOTA_NOT_FOUND)"),
        (422, "No policy has the domain or the entries (INVALID_RESOURCE_TYPE)"),
    ])]
}

/// The limits that apply to a caller, each with what explains its balance.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Ledger")]
struct LedgerBody {
    caller: String,
    items: Vec<LedgerItem>,
}

/// A limit, and what explains its balance.
#[derive(Debug, Serialize, JsonSchema)]
struct LedgerItem {
    domain: String,
    /// As metrics and usage name it.
    limit: String,
    /// The caller or the pool whose counter it is; absent if it is this caller, and for a caller without a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    /// What remains: the sum of the entries.
    balance: u64,
    /// First those of the limit itself, then those of each bonus, in the order in which they are spent, then bonuses that
    /// have ended.
    entries: Vec<LedgerEntry>,
}

/// A change of a balance, or the sum of many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct LedgerEntry {
    kind: LedgerKind,
    /// Hits that it adds; below 0 those that it takes.
    hits: i64,
    /// The bonus; absent for the limit itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    bonus: Option<String>,
    /// When it was, if it is a single change.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// The id of the gift.
    #[serde(skip_serializing_if = "Option::is_none")]
    gift: Option<String>,
    /// The other caller of the gift.
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<String>,
}

/// What an entry of a ledger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LedgerKind {
    /// The amount of the limit, in this window.
    Amount,
    /// What is used of it, or reserved for others.
    Used,
    /// The hits of a bonus, in this period if it recurs.
    Granted,
    /// What was left of the period before.
    Unused,
    /// What of that was too much to be carried over.
    Expired,
    /// Hits that came with a gift.
    Received,
    /// Hits that were given to another caller.
    Given,
    /// Hits that came back, because the receiver could not take them.
    Returned,
    /// All other changes of a bonus that consists of gifts: those before the gifts that are known, and by hand.
    Other,
    /// Hits that requests spent.
    Spent,
    /// Hits that were spent beyond an amount that was lowered since.
    WrittenOff,
    /// Hits of a bonus that has ended, spent or not.
    Ended,
}

/// Shows what explains a caller's balances.
async fn show(
    by: Authorized<Own>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    UrlQuery(params): UrlQuery<QuotaParams>,
) -> Result<Json<LedgerBody>, Problem> {
    by.principal.may_read(Some(&name))?;
    let target = Target::resolve(&edge, params.target(name)?).await;
    let snapshot = edge.engine.snapshot();
    let mut items = Vec::new();
    let log = match edge.engine.directory().gift_log(target.caller()).await {
        Ok(log) => log,
        Err(error) => return Err(error.into()),
    };
    for request in &target.requests(&snapshot, LOOK)? {
        let preview = edge.engine.preview(&snapshot, request).await;
        if preview.verdict.code() == Code::Unavailable || preview.verdict.fallback {
            let detail = "the store is unavailable";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        }
        let item = |standing| LedgerItem::new(target.caller(), &preview, standing, &log);
        items.extend(preview.standings().map(item));
    }
    if items.is_empty() {
        return Err(target.without_limits());
    }
    Ok(Json(LedgerBody { caller: target.caller().to_owned(), items }))
}

impl LedgerItem {
    fn new(
        caller: &str,
        preview: &Preview<'_>,
        standing: Standing<'_, '_>,
        log: &[GiftEvent],
    ) -> Self {
        let Standing { charge, bonuses, account, .. } = standing;
        let balance = charge.remaining();
        let of_bonuses: u64 = bonuses.iter().map(BonusStanding::remaining).sum();
        let left = signed(balance) - signed(of_bonuses);
        let mut entries = vec![
            LedgerEntry::new(LedgerKind::Amount, signed(charge.capacity), None),
            LedgerEntry::new(LedgerKind::Used, left - signed(charge.capacity), None),
        ];
        let is_own = account.is_none_or(|account| account == caller);
        let log: Vec<&GiftEvent> =
            log.iter().filter(|event| is_own && event.limit == *charge.limit.name).collect();
        for bonus in bonuses {
            of_bonus(&mut entries, bonus, &log, preview.verdict.at);
        }
        let lineage = preview.verdict.caller.as_ref().map(|caller| caller.lineage());
        let member = lineage.and_then(|lineage| lineage.members.first()).filter(|_| is_own);
        let own = member.into_iter().flat_map(|member| &member.caller.bonuses);
        let ended = own
            .filter(|one| one.limit == *charge.limit.name && one.bonus.until <= preview.verdict.at);
        for one in ended {
            let (id, hits) = (&*one.bonus.id, signed(one.bonus.amount));
            entries.push(LedgerEntry::new(LedgerKind::Granted, hits, Some(id)));
            let ended = LedgerEntry::new(LedgerKind::Ended, -hits, Some(id));
            entries.push(LedgerEntry { at: Some(instant(one.bonus.until)), ..ended });
        }
        let is_reported = |entry: &LedgerEntry| entry.hits != 0 || entry.kind == LedgerKind::Amount;
        entries.retain(is_reported);
        Self {
            domain: preview.verdict.domain.to_owned(),
            limit: charge.limit.label.to_string(),
            account: account.filter(|account| *account != caller).map(str::to_owned),
            balance,
            entries,
        }
    }
}

impl LedgerEntry {
    fn new(kind: LedgerKind, hits: i64, bonus: Option<&str>) -> Self {
        let bonus = bonus.map(str::to_owned);
        Self { kind, hits, bonus, at: None, gift: None, with: None }
    }

    /// What a gift changed of a bonus.
    fn of_gift(event: &GiftEvent) -> Self {
        let (kind, hits) = match event.kind {
            GiftEventKind::Given => (LedgerKind::Given, -signed(event.hits)),
            GiftEventKind::Received => (LedgerKind::Received, signed(event.hits)),
            GiftEventKind::Returned => (LedgerKind::Returned, signed(event.hits)),
        };
        Self {
            at: Some(instant(event.at)),
            gift: Some(event.gift.clone()),
            with: Some(event.with.clone()),
            ..Self::new(kind, hits, Some(&event.bonus))
        }
    }
}

/// Adds what explains what is left of a bonus.
fn of_bonus(
    entries: &mut Vec<LedgerEntry>,
    standing: &BonusStanding,
    log: &[&GiftEvent],
    now: Timestamp,
) {
    let (bonus, stand, id) = (&standing.bonus, standing.stand, &**standing.id());
    let start = bonus.recurs.as_ref().map(|recurs| recurs.period(now).start_ms);
    let start = Timestamp::from_ms(start.unwrap_or(0));
    let events = |of_kind: fn(GiftEventKind) -> bool| {
        // The oldest first.
        let events = log.iter().rev().filter(move |event| of_kind(event.kind));
        let counts = events.filter(|event| event.bonus == id && start <= event.at);
        counts.map(|event| LedgerEntry::of_gift(event)).collect::<Vec<_>>()
    };
    let given = events(|kind| kind == GiftEventKind::Given);
    let got = events(|kind| kind != GiftEventKind::Given);
    let sum = |entries: &[LedgerEntry]| entries.iter().map(|entry| entry.hits).sum::<i64>();
    let kind = if id.starts_with(GIFT_PREFIX) { LedgerKind::Other } else { LedgerKind::Granted };
    let amount = signed(bonus.amount);
    entries.push(LedgerEntry::new(kind, amount - sum(&got), Some(id)));
    entries.extend(got);
    let unused = signed(stand.carried) + signed(stand.expired);
    entries.push(LedgerEntry::new(LedgerKind::Unused, unused, Some(id)));
    let expired = -signed(stand.expired);
    entries.push(LedgerEntry::new(LedgerKind::Expired, expired, Some(id)));
    let spent = -signed(stand.spent);
    entries.push(LedgerEntry::new(LedgerKind::Spent, spent - sum(&given), Some(id)));
    entries.extend(given);
    let left = amount + signed(stand.carried) + spent;
    entries.push(LedgerEntry::new(LedgerKind::WrittenOff, (-left).max(0), Some(id)));
}

/// Hits as a number that may be below 0.
fn signed(hits: u64) -> i64 {
    i64::try_from(hits).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limit::Bonus;
    use crate::store::BonusStand;

    fn event(kind: u8, hits: u64) -> GiftEvent {
        GiftEvent {
            caller: "ann".into(),
            at: Timestamp::from_ms(hits),
            kind: [GiftEventKind::Given, GiftEventKind::Received, GiftEventKind::Returned]
                [usize::from(kind % 3)],
            gift: "g".to_owned(),
            limit: "tokens".to_owned(),
            bonus: if kind < 6 { "gift-a" } else { "b" }.to_owned(),
            hits,
            with: "bob".to_owned(),
        }
    }

    proptest! {
        /// Whatever is known of gifts, and whatever was changed by hand.
        #[test]
        fn the_entries_of_a_bonus_add_up_to_what_is_left(
            (amount, carried, spent, expired) in (1..9_u64, 0..9_u64, 0..20_u64, 0..9_u64),
            events in prop::collection::vec((0..9_u8, 1..9_u64), 0..6),
            is_gift: bool,
        ) {
            let id = if is_gift { "gift-a" } else { "b" };
            let standing = BonusStanding {
                bonus: Bonus::new(id, amount, Timestamp::MAX),
                stand: BonusStand { carried, spent, expired, taken: 0 },
                expires: None,
            };
            let events: Vec<_> = events.iter().map(|(kind, hits)| event(*kind, *hits)).collect();
            let mut entries = Vec::new();
            of_bonus(&mut entries, &standing, &events.iter().collect::<Vec<_>>(), Timestamp::MAX);
            let sum: i64 = entries.iter().map(|entry| entry.hits).sum();
            prop_assert_eq!(sum, signed(standing.remaining()));
        }
    }
}
