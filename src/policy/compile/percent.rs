//! Parses whole percentages.

/// Parses `80%`, from 1% to `max`.
///
/// # Errors
/// A clause with the reason; `what` is the name of the percentage.
pub fn percent(text: &str, what: &str, max: u16) -> Result<u16, String> {
    let number = text.trim().strip_suffix('%').map(str::trim_end);
    let digits = number.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let percent = digits.and_then(|digits| digits.parse::<u16>().ok());
    let valid = percent.filter(|percent| (1..=max).contains(percent));
    valid.ok_or_else(|| {
        format!("invalid {what} `{text}`; use a whole percentage from 1% to {max}%, such as 10%")
    })
}
