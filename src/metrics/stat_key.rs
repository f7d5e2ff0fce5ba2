//! Names of counters as envoyproxy/ratelimit makes them: the domain and a step for each entry, joined by dots.
//!
//! Its exporter cuts such a name at the dots: the first part is the label `domain`, the next two are `key1` and `key2`, and
//! the rest has no label. So a dot in a domain or a value shifts the labels, as there.

/// The maximum length of a key, in bytes: values of requests are cut there.
const LEN_MAX: usize = 512;

/// The key of one set of counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatKey(String);

impl StatKey {
    /// The key of a domain without steps.
    pub fn of_domain(domain: &str) -> Self {
        let mut key = Self::default();
        key.start(domain);
        key
    }

    /// A key from its text.
    pub fn parsed(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Makes it that of a domain without steps; its memory is used again.
    pub fn start(&mut self, domain: &str) {
        self.0.clear();
        self.push(domain);
    }

    /// Adds a step of a key, with its value if it has one.
    pub fn step(&mut self, key: &str, value: Option<&str>) {
        self.push_char('.');
        self.push(key);
        if let Some(value) = value {
            self.push_char('_');
            self.push(value);
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain, and the first two steps if there are as many.
    pub fn labels(&self) -> (&str, Option<&str>, Option<&str>) {
        let mut parts = self.0.split('.');
        (parts.next().unwrap_or_default(), parts.next(), parts.next())
    }

    /// Adds text in which no colon, bar or address can be taken for another part of a line of statsd.
    fn push(&mut self, text: &str) {
        let mut in_address = 0;
        for (at, char) in text.char_indices() {
            if in_address <= at && char.is_ascii_digit() {
                in_address = at + address_len(&text.as_bytes()[at..]);
            }
            self.push_char(match char {
                ':' | '|' => '_',
                '.' if at < in_address => '_',
                char => char,
            });
        }
    }

    fn push_char(&mut self, char: char) {
        if self.0.len() + char.len_utf8() <= LEN_MAX {
            self.0.push(char);
        }
    }
}

/// The length of the IPv4 address with which a text begins; 0 if it does not.
fn address_len(text: &[u8]) -> usize {
    let mut len = 0;
    for part in 0..4 {
        let digits = text[len..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return 0;
        }
        len += digits;
        if part < 3 {
            if text.get(len) != Some(&b'.') {
                return 0;
            }
            len += 1;
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_reference() {
        let check = |domain: &str, steps: &[(&str, Option<&str>)], expected: &str| {
            let mut key = StatKey::of_domain(domain);
            steps.iter().for_each(|(name, value)| key.step(name, *value));
            assert_eq!(key.as_str(), expected);
        };
        check("d", &[("user", None), ("op", Some("read"))], "d.user.op_read");
        check("d", &[("ip", Some("10.0.0.1"))], "d.ip_10_0_0_1");
        check("d", &[("range", Some("192.168.0.0/16"))], "d.range_192_168_0_0/16");
        check("d", &[("path", Some("/v1.2/a:b|c"))], "d.path_/v1.2/a_b_c");
        check("d", &[("v", Some("1.2.3"))], "d.v_1.2.3");
        check("d", &[("v", Some("12345.2.3.4.5é"))], "d.v_12345_2_3_4.5é");
        check("example.com", &[("k", Some(""))], "example.com.k_");
        let mut long = StatKey::of_domain("d");
        long.step("k", Some(&"é".repeat(10_000)));
        assert!(long.as_str().len() <= LEN_MAX);
    }

    #[test]
    fn its_parts_are_labels_up_to_the_third() {
        let check = |text: &str, expected| {
            assert_eq!(StatKey(text.to_owned()).labels(), expected, "{text}");
        };
        check("d.k_v", ("d", Some("k_v"), None));
        check("d.a.b.c.d", ("d", Some("a"), Some("b")));
        check("example.com.k", ("example", Some("com"), Some("k")));
    }
}
