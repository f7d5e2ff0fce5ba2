//! Metrics of invalid requests, which can't be decided.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of requests that are invalid and can't be decided.
#[derive(Debug, Default)]
pub struct InvalidMetrics(Family<InvalidLabels, Counter>);

/// The reason that a request is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The message is too large.
    TooLarge,
    /// The message is compressed, which is not supported.
    Compressed,
    /// The message is malformed.
    Malformed,
    /// The message has no domain or no descriptor, or too many parts.
    Undecidable,
    /// The method is unknown, such as one of an older version.
    UnknownMethod,
}

/// The port of such a request.
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

    /// The name in metrics and logs.
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
    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

impl InvalidMetrics {
    /// Counts one request.
    pub fn count(&self, port: Port, why: Invalid) {
        self.0.get_or_create(&labels(port, why)).inc();
    }

    /// The counter of gRPC requests that are well formed and have nothing to decide.
    pub(super) fn undecidable(&self) -> Counter {
        self.0.get_or_create_owned(&labels(Port::Grpc, Invalid::Undecidable))
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
            "Invalid requests for a decision, which were answered with an error",
            self.0.clone(),
        );
    }
}

fn labels(port: Port, why: Invalid) -> InvalidLabels {
    InvalidLabels { port: port.as_str(), reason: why.as_str() }
}
