//! Replies that have arrived in time and are read late, because the process is short of CPU.

use std::task::Poll;

use futures_util::poll;
use tokio::task::yield_now;

/// How often a request whose time is up looks once more whether its answer has come: most that are there after all are
/// at the second time.
const LOOKS: usize = 4;

/// What a call answers whose time is up, once the runtime has read what has come meanwhile; None if that isn't its answer.
/// In a process that is short of CPU it is the reading that is late, and not the server. In any other this takes no time.
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
