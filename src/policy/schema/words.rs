//! The enumerations of a policy file: their words with their meanings.

use schemars::JsonSchema;

/// An enumeration of the language.
pub trait Word: Copy + 'static {
    /// The words with their values.
    const WORDS: &'static [(&'static str, Self)];
}

/// Declares an enumeration: its words, their meanings, and their values in Rust.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
        pub enum $name {
            $($(#[$doc])* #[schemars(rename = $word)] $variant,)+
        }

        impl Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }
    };
}

words! {
    /// The algorithm of a limit.
    AlgorithmFile {
        /// At most the amount in any interval of the window's length.
        SlidingWindow = "sliding_window",
        /// At most the amount in each window, aligned to the Unix epoch.
        FixedWindow = "fixed_window",
        /// A bucket of `burst` hits that refills steadily.
        TokenBucket = "token_bucket",
        /// At most the amount in each calendar period, in the time zone of the policy.
        Calendar = "calendar",
    }
}

words! {
    /// The effect of an exhausted limit on a request.
    ModeFile {
        /// The limit does not apply: nothing is charged.
        Off = "off",
        /// The request passes; answers and metrics report the refusal.
        Warn = "warn",
        /// The request is refused.
        Enforce = "enforce",
        /// The request is refused, without overdraft, and also while the store is unavailable.
        Strict = "strict",
        /// The request is refused if all its quotas are used up.
        Quota = "quota",
        /// The request passes; the refusal is recorded.
        Shadow = "shadow",
    }
}

words! {
    /// What holds for API keys while the store is unavailable.
    ApiKeyOutageFile {
        /// Every request with an API key is refused.
        Deny = "deny",
        /// API keys that this process has seen pass as last known; others are refused.
        Cached = "cached",
    }
}

words! {
    /// What holds for requests that match none of the routes.
    OtherRoutesFile {
        /// They are refused.
        Deny = "deny",
        /// They pass with any valid API key.
        Allow = "allow",
    }
}

words! {
    /// Whether a charge may exceed the remaining hits, if there are any.
    OverdraftFile {
        /// The request is refused.
        None = "none",
        /// The charge counts in full. The limit then refuses until the excess has left the window, or is given back.
        Allow = "allow",
        /// The charge counts up to the limit; the excess is not charged.
        Clip = "clip",
    }
}

words! {
    /// Whether a sidecar may take hits ahead and spend them locally.
    LeaseFile {
        /// For frequently used keys.
        Auto = "auto",
        /// Never.
        Off = "off",
    }
}

words! {
    /// The answer of a limit while Redis is unavailable.
    OutageFile {
        /// The call fails (UNAVAILABLE, 503), and the gateway decides: Envoy by `failure_mode_deny`.
        Error = "error",
        /// The limit allows the request.
        Allow = "allow",
        /// The limit refuses the request.
        Deny = "deny",
        /// The sidecar enforces its share of the remaining hits, and charges them in Redis afterwards.
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
        /// `X-Quota-Warning` with an answer that crosses a threshold of a limit, or during a grace.
        QuotaWarning = "x-quota-warning",
        /// `X-Quota-Granted` where a limit is `partial`: how many hits the request got. The upstream gets it too.
        QuotaGranted = "x-quota-granted",
    }
}

words! {
    /// The limits that headers describe.
    AnswerLimitsFile {
        /// The limit that is closest to refusing.
        Tightest = "tightest",
        /// All limits that apply to the request.
        All = "all",
    }
}

words! {
    /// The body of a refusal.
    AnswerBodyFile {
        /// No body: the gateway uses its own.
        Empty = "empty",
        /// A JSON problem (RFC 9457) with the limit and the retry time.
        Problem = "problem",
    }
}

words! {
    /// The answers that have dynamic metadata with details of their limits.
    AnswerMetadataFile {
        /// All answers.
        Always = "always",
        /// Refusals only.
        Refused = "refused",
        /// No answer.
        Never = "never",
    }
}

words! {
    /// A place of a refusal's id in the answer.
    RefusalIdFile {
        /// The response header `X-Refusal-Id`.
        Header = "header",
        /// The dynamic metadata, as `refusal_id`.
        Metadata = "metadata",
        /// The JSON problem, as `refusal_id`.
        Body = "body",
    }
}

words! {
    /// What an alert follows.
    AlertSignalFile {
        /// A caller has crossed a threshold of a limit: once for each caller, limit, window and threshold.
        Threshold = "threshold",
        /// Refused requests of one caller, `over` a time.
        Denials = "denials",
        /// The refused part of all requests, in percent, `over` a time.
        Refused = "refused",
        /// The part of all requests that fail, in percent, `over` a time.
        Errors = "errors",
        /// Errors of the store, `over` a time.
        StoreErrors = "store_errors",
        /// The store is unavailable.
        StoreDown = "store_down",
        /// The time to decide that 99 % of the requests don't exceed, `over` a time.
        Latency = "latency",
        /// Requests that are held for capacity.
        Queue = "queue",
        /// The time that requests are held for capacity, which 99 % of them don't exceed, `over` a time.
        QueueDelay = "queue_delay",
        /// The used part of a limit of a provider, in percent.
        Capacity = "capacity",
        /// The files of policies, callers or alerts are invalid, so that older ones are in force.
        ConfigInvalid = "config_invalid",
        /// The time until a certificate of a port expires.
        Certificate = "certificate",
        /// The time since when there is no connection to the xDS server.
        XdsSilent = "xds_silent",
        /// What requests cost, in money, `over` an hour or a day.
        Spend = "spend",
        /// The part of the daily budget that is spent on a day, in percent, or that would be at the rate of the last hour.
        Budget = "budget",
        /// The requests of a caller in an hour, against its own past: deviations above the median of the same hour of the
        /// weeks before.
        Spike = "spike",
        /// The refused part of the requests of a caller in an hour, in percent.
        CallerRefused = "caller_refused",
        /// The time until a limit of a caller is used up, by its forecast.
        Forecast = "forecast",
        /// Callers from one address, `over` a time.
        AddressCallers = "address_callers",
        /// API keys from one address, `over` a time.
        AddressApiKeys = "address_api_keys",
        /// Addresses of one caller, `over` a time.
        CallerAddresses = "caller_addresses",
        /// Addresses of one API key, `over` a time.
        ApiKeyAddresses = "api_key_addresses",
        /// Requests of one caller that arrive together: within `over`, a second or less.
        Burst = "burst",
        /// Identifiers that a caller asks for one after the other, up or down: more of them than chance explains, `over` a time.
        Probing = "probing",
        /// The part of the hits that a provider has counted itself and no decision explains, in percent, in the last hour
        /// that was reported.
        Bypass = "bypass",
        /// The risk of a caller, from 0 to 100, from the alerts about it.
        Risk = "risk",
    }
}

words! {
    /// What a rule about money has an alert for.
    AlertSplitFile {
        /// Each provider.
        Provider = "provider",
        /// Each tier.
        Tier = "tier",
    }
}

words! {
    /// The severity of an alert.
    AlertSeverityFile {
        /// For information.
        Info = "info",
        /// It may become a problem.
        Warning = "warning",
        /// It is a problem.
        Error = "error",
        /// Somebody must act now.
        Critical = "critical",
    }
}

words! {
    /// The type of a channel.
    ChannelTypeFile {
        /// The log of the process.
        Log = "log",
        /// A CloudEvent by HTTP POST, signed as in Standard Webhooks.
        Webhook = "webhook",
        /// A message by an incoming webhook of Slack.
        Slack = "slack",
        /// A message by a webhook of Discord.
        Discord = "discord",
        /// An event of PagerDuty's Events API v2.
        PagerDuty = "pagerduty",
        /// An e-mail.
        Email = "email",
    }
}

words! {
    /// The encryption of a connection to a mail server.
    MailTlsFile {
        /// STARTTLS, which the server must have.
        Starttls = "starttls",
        /// TLS from the first byte.
        Always = "always",
        /// None, for a server on this machine.
        Never = "never",
    }
}

words! {
    /// Which requests hold an estimate; those that name other hits are debits.
    EstimateAtFile {
        /// Those that name no hits.
        Request = "request",
        /// Those that name 0 hits.
        Peek = "peek",
    }
}

words! {
    /// The word for no limit.
    UnlimitedFile {
        /// No limit applies.
        Unlimited = "unlimited",
    }
}
