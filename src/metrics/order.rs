//! Sorts `/metrics`, so that two scrapes can be compared line by line.
//!
//! The library keeps the series of a metric in a hash table, and writes them in its order. Metrics themselves are in
//! the order of their registration.

/// The same text, with the series of each metric sorted by labels. The buckets of a histogram keep their order.
pub fn ordered(text: &str) -> String {
    let mut sorted = String::with_capacity(text.len());
    let mut series: Vec<(String, &str)> = Vec::new();
    for line in text.lines() {
        if !line.starts_with('#') {
            series.push((labels(line), line));
            continue;
        }
        flush(&mut series, &mut sorted);
        push(&mut sorted, line);
    }
    flush(&mut series, &mut sorted);
    sorted
}

fn flush(series: &mut Vec<(String, &str)>, sorted: &mut String) {
    series.sort_by(|(one, _), (other, _)| one.cmp(other));
    series.drain(..).for_each(|(_, line)| push(sorted, line));
}

fn push(sorted: &mut String, line: &str) {
    sorted.push_str(line);
    sorted.push('\n');
}

/// The labels of a line without the bucket's label. Quotes in values are escaped, so no value can contain the searched
/// text.
fn labels(line: &str) -> String {
    let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once("} "));
    let Some((labels, _)) = inside else { return String::new() };
    let start = if labels.starts_with("le=\"") { Some(0) } else { labels.find(",le=\"") };
    let Some(start) = start else { return labels.to_owned() };
    let bucket = &labels[start..];
    let mut quotes = bucket.match_indices('"').map(|(index, _)| index + 1);
    let end = quotes.nth(1).unwrap_or(bucket.len());
    // A comma follows, unless it is the only label.
    let rest = if start == 0 { bucket[end..].trim_start_matches(',') } else { &bucket[end..] };
    format!("{}{rest}", &labels[..start])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_sorted_by_their_labels_within_a_metric() {
        let text = "# HELP b x\n# TYPE b counter\nb_total{l=\"z\"} 1\nb_total{l=\"a} \"} 2\n# TYPE a gauge\na 3\n# EOF\n";
        let sorted = "# HELP b x\n# TYPE b counter\nb_total{l=\"a} \"} 2\nb_total{l=\"z\"} 1\n# TYPE a gauge\na 3\n# EOF\n";
        assert_eq!(ordered(text), sorted);
        assert_eq!(ordered(sorted), sorted);
    }

    #[test]
    fn the_buckets_of_a_histogram_keep_their_order() {
        let one = |label: &str| {
            let (first, last) =
                (format!("le=\"2\",l=\"{label}\""), format!("l=\"{label}\",le=\"10\""));
            format!("h_sum{{l=\"{label}\"}} 1\nh_bucket{{{first}}} 1\nh_bucket{{{last}}} 1\n")
        };
        let text = format!("# TYPE h histogram\n{}{}", one("b"), one("a"));
        assert_eq!(ordered(&text), format!("# TYPE h histogram\n{}{}", one("a"), one("b")));
        let bare = "# TYPE h histogram\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"10\"} 1\nh_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(ordered(bare), bare);
    }
}
