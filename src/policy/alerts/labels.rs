//! The labels of alerts.

/// The labels that alerts may have.
pub const LABELS: &[&str] = &[
    "domain", "caller", "address", "api_key", "tier", "limit", "percent", "provider", "period",
    "currency", "port", "files",
];
