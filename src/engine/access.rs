//! Access that a rule's `only` or the `none` of a tier would refuse, and does not: its mode is `warn`, or it is enforced for
//! other callers.

use super::verdict::Verdict;

impl Verdict<'_> {
    /// Whether the caller would have no access if that were enforced.
    pub fn warns_of_access(&self) -> bool {
        self.descriptors.iter().any(|descriptor| descriptor.warned)
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{bench, descriptor};
    use crate::engine::{Code, ModeSettings, Request};
    use crate::limit::Hits;

    /// Whether a request of the tier `free`, which has none of the limit, passes, and is warned of.
    async fn check(mode: &str, hits: Hits, expected: (Code, bool)) {
        let policy = format!(
            "{{domain: d, tiers: [free, paid], caller: {{key: user, tier: {{key: tier}}}}, descriptors: [
               {{key: user, limits: [{{name: daily, by_tier: {{free: none, paid: 5/day}}, {mode}}}]}}]}}"
        );
        let bench = bench(&policy, ModeSettings::default());
        let mut asked = descriptor("user=ann,tier=free");
        asked.hits = hits;
        let request = Request::try_new("d", vec![asked]).unwrap();
        let snapshot = bench.engine.snapshot();
        let verdict = bench.engine.check(&snapshot, &request).await;
        assert_eq!((verdict.code(), verdict.warns_of_access()), expected, "{mode} {hits:?}");
    }

    #[tokio::test]
    async fn a_tier_that_has_none_of_a_limit_is_warned_of_where_that_is_not_enforced() {
        check("mode: enforce", Hits::Spend(1), (Code::OverLimit, false)).await;
        check("mode: warn", Hits::Spend(1), (Code::Ok, true)).await;
        check("mode: warn", Hits::GiveBack(1), (Code::Ok, false)).await;
        check("mode: shadow", Hits::Spend(1), (Code::Ok, false)).await;
        check("mode: off", Hits::Spend(1), (Code::Ok, false)).await;
    }
}
