//! Accepts the connections of a port or a socket for both edges. Their number is limited, and so is the time for
//! opening each. Each is served in its own task. A failed accept causes a pause. The shutdown is graceful.

mod eviction;
mod listener;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::monotonic_now;

pub use eviction::{Evictable, EvictionQueue};
pub use listener::{Acceptor, Listener};

/// Maximum time to open a connection: two round trips and a TLS signature take far less.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a failed accept: the cause, for example a lack of file descriptors, may persist.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections that a listener accepts.
#[derive(Clone, Copy, Debug)]
pub struct Accepting {
    /// The name of a connection in the log: "an HTTP connection".
    pub name: &'static str,
    /// Maximum number of connections, those that are being opened included.
    pub connections_max: usize,
    /// Whether a new connection beyond the maximum replaces the one that has waited for its client longest. Otherwise,
    /// or if none waits, the new one stays in the listener's backlog.
    pub evicts: bool,
}

/// A connection that has been opened.
#[derive(Debug)]
pub struct Connection<IO, P> {
    pub io: IO,
    pub peer: P,
    pub accepted_at: Instant,
    /// To report when it waits for its client.
    pub evictable: Arc<Evictable>,
    pub end: End,
}

/// The shutdown of a listener.
#[derive(Clone, Debug)]
pub struct End(watch::Receiver<()>);

impl End {
    /// Returns when connections must complete what is in flight and end.
    pub async fn reached(&mut self) {
        // Nothing is ever sent: an error means that the sender was dropped.
        let _ = self.0.changed().await;
    }
}

/// Accepts connections until `shutdown`, and waits until they have ended. Each is opened in its own task, so a slow
/// handshake delays no other connection. Dropping this drops the connections too.
pub async fn serve<L, O, IO, S>(
    acceptor: Acceptor<L, impl Fn(L::Stream) -> O>,
    accepting: Accepting,
    serve: impl FnOnce(Connection<IO, L::Peer>) -> S + Clone + Send + 'static,
    shutdown: impl Future<Output = ()>,
) where
    L: Listener,
    O: Future<Output = io::Result<IO>> + Send + 'static,
    IO: Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let Acceptor { listener, open } = acceptor;
    let (ending, end) = watch::channel(());
    let queue = Arc::<EvictionQueue>::default();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut pause = pin!(sleep(Duration::ZERO));
    let (mut is_paused, mut is_failing) = (false, false);
    loop {
        let is_full = accepting.connections_max <= connections.len();
        let has_room = !is_full || queue.has_waiting();
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept(), if has_room && !is_paused => match accepted {
                Ok((stream, peer)) => {
                    is_failing = false;
                    if is_full {
                        if !queue.evict() {
                            // The waiting connection has received its request meanwhile, and no other can be evicted.
                            continue;
                        }
                        // The evicted one ends at once, unless another one has ended before.
                        connections.join_next().await;
                    }
                    let evictable = queue.connection();
                    if accepting.evicts {
                        evictable.wait_for_client();
                    }
                    let opening = Opening {
                        stream: open(stream),
                        peer,
                        accepted_at: monotonic_now(),
                        evictable,
                        end: End(end.clone()),
                    };
                    connections.spawn(opening.serve(serve.clone()));
                }
                Err(error) => {
                    // Logged once, since it may fail again and again.
                    if !mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "accepting {} failed", accepting.name);
                    }
                    pause.set(sleep(ACCEPT_PAUSE));
                    is_paused = true;
                }
            },
            () = &mut pause, if is_paused => is_paused = false,
            Some(_) = connections.join_next() => {}
            () = queue.waiting_added(), if !has_room => {}
        }
    }
    drop(listener);
    drop(ending);
    while connections.join_next().await.is_some() {}
}

/// A connection to open.
struct Opening<O, P> {
    stream: O,
    peer: P,
    accepted_at: Instant,
    evictable: Arc<Evictable>,
    end: End,
}

impl<O, P, IO> Opening<O, P>
where
    O: Future<Output = io::Result<IO>>,
{
    /// Opens and serves the connection, until it ends or is evicted.
    async fn serve<S: Future<Output = ()>>(self, serve: impl FnOnce(Connection<IO, P>) -> S) {
        let Self { stream, peer, accepted_at, evictable, mut end } = self;
        let eviction = evictable.clone();
        let serving = async {
            let io = tokio::select! {
                opened = timeout(OPENING_TIMEOUT, stream) => match opened {
                    Ok(Ok(io)) => io,
                    // The failure has been logged.
                    Ok(Err(_)) => return,
                    Err(_) => {
                        tracing::debug!("a handshake took too long");
                        return;
                    }
                },
                () = end.reached() => return,
            };
            serve(Connection { io, peer, accepted_at, evictable, end }).await;
        };
        tokio::select! {
            () = serving => {}
            () = eviction.evicted() => {}
        }
    }
}

/// A listener for tests.
#[cfg(test)]
pub mod testing {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use tokio::io::DuplexStream;

    use super::*;
    use crate::lock::lock;

    /// Returns its connections one after the other, and then none.
    pub struct Queued(Mutex<VecDeque<io::Result<DuplexStream>>>);

    impl Queued {
        /// The connections.
        pub fn new(accepted: impl IntoIterator<Item = io::Result<DuplexStream>>) -> Self {
            Self(Mutex::new(accepted.into_iter().collect()))
        }
    }

    impl Listener for Queued {
        type Stream = DuplexStream;
        type Peer = ();

        async fn accept(&self) -> io::Result<(DuplexStream, ())> {
            let next = lock(&self.0).pop_front();
            match next {
                Some(accepted) => accepted.map(|stream| (stream, ())),
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::testing::Queued;
    use super::*;

    type Opened = Connection<DuplexStream, ()>;

    const TWO: Accepting = Accepting { name: "a connection", connections_max: 2, evicts: false };

    /// The clients' ends of some connections, and the server's ends.
    fn pipes<const N: usize>() -> ([DuplexStream; N], Vec<io::Result<DuplexStream>>) {
        let (clients, servers): (Vec<_>, Vec<_>) = (0..N).map(|_| duplex(64)).unzip();
        (clients.try_into().unwrap(), servers.into_iter().map(Ok).collect())
    }

    /// Sends a greeting, and stays until its client disconnects.
    async fn greet(mut connection: Opened) {
        connection.io.write_all(b"x").await.unwrap();
        connection.io.read_to_end(&mut Vec::new()).await.unwrap();
    }

    /// Sends a greeting, then waits for its client, so that it may be evicted.
    async fn greet_and_stay(mut connection: Opened) {
        connection.io.write_all(b"x").await.unwrap();
        connection.evictable.wait_for_client();
        pending::<()>().await;
    }

    async fn greeted(client: &mut DuplexStream) -> bool {
        let greeting = client.read_u8();
        timeout(Duration::from_secs(1), greeting).await.is_ok_and(|byte| byte.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_until_another_has_gone() {
        let ([mut first, mut second, mut third], servers) = pipes();
        let accepted = Acceptor::plain(Queued::new(servers));
        tokio::spawn(serve(accepted, TWO, greet, pending()));
        assert!(greeted(&mut first).await && greeted(&mut second).await);
        assert!(!greeted(&mut third).await);
        drop(first);
        assert!(greeted(&mut third).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_replaces_the_one_that_has_waited_longest() {
        let ([mut first, mut second, mut third], servers) = pipes();
        let evicts = Accepting { evicts: true, ..TWO };
        let accepted = Acceptor::plain(Queued::new(servers));
        tokio::spawn(serve(accepted, evicts, greet_and_stay, pending()));
        assert!(greeted(&mut second).await && greeted(&mut third).await);
        first.read_to_end(&mut Vec::new()).await.unwrap();
        let open = second.read_u8();
        assert!(timeout(Duration::from_secs(1), open).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_to_accept_makes_a_pause() {
        let ([mut client], servers) = pipes();
        let failed = [1, 2].map(|_| Err(io::Error::other("no files")));
        let accepted = Acceptor::plain(Queued::new(failed.into_iter().chain(servers)));
        let begun = monotonic_now();
        tokio::spawn(serve(accepted, TWO, greet, pending()));
        assert!(greeted(&mut client).await);
        assert!(2 * ACCEPT_PAUSE <= begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_takes_too_long_is_given_up() {
        let ([mut client], servers) = pipes();
        // Kept, but never opened.
        let open = |io| async move {
            pending::<()>().await;
            Ok(io)
        };
        let begun = monotonic_now();
        let accepted = Acceptor { listener: Queued::new(servers), open };
        tokio::spawn(serve(accepted, TWO, greet, pending()));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed");
        assert!(OPENING_TIMEOUT <= begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_what_is_served_and_not_for_a_handshake() {
        let end_at = async |open_ms: u64| {
            let ([_client], servers) = pipes();
            let open = move |io| async move {
                sleep(Duration::from_millis(open_ms)).await;
                Ok(io)
            };
            let linger = |mut connection: Opened| async move {
                connection.end.reached().await;
                sleep(Duration::from_millis(300)).await;
            };
            let begun = monotonic_now();
            let shutdown = sleep(Duration::from_millis(500));
            let accepted = Acceptor { listener: Queued::new(servers), open };
            serve(accepted, TWO, linger, shutdown).await;
            begun.elapsed().as_millis()
        };
        assert_eq!(end_at(0).await, 800);
        assert_eq!(end_at(5_000).await, 500);
    }
}
