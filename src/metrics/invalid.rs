//! Metrics of invalid requests, which can't be decided.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What is counted of requests that can't be decided, because of what they are.
#[derive(Debug, Default)]
pub struct InvalidMetrics(Family<InvalidLabels, Counter>);

/// Why a request can't be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It is larger than a message may be.
    TooLarge,
    /// It is compressed, which nobody takes.
    Compressed,
    /// It is no message of the protocol.
    Malformed,
    /// It asks for nothing that can be decided: no domain, no descriptor, too many of something.
    Undecidable,
    /// It calls a method that the service doesn't have, such as those of an older version.
    UnknownMethod,
}

/// Where such a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Grpc,
    Http,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InvalidLabels {
    port: &'static str,
    reason: &'static str,
}

impl Invalid {
    /// Every reason.
    const ALL: [Self; 5] =
        [Self::TooLarge, Self::Compressed, Self::Malformed, Self::Undecidable, Self::UnknownMethod];

    /// As metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Compressed => "compressed",
            Self::Malformed => "malformed",
            Self::Undecidable => "undecidable",
            Self::UnknownMethod => "unknown_method",
        }
    }
}

impl Port {
    /// As metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

impl InvalidMetrics {
    /// Counts one.
    pub fn count(&self, port: Port, why: Invalid) {
        self.0.get_or_create(&labels(port, why)).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for why in Invalid::ALL {
            self.0.get_or_create_owned(&labels(Port::Grpc, why));
        }
        for why in [Invalid::TooLarge, Invalid::Malformed, Invalid::Undecidable] {
            self.0.get_or_create_owned(&labels(Port::Http, why));
        }
        registry.register(
            "invalid_requests",
            "Requests for a decision that were answered by an error, because of what they are",
            self.0.clone(),
        );
    }
}

fn labels(port: Port, why: Invalid) -> InvalidLabels {
    InvalidLabels { port: port.as_str(), reason: why.as_str() }
}
