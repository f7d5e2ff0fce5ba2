//! Signatures of webhooks, as in Standard Webhooks 1.0: HMAC-SHA256 over the id, the time and the body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The prefix of a secret.
const PREFIX: &str = "whsec_";

/// Bytes of a secret.
const LEN_MIN: usize = 16;
const LEN_MAX: usize = 128;

/// Maximum number of secrets of a channel: the new one and some old ones.
const SECRETS_MAX: usize = 5;

/// The secrets of a channel. Each signs, so that a receiver with an old one accepts the signature too.
#[derive(Clone)]
pub struct Secrets(Vec<Vec<u8>>);

/// Why a file has no secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    #[error("the file has no secret")]
    None,
    #[error("the file has more than {SECRETS_MAX} secrets")]
    Many,
    #[error(
        "line {line} is no secret; use `{PREFIX}` and {LEN_MIN} to {LEN_MAX} random bytes in base64"
    )]
    Invalid { line: usize },
}

impl Secrets {
    /// The secrets of a text, one on each line.
    ///
    /// # Errors
    /// If there are none or too many, or if one is invalid. The message has no part of them.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        let secret = |(index, line): (usize, &str)| {
            let bytes = line.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
            let bytes = bytes.filter(|bytes| (LEN_MIN..=LEN_MAX).contains(&bytes.len()));
            bytes.ok_or(SecretsError::Invalid { line: index + 1 })
        };
        let secrets: Vec<Vec<u8>> = lines.map(secret).collect::<Result<_, _>>()?;
        match secrets.len() {
            0 => Err(SecretsError::None),
            len if SECRETS_MAX < len => Err(SecretsError::Many),
            _ => Ok(Self(secrets)),
        }
    }

    /// The header `webhook-signature`.
    pub fn sign(&self, id: &str, at_s: u64, body: &[u8]) -> String {
        let sign = |secret: &Vec<u8>| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let mut context = hmac::Context::with_key(&key);
            context.update(format!("{id}.{at_s}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the libraries of Standard Webhooks.
        let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_of_a_rotation_signs() {
        let one = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let secrets = Secrets::parse(&format!("{other}\n\n{one}\n")).unwrap();
        let both = secrets.sign("a", 1, b"b");
        let of = |secret: &str| Secrets::parse(secret).unwrap().sign("a", 1, b"b");
        assert_eq!(both, format!("{} {}", of(&other), of(one)));
    }

    #[test]
    fn a_bad_secret_is_told_by_its_line_alone() {
        let check = |text: &str, expected| {
            assert_eq!(Secrets::parse(text).err(), Some(expected));
        };
        check("\n", SecretsError::None);
        check("whsec_YQ==", SecretsError::Invalid { line: 1 });
        check("\nsecret", SecretsError::Invalid { line: 2 });
        let many = format!("whsec_{}\n", STANDARD.encode([7; 32])).repeat(SECRETS_MAX + 1);
        check(&many, SecretsError::Many);
    }
}
