//! The timeout of a call: the client's `grpc-timeout`, up to a maximum.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use http::HeaderMap;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;

/// The header with the client's timeout.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// After this time, a call does not wait for a store: the default deadline of the store is a tenth of it.
const LINGERING: Duration = Duration::from_millis(100);

/// The part of its timeout, in quarters, that a call may wait for the store: of Envoy's 20ms, 15ms.
const STORE_WAIT_SHARE: (u32, u32) = (3, 4);

/// Maximum number of digits of the number in it.
const DIGITS_MAX: usize = 8;

/// The client's timeout, if the header has one: a number and its unit.
pub fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(GRPC_TIMEOUT)?.to_str().ok()?)
}

/// The most that a call waits for the store: so that its client still gets the answer of `on_outage`. None without a timeout.
pub fn store_wait_max(metadata: &MetadataMap) -> Option<Duration> {
    let timeout = parse(metadata.get(GRPC_TIMEOUT)?.to_str().ok()?)?;
    Some(timeout / STORE_WAIT_SHARE.1 * STORE_WAIT_SHARE.0)
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=DIGITS_MAX).contains(&digits.len());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The output of a future within a time; None after a timeout. A future that is ready at once needs no timer. A future
/// that takes longer than [`LINGERING`] is reported.
pub async fn within<T>(
    limit: Duration,
    mut future: impl Future<Output = T> + Unpin,
    lingers: impl FnOnce(),
) -> Option<T> {
    if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(future.poll_unpin(cx))).await {
        return Some(answer);
    }
    if let Ok(answer) = timeout(limit.min(LINGERING), &mut future).await {
        return Some(answer);
    }
    let left = limit.saturating_sub(LINGERING);
    if left.is_zero() {
        return None;
    }
    lingers();
    timeout(left, future).await.ok()
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_client_says_how_long_it_waits() {
        let check = |text, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(text));
            assert_eq!(client_timeout(&headers), expected, "{text}");
        };
        check("20m", Some(Duration::from_millis(20)));
        check("2H", Some(Duration::from_secs(7_200)));
        check("3M", Some(Duration::from_secs(180)));
        check("4S", Some(Duration::from_secs(4)));
        check("5u", Some(Duration::from_micros(5)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        for text in ["", "m", "1", "1x", "-1m", "123456789m"] {
            check(text, None);
        }
        assert_eq!(client_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn a_call_waits_for_the_store_until_its_client_can_still_get_an_answer() {
        let mut metadata = MetadataMap::new();
        assert_eq!(store_wait_max(&metadata), None);
        metadata.insert(GRPC_TIMEOUT, "20m".parse().unwrap());
        assert_eq!(store_wait_max(&metadata), Some(Duration::from_millis(15)));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_takes_longer_than_its_time() {
        let check = async |limit_ms, takes_ms, answers: bool, lingers: bool| {
            let limit = Duration::from_millis(limit_ms);
            // In the runtime's paused time, which passes at once.
            let sleep = Box::pin(tokio::time::sleep(Duration::from_millis(takes_ms)));
            let mut lingered = false;
            let answer = within(limit, sleep, || lingered = true).await;
            assert_eq!((answer.is_some(), lingered), (answers, lingers), "{limit_ms} {takes_ms}");
        };
        assert_eq!(within(Duration::ZERO, ready(1), || ()).await, Some(1));
        check(1_000, 99, true, false).await;
        check(1_000, 999, true, true).await;
        check(1_000, 1_001, false, true).await;
        check(50, 51, false, false).await;
        check(100, 101, false, false).await;
    }
}
