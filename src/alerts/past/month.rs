//! A month of traffic with planted abuse: what the rules find and miss, as the page says.

use std::time::Duration;

use super::replay::replay;
use super::testing::{Counted, rule};

const HOUR: Duration = Duration::from_secs(3_600);

/// Days without abuse, from which spikes know what is usual, and the days of the month.
const DAYS_BEFORE: u32 = 35;
const DAYS: u32 = 30;

/// The hours of a day with requests.
const HOURS: u32 = 4;

const POLICY: &str = "
domain: d
caller: { key: user }
descriptors: [{ key: user, limits: [{ rate: 100/hour, algorithm: fixed_window }] }]";

/// Callers that send 16 to 24 requests an hour, and half of it on two days of the week.
const USUAL: [&str; 8] = ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7"];

/// What is planted: what it is, the caller, its day, its requests in each of so many hours.
const PLANTED: [(&str, &str, u32, u32, u32); 7] = [
    ("a client retries at once, 5 times its limit", "u1", 40, 500, 3),
    ("a client retries slowly, 2.5 times its limit", "u2", 44, 250, 4),
    ("a new caller retries slowly, 3.5 times its limit", "bot", 48, 350, 2),
    ("a caller sends 5 times as much as ever, within its limit", "u3", 50, 95, 1),
    ("a caller exceeds its limit by a tenth for an hour", "u4", 53, 110, 1),
    ("a caller has 30 % refused for a day", "u5", 56, 143, 4),
    ("a new caller sends much, within its limit", "new", 60, 95, 3),
];

const RULES: [&str; 3] = [
    "{ when: denials, above: 5 }",
    "{ when: caller_refused, above: 50%, least: 50 }",
    "{ when: spike, above: 6, least: 50 }",
];

/// Sends the requests of all days.
async fn send(counted: &Counted) {
    for day in 0..DAYS_BEFORE + DAYS {
        for hour in 0..HOURS {
            let planted = PLANTED.iter().filter(|one| one.2 == day && hour < one.4);
            let planted: Vec<_> = planted.map(|one| (one.1, one.3)).collect();
            for (index, caller) in (0..).zip(USUAL) {
                // From 16 to 24, and always the same.
                let noise = (day * 7 + hour * 5 + index * 11) % 9;
                let usual = if day % 7 < 5 { 16 + noise } else { 8 + noise / 2 };
                if planted.iter().all(|(planted, _)| *planted != caller) {
                    counted.send(&[&format!("user={caller}")], usual).await;
                }
            }
            for (caller, requests) in planted {
                counted.send(&[&format!("user={caller}")], requests).await;
            }
            counted.store().await;
            counted.advance(HOUR);
        }
        counted.advance((24 - HOURS) * HOUR);
    }
}

#[tokio::test]
async fn the_table_of_planted_abuse_is_what_was_found() {
    let counted = Counted::new(POLICY);
    send(&counted).await;
    let policies = counted.policies();
    let mut rows: Vec<String> = PLANTED.iter().map(|(what, ..)| format!("| {what} |")).collect();
    let mut false_alarms = String::from("| false alarms, of 8 usual callers in 30 days |");
    for text in RULES {
        let replayed =
            replay(&counted.sources, &policies, &rule(text), (DAYS, counted.now())).await.unwrap();
        let begin = counted.now().before(24 * HOUR * (DAYS_BEFORE + DAYS));
        let mut others = 0;
        let mut found = [false; PLANTED.len()];
        for firing in &replayed.firings {
            // It begins with the hour, a little before the first request.
            let day = firing.from.after(HOUR).since(begin).as_secs() / (24 * 3_600);
            let caller = firing.labels.get("caller").unwrap();
            match PLANTED.iter().position(|one| one.1 == caller && u64::from(one.2) == day) {
                Some(index) => found[index] = true,
                None => others += 1,
            }
        }
        for (row, found) in rows.iter_mut().zip(found) {
            row.push_str(if found { " found |" } else { " - |" });
        }
        false_alarms.push_str(&format!(" {others} |"));
    }
    rows.push(false_alarms);
    let page = include_str!("../../../config/alerts.md");
    for row in &rows {
        assert!(page.contains(row), "config/alerts.md does not have:\n{}", rows.join("\n"));
    }
}
