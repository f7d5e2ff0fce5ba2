//! Adds sums. Mirrors `merge` in `redis/sums.lua`.

use smallvec::SmallVec;

/// Maximum of a sum, which is exact in Lua.
const MAX: u64 = 1 << 53;

/// Sums with a name, by their letters in the order of their appearance.
struct Row<'t> {
    name: &'t str,
    sums: SmallVec<[(char, u64); 10]>,
}

/// The sum of two texts: lower-case letters are added; for capitals the largest number is kept.
pub fn merge(old: &str, new: &str) -> String {
    let mut rows: SmallVec<[Row<'_>; 4]> = SmallVec::new();
    for (name, sums) in rows_of(old).chain(rows_of(new)) {
        let known = rows.iter().position(|row| row.name == name);
        let index = known.unwrap_or_else(|| {
            rows.push(Row { name, sums: SmallVec::new() });
            rows.len() - 1
        });
        let Some(row) = rows.get_mut(index) else { continue };
        for (letter, number) in sums_of(sums) {
            match row.sums.iter_mut().find(|(known, _)| *known == letter) {
                None => row.sums.push((letter, number)),
                Some((_, sum)) if letter.is_ascii_uppercase() => *sum = number.max(*sum),
                Some((_, sum)) => *sum = sum.saturating_add(number).min(MAX),
            }
        }
    }
    let text = |row: &Row<'_>| {
        let sums: String = row.sums.iter().map(|(letter, sum)| format!("{letter}{sum}")).collect();
        format!("{}={sums}", row.name)
    };
    rows.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// The names in a text, each with its sums.
pub fn rows_of(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(' ').filter_map(|row| row.split_once('='))
}

/// The sum of the letter `a` over all names: the activity of a caller.
pub fn weight(text: &str) -> u64 {
    let all = rows_of(text).flat_map(|(_, sums)| sums_of(sums));
    all.filter(|(letter, _)| *letter == 'a').map(|(_, sum)| sum).sum()
}

/// The sums of a name, by their letters.
pub fn sums_of(text: &str) -> impl Iterator<Item = (char, u64)> {
    let numbered = text.split_inclusive(|character: char| character.is_ascii_alphabetic());
    let letters = text.chars().filter(char::is_ascii_alphabetic);
    let digits = numbered.skip(1).map(|part| part.trim_end_matches(|c: char| !c.is_ascii_digit()));
    letters.zip(digits).map(|(letter, digits)| (letter, digits.parse().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_and_of_capitals_the_greatest_stays() {
        assert_eq!(merge("", "=a1"), "=a1");
        assert_eq!(merge("=a2e3T10", "=a1b1T4"), "=a3e3T10b1");
        assert_eq!(merge("r=a1e3T9", "s=a1 r=a2T12"), "r=a3e3T12 s=a1");
        assert_eq!(merge("=a9007199254740992", "=a5"), "=a9007199254740992");
        assert_eq!(weight("a1b=a2e9 x=e5a3"), 5);
    }
}
