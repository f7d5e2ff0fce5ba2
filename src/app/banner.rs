//! The first lines on a terminal: the addresses of the listeners, and a request to try.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use tracing::field::display;

use super::listeners::Listeners;
use super::store;
use crate::engine::Engine;
use crate::observe::audit::Destination;
use crate::observe::logs;
use crate::policy::{Mode, PolicySet, Rule, RuleLimit, RuleValue, TierLimit};
use crate::printable;
use crate::printable::is_escaped;
use crate::settings::{Settings, TlsFiles};
use crate::version::VERSION;

/// The largest limit that can be tried by hand.
const TRIED_AMOUNT_MAX: u64 = 20;

/// The addresses of the process, and a request to try.
#[derive(Debug)]
pub struct Banner {
    pub store: String,
    pub grpc: Option<SocketAddr>,
    pub unix: Option<PathBuf>,
    pub http: SocketAddr,
    /// Security of the gRPC port.
    pub grpc_tls: Security,
    pub http_tls: Security,
    pub domains: usize,
    pub trial: Option<Trial>,
}

impl Banner {
    /// The banner of a process with these settings and listeners.
    ///
    /// # Errors
    /// If the system does not report an address.
    pub fn of(settings: &Settings, engine: &Engine, listeners: &Listeners) -> io::Result<Self> {
        let policies = engine.policies();
        let grpc = listeners.grpc.as_ref().map(|listener| listener.local_addr()).transpose()?;
        // A request to a port with TLS needs certificates whose paths are unknown here.
        let is_plain = settings.listening.http_tls_cert_file.is_none();
        let may_refuse = !settings.policies.shadow_mode;
        Ok(Self {
            store: store::name(engine.store()),
            grpc,
            unix: listeners.unix.as_ref().map(|socket| socket.file.path().to_owned()),
            http: listeners.http.local_addr()?,
            grpc_tls: Security::of(&settings.listening.grpc_tls()),
            http_tls: Security::of(&settings.listening.http_tls()),
            domains: policies.domains().len(),
            trial: (may_refuse && is_plain).then(|| Trial::of(&policies)).flatten(),
        })
    }

    /// Reports the addresses: in the logs if they are JSON. Else on standard output, or on standard error if standard output
    /// is the audit log.
    pub fn show(&self, format: logs::Format, audit: &Destination) {
        let Self { grpc, unix, http, grpc_tls, http_tls, store, .. } = self;
        match format {
            // The parent process may have closed the stream. That must not end the process.
            logs::Format::Text if *audit == Destination::Stdout => {
                write!(io::stderr(), "{self}").unwrap_or_default();
            }
            logs::Format::Text => write!(io::stdout(), "{self}").unwrap_or_default(),
            logs::Format::Json => {
                let grpc = grpc.map(display);
                let unix = unix.as_ref().map(|path| display(path.display()));
                tracing::info!(grpc, unix, %http, %grpc_tls, %http_tls, store, "Tollgate is ready");
            }
        }
    }
}

/// The security of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    Tls,
    /// Clients need a certificate.
    MutualTls,
}

impl Security {
    /// The security of a port with these files.
    pub fn of(files: &TlsFiles) -> Self {
        match (&files.cert_file, &files.client_ca_file) {
            (None, _) => Self::Plain,
            (Some(_), None) => Self::Tls,
            (Some(_), Some(_)) => Self::MutualTls,
        }
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Tls => "TLS",
            Self::MutualTls => "mutual TLS",
        })
    }
}

/// A request that is refused if it is repeated.
#[derive(Debug)]
pub struct Trial {
    domain: String,
    key: String,
    value: String,
    /// Number of requests that pass.
    passing: u64,
}

impl Trial {
    /// A request for the smallest limit that is quickly exhausted.
    pub fn of(policies: &PolicySet) -> Option<Self> {
        let trials = policies.domains().into_iter().flat_map(|domain| {
            let trial = |rule| Self::of_rule((&domain.name, domain.classes.default_tier), rule);
            domain.rules().iter().filter_map(trial)
        });
        trials.min_by_key(|trial| trial.passing)
    }

    /// A request that the rule meets, of a caller of the tier.
    fn of_rule((domain, tier): (&str, usize), rule: &Rule) -> Option<Self> {
        let value = match &rule.value {
            RuleValue::Exact(value) => value.as_str(),
            RuleValue::Any => "alice",
            RuleValue::Pattern { .. } | RuleValue::Joined { .. } | RuleValue::Among { .. } => {
                return None;
            }
        };
        let enforced = rule.limits.iter().all(|limit| limit.mode == Mode::Enforce);
        let capacity = |limit: &Arc<RuleLimit>| match limit.of_tier(tier) {
            TierLimit::Limit(limit) => Some(limit.capacity()),
            TierLimit::None => Some(0),
            TierLimit::Unlimited => None,
        };
        let passing = rule.limits.iter().filter_map(capacity).min()?;
        let (domain, key) = (domain.to_owned(), rule.key.clone());
        // Quotes would need escapes twice, for JSON and for the shell.
        let is_plain = [&domain, &key, value]
            .iter()
            .all(|text| !text.chars().any(|c| matches!(c, '"' | '\'' | '\\') || is_escaped(c)));
        (is_plain && enforced && (1..=TRIED_AMOUNT_MAX).contains(&passing)).then(|| Self {
            domain,
            key,
            value: value.to_owned(),
            passing,
        })
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.domains == 1 { "" } else { "s" };
        writeln!(f, "Tollgate {VERSION}: {} domain{plural}, {}", self.domains, self.store)?;
        if let Some(address) = self.grpc {
            writeln!(f, "  gRPC  {address}{}", aside(self.grpc_tls))?;
        }
        if let Some(path) = &self.unix {
            writeln!(f, "  gRPC  unix:{}", printable::path(path))?;
        }
        let scheme = if self.http_tls == Security::Plain { "http" } else { "https" };
        writeln!(f, "  HTTP  {scheme}://{}{}", reachable(self.http), aside(self.http_tls))?;
        if let Some(trial) = &self.trial {
            let Trial { domain, key, value, passing } = trial;
            let requests = passing + 1;
            let url = reachable(self.http);
            writeln!(f, "Try this; {passing} pass, the next is refused with 429:")?;
            writeln!(
                f,
                "  for i in $(seq {requests}); do curl -s -o /dev/null -w '%{{http_code}} ' {url}/json \\\n    \
                 -d '{{\"domain\":\"{domain}\",\"descriptors\":[{{\"entries\":[{{\"key\":\"{key}\",\"value\":\"{value}\"}}]}}]}}'; done"
            )?;
        }
        Ok(())
    }
}

/// The text after an address.
fn aside(security: Security) -> String {
    if security == Security::Plain { String::new() } else { format!(" ({security})") }
}

/// An address that clients on this machine can connect to: not the unspecified address.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CompileOptions, Source, compile};

    fn trial(rules: &str) -> Option<Trial> {
        let text = format!("domain: shop\ndescriptors: [{rules}]");
        let source = Source { path: "p.yaml".to_owned(), text };
        Trial::of(&compile(&[source], CompileOptions::default()).unwrap())
    }

    #[test]
    fn the_trial_spends_the_smallest_limit_by_hand() {
        let rules = "{key: a, limits: [9/day, 4/hour]}, {key: b, value: c, limits: [3/day]}";
        let Trial { domain, key, value, passing } = trial(rules).unwrap();
        let found = (domain.as_str(), key.as_str(), value.as_str(), passing);
        assert_eq!(found, ("shop", "b", "c", 3));
    }

    #[test]
    fn the_trial_is_a_caller_of_the_default_tier() {
        let text = "domain: shop\ntiers: [free, paid]\ncaller: { key: user, tier: { key: tier, default: paid } }\n\
                    descriptors: [{ key: user, limits: [{ name: a, by_tier: { free: 2/day, paid: 7/day } }] }]";
        let source = Source { path: "p.yaml".to_owned(), text: text.to_owned() };
        let trial = Trial::of(&compile(&[source], CompileOptions::default()).unwrap());
        assert_eq!(trial.map(|trial| trial.passing), Some(7));
    }

    #[test]
    fn a_limit_that_never_refuses_or_not_soon_is_no_trial() {
        assert!(trial("{key: a, limits: [1000/day]}").is_none());
        assert!(trial("{key: a, limits: [{rate: 2/day, mode: shadow}]}").is_none());
        assert!(trial("{key: a, value: 'it''s', limits: [2/day]}").is_none());
    }
}
