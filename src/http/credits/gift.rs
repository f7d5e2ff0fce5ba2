//! Gives hits of a caller's bonus to another caller.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::engine::{BonusStanding, Preview};
use crate::http::auth::{Authorized, Operator, Principal, Viewer};
use crate::http::bonuses::random_id;
use crate::http::callers::unknown_caller;
use crate::http::change::check_name;
use crate::http::edge::Edge;
use crate::http::extract::{JsonObject, UrlPath};
use crate::http::openapi::{self, Description, NO_RANDOMNESS, Operation, Output};
use crate::http::problem::Problem;
use crate::http::quota::{LOOK, Target, target};
use crate::http::recorded;
use crate::limit::AMOUNT_MAX;
use crate::observe::audit::{Changed, Entry, GiftLine, instant};
use crate::policy::{check_id, has_one_counter};
use crate::store::{Gift, GiftState};

pub fn operations() -> [Operation; 2] {
    [
        openapi::post(
            "/v1/callers/{name}/gifts",
            "giveHits",
            "Give hits of a caller's bonus to another caller; a gift with the same id is made once",
            give,
        )
        .or([NO_RANDOMNESS, (507, "The directory has the most gifts that it keeps")]),
        openapi::get("/v1/callers/{name}/gifts/{id}", "getGift", "Show a gift of a caller", show)
            .or([(404, "The caller has given no such gift")]),
    ]
}

/// A gift that is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewGift")]
struct GiftForm {
    /// The caller that gets the hits.
    to: String,
    /// The name of the limit.
    limit: String,
    /// How many hits.
    #[schemars(range(min = 1, max = AMOUNT_MAX))]
    hits: u64,
    /// Distinguishes it from all other gifts: 1 to 32 letters, digits, - and _. If absent, it is generated.
    id: Option<String>,
    /// The id of the bonus that they are taken from; if absent, the first in the order of spending that has as many left.
    bonus: Option<String>,
    /// The domain; may be absent if only one has a policy that names callers.
    domain: Option<String>,
    /// More entries after the caller's, in order, if the limit has them in its path.
    #[serde(default)]
    entries: Vec<BTreeMap<String, String>>,
}

/// A gift.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Gift")]
struct GiftBody {
    id: String,
    from: String,
    to: String,
    limit: String,
    hits: u64,
    /// The giver's bonus that they are taken from.
    bonus: String,
    /// When they end; absent if they never do.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    state: GiftStateName,
}

/// How far a gift has come: `pending` ones are carried on, `refused` ones took nothing, `returned` ones are a bonus of the giver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "GiftState")]
enum GiftStateName {
    Pending,
    Done,
    Refused,
    Returned,
}

/// A gift that was made, or that is pending.
struct Given(GiftBody);

impl IntoResponse for Given {
    fn into_response(self) -> Response {
        let status = match self.0.state {
            GiftStateName::Pending => StatusCode::ACCEPTED,
            _ => StatusCode::CREATED,
        };
        (status, Json(self.0)).into_response()
    }
}

impl Output for Given {
    fn describe(description: &mut Description<'_>) {
        description.answer::<GiftBody>(201);
        description.answer::<GiftBody>(202)["description"] =
            "The store did not answer: the gift is carried on as soon as it does".into();
        description.problem("404", "A caller or a limit does not exist");
        description.problem(
            "409",
            "The id is that of another gift (IDEMPOTENCY_CONFLICT), or the receiver can't take the hits",
        );
        description.problem("422", "The limit has no bonuses that can be given");
        description.problem("429", "No bonus of the caller has the hits (QUOTA_EXCEEDED)");
        description.problem("503", "Redis is unavailable");
    }
}

/// Gives hits.
async fn give(
    by: Authorized<Operator>,
    State(edge): State<Edge>,
    UrlPath(name): UrlPath<String>,
    JsonObject(form): JsonObject<GiftForm>,
) -> Result<Given, Problem> {
    let asked = form.gift(&name, edge.engine.now())?;
    let directory = edge.engine.directory();
    directory.writable()?;
    let known = directory.gift(&asked.id).await?;
    let gift = match known {
        Some(known) if known.state != GiftState::Refused => form.again(known, &asked)?,
        refused => {
            let gift = form.resolved(&edge, asked).await?;
            record(&edge, &by.principal, (&gift, None)).await?;
            match edge.engine.begin_gift(refused.as_ref(), &gift).await? {
                true => gift,
                false => {
                    let other = directory.gift(&gift.id).await?;
                    other
                        .map_or_else(|| Err(conflict(&gift.id)), |known| form.again(known, &gift))?
                }
            }
        }
    };
    let was_pending = gift.state == GiftState::Pending;
    // A gift that was noted is carried on, whatever happens here.
    let carried = edge.engine.carry_gift(gift.clone()).await.unwrap_or(gift);
    let failed = match carried.state {
        GiftState::Pending | GiftState::Done => return Ok(Given(GiftBody::from(&carried))),
        GiftState::Refused => {
            let detail =
                format!("the bonus `{}` no longer has {} hits", carried.bonus, carried.hits);
            let status = StatusCode::TOO_MANY_REQUESTS;
            let limit = Some(carried.limit.clone());
            Problem { limit, ..Problem::new(status, detail).coded("QUOTA_EXCEEDED") }
        }
        GiftState::Returned => {
            let detail = format!(
                "`{}` can't take the hits; they were returned to `{}` as a bonus",
                carried.to, carried.from
            );
            Problem::new(StatusCode::CONFLICT, detail)
        }
    };
    if was_pending {
        // The detail has names, which must stay erasable.
        record(&edge, &by.principal, (&carried, Some(failed.reason()))).await?;
    }
    Err(failed)
}

/// Shows a gift.
async fn show(
    _: Authorized<Viewer>,
    State(edge): State<Edge>,
    UrlPath((name, id)): UrlPath<(String, String)>,
) -> Result<Json<GiftBody>, Problem> {
    let gift = edge.engine.directory().gift(&id).await?.filter(|gift| gift.from == name);
    let gift = gift.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("`{name}` has given no gift `{id}`"))
    })?;
    Ok(Json(GiftBody::from(&gift)))
}

impl GiftForm {
    /// The gift that is asked for, without the bonus that it is taken from.
    fn gift(&self, from: &str, at: Timestamp) -> Result<Gift, Problem> {
        let invalid = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        check_name(from)?;
        check_name(&self.to)?;
        if self.hits == 0 || AMOUNT_MAX < self.hits {
            return Err(invalid(format!("`hits` is from 1 to {AMOUNT_MAX}")));
        }
        if self.to == from {
            return Err(invalid(format!("`{from}` can't give hits to itself")));
        }
        let id = match &self.id {
            Some(id) => {
                check_id(id).map_err(|reason| invalid(format!("id: {reason}")))?;
                id.clone()
            }
            None => random_id()?,
        };
        let target = target(from.to_owned(), self.domain.clone(), &self.entries)?;
        Ok(Gift {
            id,
            from: from.to_owned(),
            to: self.to.clone(),
            limit: self.limit.clone(),
            hits: self.hits,
            bonus: self.bonus.clone().unwrap_or_default(),
            until: Timestamp::MAX,
            domain: self.domain.clone().unwrap_or_default(),
            entries: target.entries().to_vec(),
            at,
            state: GiftState::Pending,
        })
    }

    /// A gift that has begun before, if it is the one that is asked for.
    fn again(&self, known: Gift, asked: &Gift) -> Result<Gift, Problem> {
        let domain = self.domain.as_ref().map_or(&known.domain, |domain| domain);
        let asked = Gift { domain: domain.clone(), ..asked.clone() };
        let is_bonus = self.bonus.as_ref().is_none_or(|bonus| *bonus == known.bonus);
        if known.is_same(&asked) && is_bonus {
            return Ok(known);
        }
        Err(conflict(&known.id))
    }

    /// The gift with the bonus that it is taken from, if it can be given as far as is known now.
    async fn resolved(&self, edge: &Edge, gift: Gift) -> Result<Gift, Problem> {
        let unfit = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        let snapshot = edge.engine.snapshot();
        if !has_one_counter(snapshot.policies(), &self.limit) {
            let detail = "a bonus can be given on a limit of callers that has one counter for each";
            return Err(unfit(format!("limit `{}`: {detail}", self.limit)));
        }
        if edge.engine.directory().read(&self.to).await?.is_none() {
            return Err(unknown_caller(&self.to));
        }
        let asked = target(gift.from.clone(), self.domain.clone(), &self.entries)?;
        let target = Target::resolve(edge, asked).await;
        let request = target.request(&snapshot, LOOK)?;
        let preview = edge.engine.preview(&snapshot, &request).await;
        if preview.verdict.fallback {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store is unavailable"));
        }
        if preview.verdict.caller.as_ref().is_some_and(|caller| caller.is_disabled()) {
            return Err(unfit(format!("`{}` is disabled", gift.from)));
        }
        let Giving { standings, left } = self.giving(&preview, &target)?;
        let is_meant = |one: &&BonusStanding| match &self.bonus {
            Some(id) => **one.id() == **id,
            None => self.hits <= one.remaining(),
        };
        let chosen = standings.iter().find(is_meant).filter(|one| self.hits <= one.remaining());
        let chosen = chosen.ok_or_else(|| self.lacking(&gift.from, standings))?;
        if left < self.hits {
            let detail = format!(
                "reservations hold hits of `{}`, which are not given: {left} are left",
                gift.from
            );
            return Err(self.exceeded(detail));
        }
        Ok(Gift {
            bonus: chosen.id().to_string(),
            until: chosen.expires.unwrap_or(Timestamp::MAX),
            domain: request.domain().to_owned(),
            ..gift
        })
    }

    /// What the giver has on the limit.
    fn giving<'p>(&self, preview: &'p Preview<'_>, target: &Target) -> Result<Giving<'p>, Problem> {
        let mut own = preview.standings().filter(|one| *one.charge.limit.name == *self.limit);
        let (Some(standing), None) = (own.next(), own.next()) else {
            return Err(target.without_limits());
        };
        match standing.account {
            Some(account) if account != target.caller() => {
                let detail = format!(
                    "`{}` spends from the counters of `{account}`, which alone can give hits of them",
                    target.caller()
                );
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
            }
            _ => {
                let carried: u64 = standing.bonuses.iter().map(|one| one.stand.carried).sum();
                let quota = standing.charge.quota.saturating_add(carried);
                Ok(Giving {
                    standings: standing.bonuses,
                    left: quota.saturating_sub(standing.used),
                })
            }
        }
    }

    fn lacking(&self, from: &str, standings: &[BonusStanding]) -> Problem {
        let most = standings.iter().map(BonusStanding::remaining).max().unwrap_or(0);
        let detail = match &self.bonus {
            Some(id) => format!("the bonus `{id}` of `{from}` does not have {} hits", self.hits),
            None => format!("no bonus of `{from}` has {} hits; the most is {most}", self.hits),
        };
        self.exceeded(detail)
    }

    fn exceeded(&self, detail: String) -> Problem {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let limit = Some(self.limit.clone());
        Problem { limit, ..Problem::new(status, detail).coded("QUOTA_EXCEEDED") }
    }
}

/// What a giver has on a limit.
struct Giving<'p> {
    standings: &'p [BonusStanding],
    /// The hits that are neither spent nor held by reservations, of the amount and of all bonuses.
    left: u64,
}

fn conflict(id: &str) -> Problem {
    let detail = format!("the id `{id}` is that of another gift");
    Problem::new(StatusCode::CONFLICT, detail).coded("IDEMPOTENCY_CONFLICT")
}

impl From<&Gift> for GiftBody {
    fn from(gift: &Gift) -> Self {
        Self {
            id: gift.id.clone(),
            from: gift.from.clone(),
            to: gift.to.clone(),
            limit: gift.limit.clone(),
            hits: gift.hits,
            bonus: gift.bonus.clone(),
            expires_at: (gift.until != Timestamp::MAX).then(|| instant(gift.until)),
            state: match gift.state {
                GiftState::Pending => GiftStateName::Pending,
                GiftState::Done => GiftStateName::Done,
                GiftState::Refused => GiftStateName::Refused,
                GiftState::Returned => GiftStateName::Returned,
            },
        }
    }
}

/// Writes a gift to the audit log, with a line for each of the two callers: before it is made, and again if it fails.
async fn record(
    edge: &Edge,
    principal: &Principal,
    (gift, failed): (&Gift, Option<String>),
) -> Result<(), Problem> {
    for (what, caller) in [("give hits", &gift.from), ("receive hits", &gift.to)] {
        let change = Changed::Gift { caller: caller.clone(), gift: GiftLine::from(gift) };
        let entry = recorded::entry(edge, principal, what, change);
        recorded::record(edge, &Entry { failed: failed.clone(), ..entry }).await?;
    }
    Ok(())
}
