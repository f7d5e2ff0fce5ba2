//! A network with faults: TCP on one side, a Unix socket on the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Bytes that are forwarded at a time.
const CHUNK_LEN: usize = 16 * 1024;

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They arrive.
    Through,
    /// They arrive with this delay.
    Late(Duration),
    /// They arrive, but integers in replies that are times in milliseconds are an hour earlier, as before a clock
    /// change.
    Behind,
    /// They are kept until the way changes, like a network that loses and resends packets.
    Nowhere,
    /// They arrive at the server, and its answers are lost. Later answers would not match their requests, so the next
    /// way has to be [`Way::Cut`].
    Unanswered,
    /// Connections are closed, and new ones too.
    Cut,
}

/// A proxy that ends with its test.
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Passes connections on to a Unix socket.
    pub async fn start(socket: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, ways) = watch::channel(Way::Through);
        let task = tokio::spawn(listen(listener, PathBuf::from(socket), ways));
        Self { address, way, task }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, socket: PathBuf, ways: watch::Receiver<Way>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        tokio::spawn(pass(client, socket.clone(), ways.clone()));
    }
}

/// Forwards a connection until either side closes it, or the way is cut.
async fn pass(client: TcpStream, socket: PathBuf, mut ways: watch::Receiver<Way>) {
    if ways.wait_for(|way| *way != Way::Nowhere).await.is_err() {
        return;
    }
    let Ok(server) = UnixStream::connect(socket).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    select! {
        () = copy(from_client, to_server, ways.clone(), None) => {}
        () = copy(from_server, to_client, ways.clone(), Some(Way::Unanswered)) => {}
        _ = ways.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut ways: watch::Receiver<Way>,
    lost: Option<Way>,
) {
    let mut bytes = vec![0; CHUNK_LEN];
    loop {
        let Ok(len @ 1..) = from.read(&mut bytes).await else { return };
        let way = match ways.wait_for(|way| *way != Way::Nowhere).await {
            Ok(way) => *way,
            Err(_) => return,
        };
        if Some(way) == lost {
            continue;
        }
        if let Way::Late(delay) = way {
            // The network is this slow; the processes at both ends have real clocks.
            sleep(delay).await;
        }
        if way == Way::Behind {
            set_back(&mut bytes[..len]);
        }
        if to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}

/// Sets times in these bytes back by an hour.
fn set_back(bytes: &mut [u8]) {
    const LEN: usize = 13;
    for start in 1..(bytes.len() + 1).saturating_sub(LEN + 2) {
        let (end, digits) = (start + LEN, &bytes[start..start + LEN]);
        if bytes[start - 1] == b':' && bytes[end] == b'\r' && digits.iter().all(u8::is_ascii_digit)
        {
            let ms: u64 = str::from_utf8(digits).unwrap().parse().unwrap();
            bytes[start..end].copy_from_slice((ms - 3_600_000).to_string().as_bytes());
        }
    }
}
