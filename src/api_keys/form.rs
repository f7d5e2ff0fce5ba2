//! The form of an API key over HTTP and in the store, and its conversion to an [`ApiKey`] and back.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limit::limits;
use super::list::{is_default, items};
use super::record::ApiKey;
use super::times::TimesForm;
use crate::policy::{Flaw, Flaws, check_caller_name, check_text, parse_until, show_time};

/// Maximum bytes of a name, a scope, a tier and an origin.
const NAME_LEN_MAX: usize = 256;
const SCOPE_LEN_MAX: usize = 64;
const TIER_LEN_MAX: usize = 64;
const ORIGIN_LEN_MAX: usize = 256;

/// The beginning of an origin that stands for all hosts below a domain, after the scheme.
pub const ORIGIN_ANY_SUFFIX: &str = "*.";

/// An API key, without its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ApiKey")]
pub struct ApiKeyForm {
    /// The caller in whose name requests are made.
    #[schemars(required)]
    pub caller: String,
    /// A name for people.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// What it may do, such as hotels:read. The `routes` of the policy say which requests need which scopes.
    #[serde(skip_serializing_if = "is_default")]
    pub scopes: Vec<String>,
    /// The tier of its requests, instead of the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// A date, at whose end it expires, or a time, such as 2027-12-31 or 2027-12-31T12:00:00Z; never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Addresses and networks from which it may be used, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32; all if absent.
    #[serde(skip_serializing_if = "is_default")]
    pub addresses: Vec<String>,
    /// Origins of pages that may use it, such as `https://app.example.com` or `https://*.example.com`; all if absent.
    #[serde(skip_serializing_if = "is_default")]
    pub origins: Vec<String>,
    /// The times at which it may be used; always if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<TimesForm>,
    /// Limits of its own, such as 100/minute, 10000/month or 5000/total, which never resets: each of its requests takes one
    /// from all of them, or none if one has no more. At most 8.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Vec<String>,
    /// It is refused.
    #[serde(skip_serializing_if = "is_default")]
    pub disabled: bool,
}

impl ApiKeyForm {
    /// The API key of the form.
    ///
    /// # Errors
    /// All problems of the form.
    pub fn check(&self) -> Result<ApiKey, Vec<Flaw>> {
        let mut flaws = Flaws::default();
        flaws.take(&["caller"], check_caller_name(&self.caller));
        if !self.name.is_empty() {
            flaws.take(&["name"], check_text(&self.name, "the name", NAME_LEN_MAX));
        }
        if let Some(tier) = &self.tier {
            flaws.take(&["tier"], check_text(tier, "the tier", TIER_LEN_MAX));
        }
        let expires_at = self
            .expires_at
            .as_deref()
            .and_then(|text| flaws.take(&["expires_at"], parse_until(text)));
        let scopes = items(&mut flaws, &["scopes"], &self.scopes, parse_scope);
        let addresses = items(&mut flaws, &["addresses"], &self.addresses, parse_network);
        let origins = items(&mut flaws, &["origins"], &self.origins, parse_origin);
        let when = self.when.as_ref().and_then(|times| times.check(&mut flaws));
        let limits = limits(&mut flaws, &self.limits);
        if !flaws.0.is_empty() {
            return Err(flaws.0);
        }
        Ok(ApiKey {
            caller: self.caller.as_str().into(),
            name: self.name.clone(),
            scopes,
            tier: self.tier.as_deref().map(Box::from),
            expires_at,
            addresses,
            origins,
            when: when.map(Arc::new),
            limits: limits.into(),
            disabled: self.disabled,
        })
    }
}

/// A scope is a word: OAuth separates scopes by spaces, and so does the header.
fn parse_scope(text: &str) -> Result<Box<str>, String> {
    check_text(text, "a scope", SCOPE_LEN_MAX)?;
    let is_fine = |byte: u8| byte.is_ascii_graphic() && !b"\"\\,".contains(&byte);
    match text.bytes().all(is_fine) {
        true => Ok(text.into()),
        false => Err(format!("invalid scope `{text}`; use a word such as hotels:read")),
    }
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().map(|network| network.trunc()),
    };
    network.map(canonical).map_err(|_| {
        format!("invalid address `{text}`; use an address or a network, such as 192.0.2.0/24")
    })
}

/// IPv4 for a network of IPv6 that stands for it, because addresses of clients are written so.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(network) => {
            network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(96))
        }
        IpNet::V4(_) => None,
    };
    mapped
        .and_then(|(address, len)| Some(IpNet::V4(Ipv4Net::new(address, len).ok()?)))
        .unwrap_or(network)
}

fn parse_origin(text: &str) -> Result<Box<str>, String> {
    check_text(text, "an origin", ORIGIN_LEN_MAX)?;
    let origin = text.to_ascii_lowercase();
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
    let host = host.map(|host| host.strip_prefix(ORIGIN_ANY_SUFFIX).unwrap_or(host));
    match host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_fine)) {
        true => Ok(origin.into()),
        false => Err(format!(
            "invalid origin `{text}`; use scheme and host, such as https://app.example.com"
        )),
    }
}

impl From<&ApiKey> for ApiKeyForm {
    fn from(key: &ApiKey) -> Self {
        let texts = |texts: &[Box<str>]| texts.iter().map(ToString::to_string).collect();
        let network = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        Self {
            caller: key.caller.to_string(),
            name: key.name.clone(),
            scopes: texts(&key.scopes),
            tier: key.tier.as_deref().map(str::to_owned),
            expires_at: key.expires_at.map(show_time),
            addresses: key.addresses.iter().map(network).collect(),
            origins: texts(&key.origins),
            when: key.when.as_ref().map(|times| times.form.clone()),
            limits: key.limits.iter().map(|limit| limit.text.to_string()).collect(),
            disabled: key.disabled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(json: serde_json::Value) -> ApiKeyForm {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_form_becomes_an_api_key_and_a_form_again() {
        let json = serde_json::json!({
            "caller": "acme", "name": "booking engine", "scopes": ["hotels:read", "hotels:book"],
            "tier": "premium", "expires_at": "2028-01-01T00:00:00Z",
            "addresses": ["192.0.2.7", "198.51.100.0/24", "2001:db8::/32", "::1"],
            "origins": ["https://app.example.com", "https://*.example.org:8443"], "disabled": true,
            "when": { "timezone": "Asia/Tokyo", "weekdays": ["monday-friday"] },
            "limits": ["100/minute", "10000/month", "5000/total"],
        });
        let key = form(json.clone()).check().unwrap();
        assert_eq!(serde_json::to_value(ApiKeyForm::from(&key)).unwrap(), json);
        let least = serde_json::json!({ "caller": "acme" });
        let key = form(least.clone()).check().unwrap();
        assert_eq!(serde_json::to_value(ApiKeyForm::from(&key)).unwrap(), least);
        let mapped = form(serde_json::json!({
            "caller": "a", "addresses": ["::ffff:10.0.0.1", "::ffff:10.1.0.0/112", "::/0", "::ffff:0:0/95"],
        }));
        let mapped = ApiKeyForm::from(&mapped.check().unwrap());
        assert_eq!(mapped.addresses, ["10.0.0.1", "10.1.0.0/16", "::/0", "::fffe:0:0/95"]);
        // Bits of a network's host are dropped, and a date ends with its day.
        let loose = form(serde_json::json!({
            "caller": "a", "addresses": ["192.0.2.7/24"], "expires_at": "2027-12-31",
        }));
        let loose = ApiKeyForm::from(&loose.check().unwrap());
        assert_eq!(loose.addresses, ["192.0.2.0/24"]);
        assert_eq!(loose.expires_at.as_deref(), Some("2028-01-01T00:00:00Z"));
    }

    #[test]
    fn every_flaw_is_told_with_its_place() {
        let flaws = form(serde_json::json!({
            "caller": "", "name": "a\nb", "scopes": ["ok", "a b"], "tier": "", "expires_at": "soon",
            "addresses": ["192.0.2.0/33", "host"], "origins": ["example.com", "https://a/b", "https://"],
            "limits": ["1/day", "x/day"],
        }));
        let flaws = flaws.check().unwrap_err();
        let places: Vec<String> = flaws.iter().map(|flaw| flaw.path.join(".")).collect();
        let expected = [
            "caller",
            "name",
            "tier",
            "expires_at",
            "scopes.1",
            "addresses.0",
            "addresses.1",
            "origins.0",
            "origins.1",
            "origins.2",
            "limits.1",
        ];
        assert_eq!(places, expected);
    }
}
