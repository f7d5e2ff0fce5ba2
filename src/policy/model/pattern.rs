//! Values with `*`, which matches any text, also an empty one.

/// A value with at least one `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    prefix: String,
    middle: Vec<String>,
    suffix: String,
}

impl Pattern {
    /// The pattern of a policy's value. None if it has no `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once('*')?;
        let mut middle: Vec<String> = rest.split('*').map(str::to_owned).collect();
        let suffix = middle.pop().unwrap_or_default();
        middle.retain(|part| !part.is_empty());
        Some(Self { text: text.to_owned(), prefix: prefix.to_owned(), middle, suffix })
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a value has the pattern's parts, in order and without overlap.
    pub fn matches(&self, value: &str) -> bool {
        let Some(rest) = value.strip_prefix(self.prefix.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(self.suffix.as_str()) else { return false };
        for part in &self.middle {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }

    /// A pattern of values that match both; None if there are none.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let longer = |one, other| if str::len(one) < str::len(other) { other } else { one };
        let prefix: &str = longer(&self.prefix, &other.prefix);
        let suffix: &str = longer(&self.suffix, &other.suffix);
        let both = [self, other];
        if !both.iter().all(|one| prefix.starts_with(&one.prefix) && suffix.ends_with(&one.suffix))
        {
            return None;
        }
        let parts = both.iter().flat_map(|one| &one.middle).map(String::as_str);
        let parts: Vec<&str> = [prefix].into_iter().chain(parts).chain([suffix]).collect();
        Self::parse(&parts.join("*"))
    }

    /// A value that matches, with `filler` for each `*`.
    pub fn sample(&self, filler: &str) -> String {
        self.text.replace('*', filler)
    }

    /// Whether every value matches.
    pub fn matches_all(&self) -> bool {
        self.text.bytes().all(|byte| byte == b'*')
    }

    /// Whether every value that matches `other` also matches this pattern. A `*` in the text of `other` can only be
    /// matched by a `*` of this pattern, so its value makes no difference.
    pub fn covers(&self, other: &Self) -> bool {
        self.matches(&other.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let pattern = Pattern::parse(pattern).unwrap();
        for value in matching {
            assert!(pattern.matches(value), "{} must match {value}", pattern.as_str());
        }
        for value in others {
            assert!(!pattern.matches(value), "{} must not match {value}", pattern.as_str());
        }
    }

    #[test]
    fn parts_match_in_order_and_do_not_overlap() {
        check("foo*", &["foo", "foobar"], &["fo", "xfoo", ""]);
        check("*", &["", "anything"], &[]);
        check("bar*b", &["barb", "bar1b"], &["bar", "barbs", "xbarb"]);
        check("foo*bar*baz", &["foobarbaz", "foo1bar2baz"], &["foobaz", "foobarba", "foobaz bar"]);
        check("a*a*a", &["aaa"], &["aa", "a"]);
        check("a**b", &["ab", "axb"], &["a"]);
    }

    #[test]
    fn what_two_patterns_have_in_common_both_match() {
        let check = |one: &str, other: &str, expected: Option<&str>| {
            let (one, other) = (Pattern::parse(one).unwrap(), Pattern::parse(other).unwrap());
            let both = one.and(&other);
            assert_eq!(both.as_ref().map(Pattern::as_str), expected);
            for sample in both.iter().flat_map(|both| [both.sample(""), both.sample("x")]) {
                assert!(one.matches(&sample) && other.matches(&sample), "{sample}");
            }
        };
        check("a*", "ab*", Some("ab*"));
        check("a*", "*b", Some("a*b"));
        check("a*m*c", "ab*n*", Some("ab*m*n*c"));
        check("*", "*", Some("*"));
        check("a*", "b*", None);
        check("*a", "*b", None);
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers =
            |one, other| Pattern::parse(one).unwrap().covers(&Pattern::parse(other).unwrap());
        assert!(covers("ab*", "abc*"));
        assert!(covers("*", "x*y"));
        assert!(!covers("abc*", "ab*"));
        assert!(!covers("a*b", "a*"));
    }
}
