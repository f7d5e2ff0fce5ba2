//! Sessions of the dashboard: a signed cookie. The process keeps nothing of them.

use super::signing::SigningKey;
use crate::clock::Timestamp;

/// Seconds that a session lasts.
pub const SESSION_S: u64 = 8 * 3_600;

/// Random bytes that distinguish the sessions of one name.
const NONCE_LEN: usize = 16;

const PURPOSE: &str = "session";
const FORM_PURPOSE: &str = "form";

/// A session of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The name of its token; empty before the login.
    pub name: String,
    /// Seconds since the epoch.
    expires: u64,
    nonce: String,
}

impl Session {
    /// A new session.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn new(name: &str, now: Timestamp) -> Result<Self, getrandom::Error> {
        let expires = now.as_ms() / 1_000 + SESSION_S;
        Ok(Self { name: name.to_owned(), expires, nonce: nonce()? })
    }

    /// The session in a cookie, if it is signed and has not expired. `secret_of` is what a name's session depends on, such as
    /// the hash of its token; None if there is no such name.
    pub fn read(
        text: &str,
        key: &SigningKey,
        now: Timestamp,
        secret_of: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        // The name is the last part, because it may have dots.
        let mut parts = text.splitn(4, '.');
        let (expires, nonce, signature, name) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let secret = secret_of(name)?;
        if !key.verifies(signature, PURPOSE, &[name, expires, nonce, &secret]) {
            return None;
        }
        let session =
            Self { name: name.to_owned(), expires: expires.parse().ok()?, nonce: nonce.to_owned() };
        (now.as_ms() / 1_000 < session.expires).then_some(session)
    }

    /// The text of its cookie.
    pub fn text(&self, key: &SigningKey, secret: &str) -> String {
        let Self { name, expires, nonce } = self;
        let signature = key.sign(PURPOSE, &[name, &expires.to_string(), nonce, secret]);
        format!("{expires}.{nonce}.{signature}.{name}")
    }

    /// The token that a form of this session must send back.
    pub fn form_token(&self, key: &SigningKey) -> String {
        key.sign(FORM_PURPOSE, &[&self.name, &self.expires.to_string(), &self.nonce])
    }

    /// Whether a form has the token of this session.
    pub fn has_form_token(&self, key: &SigningKey, token: &str) -> bool {
        key.verifies(token, FORM_PURPOSE, &[&self.name, &self.expires.to_string(), &self.nonce])
    }
}

/// Random hexadecimal digits.
///
/// # Errors
/// If the system has no random bytes.
pub fn nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0; NONCE_LEN];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_and_can_not_be_changed() {
        let key = SigningKey::random().unwrap();
        let at = |second: u64| Timestamp::from_ms(second * 1_000);
        let session = Session::new("ops.eu", at(100)).unwrap();
        let text = session.text(&key, "hash");
        let secret_of = |name: &str| (name == "ops.eu").then(|| "hash".to_owned());
        let read = |text: &str, second| Session::read(text, &key, at(second), secret_of);
        assert_eq!(read(&text, 100), Some(session.clone()));
        assert_eq!(read(&text, 99 + SESSION_S), Some(session.clone()));
        assert_eq!(read(&text, 100 + SESSION_S), None);
        for changed in [text.replace("ops", "opt"), format!("9{text}"), String::new()] {
            assert_eq!(read(&changed, 100), None, "{changed}");
        }
        let other_token = |_: &str| Some("other".to_owned());
        assert_eq!(Session::read(&text, &key, at(100), other_token), None);
        let token = session.form_token(&key);
        assert!(session.has_form_token(&key, &token));
        let other = Session::new("ops.eu", at(100)).unwrap();
        assert!(!other.has_form_token(&key, &token));
    }
}
