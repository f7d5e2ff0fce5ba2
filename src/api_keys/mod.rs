//! API keys: their texts, their hashes under a pepper, what each of them may do, and whether it may make a request.
//!
//! An API key is shown once, when it is made. What is kept is its HMAC-SHA-256 under a secret of the process, the pepper, by
//! which it is also found: so neither a copy of the store nor the time of a lookup tells anything of its text.

mod client_address;
mod form;
mod json;
mod judge;
mod last_use;
mod limit;
mod list;
mod peppers;
mod record;
mod text;
mod times;

pub use client_address::client_address;
pub use form::{ApiKeyForm, ORIGIN_ANY_SUFFIX};
pub use json::{from_json, to_json};
pub use judge::{Asked, KeyRefusal, judge, may_take, needs, plain_path};
pub use last_use::LastUse;
pub use limit::ApiKeyLimit;
pub use peppers::{ApiKeyHash, Hashes, PepperError, Peppers};
pub use record::{ApiKey, ApiKeyRecord, ApiKeySecret, SECRETS_MAX};
pub use text::{ApiKeyText, ID_LEN_MAX, hint_of, is_id, is_well_formed, new_id};
pub use times::{Times, TimesForm};
