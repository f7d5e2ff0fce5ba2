//! Links with names in them.

/// A text as a part of a query.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// The page of a caller.
pub fn caller(name: &str) -> String {
    format!("/dashboard/caller?name={}", encoded(name))
}

/// The page of an API key.
pub fn api_key(id: &str) -> String {
    format!("/dashboard/api-key?id={}", encoded(id))
}

/// The list of the API keys of a caller.
pub fn api_keys_of(caller: &str) -> String {
    format!("/dashboard/api-keys?caller={}", encoded(caller))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_characters_is_one_value() {
        assert_eq!(encoded("a b&c=é/.."), "a%20b%26c%3D%C3%A9%2F..");
        assert_eq!(caller("<x>"), "/dashboard/caller?name=%3Cx%3E");
    }
}
