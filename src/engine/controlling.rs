//! Changes providers for a while: takes the changes, and follows those that others have made. They are in the store, beside the
//! signals, so that all sidecars follow the same ones. While the store is unavailable, each goes on with what it last read, and
//! no change is taken.

use crate::lock::lock;
use crate::policy::{Domain, PRIORITY_MAX, PRIORITY_MIN};
use crate::store::StoreError;
use crate::store::provider_controls::{ControlAction, ProviderControl, controls, ended};
use crate::store::signals::SignalChange;

use super::Engine;
use super::snapshot::Snapshot;

/// Maximum number of controls that hold at a time.
pub const CONTROLS_MAX: usize = 64;

/// How long a control may hold.
pub const CONTROL_LIFE_MAX_MS: u64 = 7 * 86_400_000;

/// The largest part of a limit that a cap may leave.
pub const CAP_PERCENT_MAX: u8 = 99;

/// Why a control can't be made or ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ControlError {
    #[error("domain `{domain}` has no provider `{provider}`; see /v1/providers")]
    UnknownProvider { domain: String, provider: String },
    #[error("the provider has no change `{id}` that holds")]
    UnknownControl { id: String },
    #[error("{0}")]
    Invalid(String),
    #[error("{CONTROLS_MAX} changes of providers hold already; end one of them")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// The controls that hold, as this process knows them.
    pub fn provider_controls(&self) -> Vec<ProviderControl> {
        controls(&lock(&self.known_signals).fields, self.now())
    }

    /// Whether a control may be made under the policies in force.
    ///
    /// # Errors
    /// When they have no such provider, tier or limit, or when a number or a time is out of range.
    pub fn check_control(&self, control: &ProviderControl) -> Result<(), ControlError> {
        let invalid = |text: String| Err(ControlError::Invalid(text));
        let policies = self.policies();
        let ProviderControl { domain, provider, action, until, .. } = control;
        let unknown = || {
            let (domain, provider) = (domain.clone(), provider.clone());
            ControlError::UnknownProvider { domain, provider }
        };
        let domain = policies.domain(domain).ok_or_else(unknown)?;
        if !domain.providers().iter().any(|one| one.name == *provider) {
            return Err(unknown());
        }
        let now = self.now();
        if !control.holds(now) || CONTROL_LIFE_MAX_MS < until.as_ms() - now.as_ms() {
            return invalid("until: use a time within the next 7 days".to_owned());
        }
        if let Some(tier) = action.tier()
            && domain.classes.tier(tier).is_none()
        {
            return invalid(format!("tier: domain `{}` has no tier `{tier}`", domain.name));
        }
        match action {
            ControlAction::Priority { priority, .. }
                if !(PRIORITY_MIN..=PRIORITY_MAX).contains(priority) =>
            {
                invalid(format!("priority: use {PRIORITY_MIN} to {PRIORITY_MAX}"))
            }
            ControlAction::Cap { percent, .. } if CAP_PERCENT_MAX < *percent => {
                invalid(format!("percent: use 0 to {CAP_PERCENT_MAX}"))
            }
            ControlAction::Cap { limit, .. } => check_limit(domain, provider, limit.as_deref()),
            ControlAction::Pause | ControlAction::Priority { .. } => Ok(()),
        }
    }

    /// Makes a control, in the place of one with the same scope.
    ///
    /// # Errors
    /// When it is invalid, when there are too many, or when the store does not take it.
    pub async fn put_control(&self, control: &ProviderControl) -> Result<(), ControlError> {
        self.check_control(control)?;
        let (fields, now) = (self.store().signals().await?, self.now());
        let others = controls(&fields, now);
        let others = others.iter().filter(|one| one.field() != control.field());
        if CONTROLS_MAX <= others.count() {
            return Err(ControlError::TooMany);
        }
        let mut removed = ended(&fields, now);
        removed.retain(|field| *field != control.field());
        let set = vec![(control.field(), control.text())];
        Ok(self.change_controls(&SignalChange { set, removed }).await?)
    }

    /// The control of a provider with this id, as the store has it.
    ///
    /// # Errors
    /// When there is none that holds, or when the store does not answer.
    pub async fn control(
        &self,
        (domain, provider): (&str, &str),
        id: &str,
    ) -> Result<ProviderControl, ControlError> {
        let known = controls(&self.store().signals().await?, self.now());
        let is_meant = |one: &ProviderControl| {
            (one.domain.as_str(), one.provider.as_str()) == (domain, provider) && one.id() == id
        };
        let found = known.into_iter().find(is_meant);
        found.ok_or_else(|| ControlError::UnknownControl { id: id.to_owned() })
    }

    /// Ends a control.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn end_control(&self, control: &ProviderControl) -> Result<(), ControlError> {
        let change = SignalChange { set: Vec::new(), removed: vec![control.field()] };
        Ok(self.change_controls(&change).await?)
    }

    async fn change_controls(&self, change: &SignalChange) -> Result<(), StoreError> {
        self.change_signals(change).await?;
        self.follow_controls(&self.snapshot.load());
        Ok(())
    }

    /// Puts the controls in force that this process knows.
    pub(super) fn follow_controls(&self, snapshot: &Snapshot) {
        let known = self.provider_controls();
        if !snapshot.controls.are(&known) {
            snapshot.controls.put(&snapshot.policies, known);
        }
    }
}

/// Whether a provider has a limit that a cap may name; None: any.
fn check_limit(domain: &Domain, provider: &str, name: Option<&str>) -> Result<(), ControlError> {
    let providers = domain.providers();
    let own = providers.iter().filter(|one| one.name == provider);
    let paths = own.flat_map(|one| &one.paths);
    let rules = paths.filter_map(|path| domain.walk(&domain.path(path)).end());
    let mut limits = rules.flat_map(|rule| &rule.limits);
    if limits.any(|limit| name.is_none_or(|name| *limit.label == *name)) {
        return Ok(());
    }
    let of = name.map_or_else(String::new, |name| format!(" `{name}`"));
    let text = format!("limit: provider `{provider}` has no limit{of} with a single counter");
    Err(ControlError::Invalid(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt, poll};
    use tokio::time::advance;

    use super::*;
    use crate::clock::Clock;
    use crate::engine::Code;
    use crate::engine::testing::{Bench, START};

    const POLICY: &str = "
domain: d
tiers: [free, paid]
caller: { key: user, tier: { key: tier }, priority: { key: priority, default: 2 } }
choices: [{ key: provider, value: any, among: { near: {}, far: {} } }]
descriptors:
- { key: user, limits: [9/day] }
- key: provider
  value: near
  limits: [{ name: all, rate: 10/day }]
  descriptors: [{ key: op, value: book, limits: [{ name: book, rate: 1/second, wait: { up_to: 3s } }] }]
- { key: provider, value: far, limits: [{ name: far, rate: 10/day }] }";

    const BOOK: &str = "provider=near,op=book";

    fn control(action: ControlAction, hold: Duration) -> ProviderControl {
        let [domain, provider, by] = ["d", "near", "ann"].map(str::to_owned);
        ProviderControl { domain, provider, action, at: START, by, until: START.after(hold) }
    }

    fn bench() -> Bench {
        let bench = Bench::timed(Clock::manual(START));
        bench.put_in_force(POLICY);
        bench
    }

    fn cap(tier: Option<&str>, limit: Option<&str>, percent: u8) -> ControlAction {
        let (tier, limit) = (tier.map(str::to_owned), limit.map(str::to_owned));
        ControlAction::Cap { tier, limit, percent }
    }

    fn priority(tier: Option<&str>, entry: Option<(&str, &str)>, priority: u8) -> ControlAction {
        let entry = entry.map(|(key, value)| (key.to_owned(), value.to_owned()));
        ControlAction::Priority { tier: tier.map(str::to_owned), entry, priority }
    }

    async fn put(bench: &Bench, action: ControlAction) {
        bench.engine.put_control(&control(action, Duration::from_secs(60))).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_queue_is_paused_nobody_joins_it_and_those_in_it_pass() {
        let bench = Bench::timed(Clock::runtime(START));
        bench.put_in_force(POLICY);
        bench.ask_for(&[BOOK]).await;
        let mut held = Box::pin(bench.ask_for(&[BOOK]));
        assert!(poll!(held.as_mut()).is_pending());
        put(&bench, ControlAction::Pause).await;
        let refused = bench.ask_for(&[BOOK]).now_or_never().expect("it does not wait");
        assert_eq!(refused.code, Code::OverLimit);
        assert!(poll!(held.as_mut()).is_pending(), "it keeps its place");
        advance(Duration::from_secs(1)).await;
        assert_eq!(held.await.code, Code::Ok);
        let refused = bench.ask_for(&[BOOK]).now_or_never().expect("it does not wait");
        assert_eq!(refused.code, Code::OverLimit, "also when nobody waits");
        advance(Duration::from_secs(1)).await;
        assert_eq!(bench.ask_for(&[BOOK]).await.code, Code::Ok, "there is capacity");
        // It ends by itself, at its time.
        advance(Duration::from_millis(57_999)).await;
        assert_eq!(bench.ask_for(&[BOOK]).await.code, Code::Ok);
        assert!(bench.ask_for(&[BOOK]).now_or_never().is_some());
        advance(Duration::from_millis(1)).await;
        assert_eq!(bench.ask_for(&[BOOK]).await.code, Code::Ok, "it waits again");
        assert!(START.after(Duration::from_secs(60)) < bench.engine.now());
    }

    #[tokio::test]
    async fn a_cap_leaves_a_part_of_a_limit_until_it_ends() {
        let bench = bench();
        put(&bench, cap(None, Some("all"), 50)).await;
        put(&bench, cap(Some("free"), None, 30)).await;
        let ask = async |entries: &str| bench.ask_for(&[entries]).await.code;
        for _ in 0..3 {
            assert_eq!(ask("provider=near,tier=free").await, Code::Ok);
        }
        assert_eq!(ask("provider=near,tier=free").await, Code::OverLimit);
        for _ in 0..2 {
            assert_eq!(ask("provider=near,tier=paid").await, Code::Ok);
        }
        assert_eq!(ask("provider=near,tier=paid").await, Code::OverLimit);
        let states = bench.engine.providers(|_, name| name == "near").await;
        let all = states[0].limits.iter().find(|limit| limit.label == "all").unwrap();
        assert_eq!((all.capacity, all.used, states[0].controls.len()), (5, 5, 2));
        for _ in 0..5 {
            assert_eq!(ask("provider=far,tier=free").await, Code::Ok, "another provider");
        }
        bench.clock.advance(Duration::from_secs(60));
        for _ in 0..5 {
            assert_eq!(ask("provider=near,tier=free").await, Code::Ok);
        }
        assert_eq!(ask("provider=near,tier=free").await, Code::OverLimit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_priority_is_that_of_the_closest_change() {
        let bench = Bench::timed(Clock::runtime(START));
        bench.put_in_force(POLICY);
        put(&bench, priority(None, None, 1)).await;
        put(&bench, priority(Some("paid"), None, 3)).await;
        put(&bench, priority(None, Some(("user", "ann")), 4)).await;
        bench.ask_for(&[BOOK]).await;
        let book = |more: &'static str| [BOOK, more];
        // The last one's own priority is the highest.
        let asks = [book("tier=paid"), book("user=ann"), book("priority=4")];
        let mut held: Vec<_> = asks.iter().map(|ask| Box::pin(bench.ask_for(ask))).collect();
        for ask in &mut held {
            assert!(poll!(ask.as_mut()).is_pending());
        }
        let states = bench.engine.providers(|_, name| name == "near").await;
        let book = states[0].limits.iter().find(|limit| limit.label == "book").unwrap();
        let waiting = book.waiting.unwrap().map(|of| of.requests);
        assert_eq!(waiting, [1, 0, 1, 1]);
    }

    #[tokio::test]
    async fn a_change_is_kept_when_policies_are_replaced_and_while_its_provider_is_gone() {
        let bench = bench();
        put(&bench, cap(None, None, 0)).await;
        let near = async || bench.ask_for(&["provider=near"]).await.code;
        assert_eq!(near().await, Code::OverLimit);
        bench.put_in_force(POLICY);
        assert_eq!(near().await, Code::OverLimit);
        bench.put_in_force("{domain: d, descriptors: [{key: provider, limits: [10/day]}]}");
        assert_eq!(near().await, Code::Ok);
        bench.engine.adjust().await;
        bench.put_in_force(POLICY);
        assert_eq!(near().await, Code::OverLimit);
        let known = bench.engine.control(("d", "near"), "cap").await.unwrap();
        bench.engine.end_control(&known).await.unwrap();
        assert_eq!(near().await, Code::Ok);
        assert!(bench.engine.control(("d", "near"), "cap").await.is_err());
    }

    #[tokio::test]
    async fn what_makes_no_sense_or_is_too_much_is_not_taken() {
        let bench = bench();
        let day = Duration::from_secs(86_400);
        for (action, hold) in [
            (ControlAction::Pause, Duration::ZERO),
            (ControlAction::Pause, 7 * day + Duration::from_millis(1)),
            (cap(None, None, 100), day),
            (cap(None, Some("other"), 10), day),
            (cap(Some("gold"), None, 10), day),
            (priority(None, None, 0), day),
            (priority(None, None, 5), day),
        ] {
            let made = bench.engine.put_control(&control(action.clone(), hold)).await;
            assert!(matches!(made, Err(ControlError::Invalid(_))), "{action:?} {made:?}");
        }
        let other =
            ProviderControl { provider: "x".to_owned(), ..control(cap(None, None, 9), day) };
        let made = bench.engine.put_control(&other).await;
        assert!(matches!(made, Err(ControlError::UnknownProvider { .. })), "{made:?}");
        for number in 0..CONTROLS_MAX {
            let value = number.to_string();
            let action = priority(None, Some(("op", &value)), 4);
            bench.engine.put_control(&control(action, day)).await.unwrap();
        }
        let many = bench.engine.put_control(&control(ControlAction::Pause, day)).await;
        assert!(matches!(many, Err(ControlError::TooMany)), "{many:?}");
        // One that is there can be replaced, and those that have ended make room.
        let again = control(priority(None, Some(("op", "0")), 1), 7 * day);
        bench.engine.put_control(&again).await.unwrap();
        bench.clock.advance(day);
        let pause = ProviderControl {
            until: bench.engine.now().after(day),
            ..control(ControlAction::Pause, day)
        };
        bench.engine.put_control(&pause).await.unwrap();
        assert_eq!(bench.engine.store().signals().await.unwrap().len(), 2);
    }
}
