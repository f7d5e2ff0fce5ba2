//! The types of a policy file, from which the editor's JSON Schema is generated. `read/` fills them, so that
//! every problem is found and not only the first.

mod choice;
mod sharing;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;

use super::yaml::{Node, Spanned};

pub use choice::CandidateFile;
pub use choice::ChoiceFile;
pub use choice::WEIGHT_MAX;
pub use choice::WeightsFile;
pub use sharing::CallerFile;
pub use sharing::CapacityFile;
pub use sharing::CostFile;
pub use sharing::Named;
pub use sharing::OnlyFile;
pub use sharing::PressureFile;
pub use sharing::PriorityFile;
pub use sharing::QUEUE_MAX;
pub use sharing::TierFile;
pub use sharing::WaitFile;

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The limits of one domain.
#[derive(Debug, Default, JsonSchema)]
#[schemars(title = "Tollgate policy", deny_unknown_fields)]
pub struct PolicyFile {
    /// The domain that Envoy's rate limit filter names.
    #[schemars(required)]
    pub domain: Option<Spanned<String>>,
    /// The time zone of calendar windows, such as Europe/Madrid; UTC if absent.
    pub timezone: Option<Spanned<String>>,
    /// Who asks, and as what.
    pub caller: Option<CallerFile>,
    /// The classes that callers belong to, lowest first.
    pub tiers: Option<Spanned<Vec<Spanned<String>>>>,
    /// Keys of entries that only qualify a request: they are no part of a descriptor's path, but costs and
    /// priorities may look at them.
    pub qualifiers: Option<Spanned<Vec<Spanned<String>>>>,
    /// What requests cost, as tables that limits name.
    #[schemars(with = "Option<BTreeMap<String, Vec<CostFile>>>")]
    pub costs: Option<Named<Vec<CostFile>>>,
    /// Entries that stand for the best of several values, such as of several providers.
    pub choices: Option<Spanned<Vec<ChoiceFile>>>,
    /// What holds for every limit of the file that does not say otherwise.
    pub defaults: Option<DefaultsFile>,
    /// What goes back with each answer; nothing if absent.
    pub answer: Option<AnswerFile>,
    /// The rules, each for an entry of a descriptor.
    pub descriptors: Option<Vec<RuleFile>>,
}

/// What holds for every limit that does not say otherwise.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DefaultsFile {
    pub algorithm: Option<Spanned<AlgorithmFile>>,
    pub mode: Option<Spanned<ModeFile>>,
    pub on_outage: Option<Spanned<OutageFile>>,
    pub overdraft: Option<Spanned<OverdraftFile>>,
    pub wait: Option<WaitFile>,
    pub lease: Option<Spanned<LeaseFile>>,
}

/// A rule: what holds for a descriptor whose entry has this key, and this value if one is given.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RuleFile {
    /// The entry's key.
    #[schemars(required)]
    pub key: Option<Spanned<String>>,
    /// The entry's value; `*` stands for any text. Absent: any value, each with counters of its own.
    pub value: Option<Spanned<String>>,
    /// One limit, as envoyproxy/ratelimit writes it.
    pub rate_limit: Option<Spanned<RateLimitFile>>,
    /// Limits that all hold, atomically.
    pub limits: Option<Spanned<Vec<LimitFile>>>,
    /// Whether the limits also hold for every path below this rule.
    pub cascade: Option<Spanned<bool>>,
    /// What to answer for this rule's limits while the store is out; allow if absent.
    pub on_outage: Option<Spanned<OutageFile>>,
    /// Who may use this at all; everybody if absent.
    pub only: Option<OnlyFile>,
    /// How much of the limits is open to whom.
    pub capacity: Option<Spanned<CapacityFile>>,
    /// Decide and record, but don't enforce.
    pub shadow_mode: Option<Spanned<bool>>,
    /// Refuse only if every quota rule of the request is over.
    pub quota_mode: Option<Spanned<bool>>,
    /// Accepted for envoyproxy/ratelimit's sake: values of requests never become metrics here.
    pub detailed_metric: Option<Spanned<bool>>,
    /// Accepted for envoyproxy/ratelimit's sake: values of requests never become metrics here.
    pub value_to_metric: Option<Spanned<bool>>,
    /// All values that match this rule's `*` share one counter.
    pub share_threshold: Option<Spanned<bool>>,
    /// Goes into the answer's dynamic metadata when the descriptor passes.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub metadata: Option<Vec<(Node, Node)>>,
    /// Rules for the descriptor's next entry.
    pub descriptors: Option<Vec<RuleFile>>,
    /// Where the rule stands.
    #[schemars(skip)]
    pub span: Range<usize>,
}

/// One limit, as envoyproxy/ratelimit writes it.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RateLimitFile {
    /// How many requests pass in a unit of time.
    pub requests_per_unit: Option<Spanned<u64>>,
    /// second, minute, hour, day, week, month or year.
    pub unit: Option<Spanned<String>>,
    /// No limit.
    pub unlimited: Option<Spanned<bool>>,
    /// A name for answers, metrics and `replaces`.
    pub name: Option<Spanned<String>>,
    /// Named limits that don't count in a request that meets this rule.
    pub replaces: Option<Vec<ReplacesFile>>,
}

/// A limit to leave out.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ReplacesFile {
    /// The limit's name.
    #[schemars(required)]
    pub name: Option<Spanned<String>>,
    /// Where the entry stands.
    #[schemars(skip)]
    pub span: Range<usize>,
}

/// A limit: `AMOUNT/WINDOW`, or a map with that as its `rate`.
#[derive(Clone, Debug, Default)]
pub struct LimitFile {
    pub map: LimitMapFile,
    pub span: Range<usize>,
}

impl JsonSchema for LimitFile {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<LimitMapFile>();
        schemars::json_schema!({
            "description": "AMOUNT/WINDOW, such as 10/second, 250/15m, 500/month or 3/total; or a map with that as its rate.",
            "anyOf": [{ "type": "string", "pattern": "^ *[0-9_]+ */ *[A-Za-z0-9]+ *$" }, map],
        })
    }
}

/// A limit with what else there is to say of it.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LimitMapFile {
    /// `AMOUNT/WINDOW`, such as 10/second, 250/15m, 500/month, 1000 EUR/day or 3/total. With `by_tier`, for
    /// the tiers that it does not name.
    pub rate: Option<Spanned<String>>,
    /// The rate of each tier; `none` lets the tier not pass at all, `unlimited` is no limit.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub by_tier: Option<Spanned<Named<Spanned<String>>>>,
    /// A name for answers, metrics and `replaces`.
    pub name: Option<Spanned<String>>,
    /// How the allowance comes back. Absent: lengths slide, months and years follow the calendar.
    pub algorithm: Option<Spanned<AlgorithmFile>>,
    /// For a token_bucket: how many hits pass at once when it is full; the amount if absent.
    pub burst: Option<Spanned<u64>>,
    /// What happens to a request that the limit does not have the hits for; enforce if absent.
    pub mode: Option<Spanned<ModeFile>>,
    /// Short for `mode: shadow`.
    pub shadow: Option<Spanned<bool>>,
    /// What to answer while the store is out; allow if absent.
    pub on_outage: Option<Spanned<OutageFile>>,
    /// The table that says what a request costs; as many hits as it asks for if absent.
    pub cost: Option<Spanned<String>>,
    /// What becomes of hits beyond the last ones, for costs that are known only afterwards; none if absent.
    pub overdraft: Option<Spanned<OverdraftFile>>,
    /// Wait for capacity instead of refusing.
    pub wait: Option<WaitFile>,
    /// Whether each sidecar may take hits ahead and spend them by itself; off if absent.
    pub lease: Option<Spanned<LeaseFile>>,
}

/// What goes back with each answer.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AnswerFile {
    /// Sets of response headers that tell how the limits stand.
    pub headers: Option<Vec<Spanned<HeaderSetFile>>>,
    /// Whether the headers tell of the tightest limit or of all; the tightest if absent.
    pub limits: Option<Spanned<AnswerLimitsFile>>,
    /// The body of a refusal; the gateway's own if absent.
    pub body: Option<Spanned<AnswerBodyFile>>,
    /// Which answers carry dynamic metadata on their limits; refusals if absent.
    pub metadata: Option<Spanned<AnswerMetadataFile>>,
    /// Headers for the upstream. Envoy appends them: strip them from what callers send.
    pub request_headers: Option<BTreeMap<String, Spanned<String>>>,
    /// Headers for the caller.
    pub response_headers: Option<BTreeMap<String, Spanned<String>>>,
}

/// An enumeration of the language: its words, their meaning, and their values in Rust.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
        pub enum $name {
            $($(#[$doc])* #[schemars(rename = $word)] $variant,)+
        }

        impl $name {
            /// Each word with its value.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }
    };
}

words! {
    /// How an allowance comes back.
    AlgorithmFile {
        /// In any interval of the window's length at most the amount.
        SlidingWindow = "sliding_window",
        /// At most the amount in each window, counted from the Unix epoch.
        FixedWindow = "fixed_window",
        /// A bucket of `burst` hits that refills steadily.
        TokenBucket = "token_bucket",
        /// At most the amount in each calendar period of the time zone.
        Calendar = "calendar",
    }
}

words! {
    /// What happens to a request that a limit does not have the hits for.
    ModeFile {
        /// It is refused.
        Enforce = "enforce",
        /// It is refused if every other quota of the request is over too.
        Quota = "quota",
        /// It is only told.
        Shadow = "shadow",
    }
}

words! {
    /// What becomes of hits that a limit does not have, when it has some.
    OverdraftFile {
        /// They are refused.
        None = "none",
        /// They pass and count; then everything is refused until they are paid back.
        Allow = "allow",
        /// They pass, and what the limit does not have is forgiven.
        Clip = "clip",
    }
}

words! {
    /// Whether a sidecar may take hits ahead and spend them by itself.
    LeaseFile {
        /// Where it pays.
        Auto = "auto",
        /// Never.
        Off = "off",
    }
}

words! {
    /// The answer while the store is out.
    OutageFile {
        /// The call fails (UNAVAILABLE, 503): the gateway decides, Envoy by its `failure_mode_deny`.
        Error = "error",
        /// Pass.
        Allow = "allow",
        /// Refuse.
        Deny = "deny",
        /// Enforce this sidecar's share of the limit, and charge what was spent once the store is back.
        Local = "local",
    }
}

words! {
    /// A set of response headers.
    HeaderSetFile {
        /// `RateLimit` and `RateLimit-Policy` as in the newest IETF draft.
        RateLimit = "ratelimit",
        /// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` as in its older drafts.
        RateLimitLegacy = "ratelimit-legacy",
        /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`.
        XRateLimit = "x-ratelimit",
        /// `Retry-After` with refusals.
        RetryAfter = "retry-after",
    }
}

words! {
    /// Which limits the headers tell of.
    AnswerLimitsFile {
        /// The one that is nearest to refusing.
        Tightest = "tightest",
        /// All that the request met.
        All = "all",
    }
}

words! {
    /// The body of a refusal.
    AnswerBodyFile {
        /// The gateway's own.
        Empty = "empty",
        /// A JSON problem (RFC 9457).
        Problem = "problem",
    }
}

words! {
    /// Which answers carry dynamic metadata on their limits.
    AnswerMetadataFile {
        /// All.
        Always = "always",
        /// Refusals.
        Refused = "refused",
        /// None.
        Never = "never",
    }
}

/// The JSON Schema of a policy file, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(PolicyFile).to_value()
}
