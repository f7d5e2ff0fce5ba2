//! Replies that have arrived in time but are read late, because the process lacks CPU.

use std::task::Poll;

use futures_util::poll;
use tokio::task::yield_now;

/// How often a request whose deadline has passed checks again for its answer: most late answers are found by the second
/// check.
const LOOKS: usize = 4;

/// The result of a call whose deadline has passed, after the runtime has read what has arrived; None if there is none.
/// In a process that lacks CPU the read is late, and not the server. In other processes this takes no time.
pub async fn look_again<F: Future + Unpin>(mut call: F) -> Option<F::Output> {
    for _ in 0..LOOKS {
        yield_now().await;
        if let Poll::Ready(answer) = poll!(&mut call) {
            return Some(answer);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn an_unread_answer_that_arrived_in_time_is_found() {
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async { answer.send(1).unwrap() });
        assert_eq!(look_again(answered).await, Some(Ok(1)));
        assert_eq!(look_again(pending::<u8>()).await, None);
    }
}
