//! The enumerations of a policy file: their words, and what each means.

use schemars::JsonSchema;

/// An enumeration of the language.
pub trait Word: Copy + 'static {
    /// Each word with its value.
    const WORDS: &'static [(&'static str, Self)];
}

/// Declares an enumeration: its words, their meaning, and their values in Rust.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
        pub enum $name {
            $($(#[$doc])* #[schemars(rename = $word)] $variant,)+
        }

        impl Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
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
        /// `X-Quota-Warning` with an answer that crosses a threshold of a limit.
        QuotaWarning = "x-quota-warning",
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
