//! Opens the listeners: TCP ports, and a Unix socket with its file.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::printable;
use crate::settings::Settings;

/// The owner and the group may connect. Envoy's image runs as another user, so it shares the group.
const SOCKET_MODE: u32 = 0o660;

/// All listeners.
#[derive(Debug)]
pub struct Listeners {
    pub http: TcpListener,
    pub grpc: Option<TcpListener>,
    /// For metrics alone.
    pub metrics: Option<TcpListener>,
    pub unix: Option<UnixSocket>,
}

/// A Unix socket and its file.
#[derive(Debug)]
pub struct UnixSocket {
    pub listener: UnixListener,
    pub file: SocketFile,
}

/// The file of a Unix socket; removed on drop.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Listeners {
    /// Opens the listeners of the settings.
    ///
    /// # Errors
    /// If an address or a path is unavailable.
    pub async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let http = tcp("http_address", settings.listening.http_address).await?;
        let grpc = match settings.listening.grpc_address {
            Some(address) => Some(tcp("grpc_address", address).await?),
            None => None,
        };
        let unix = match &settings.listening.grpc_unix_socket {
            Some(path) => Some(UnixSocket::bind(path).await?),
            None => None,
        };
        let metrics = match settings.listening.metrics_address {
            Some(address) => Some(tcp("metrics_address", address).await?),
            None => None,
        };
        Ok(Self { http, grpc, metrics, unix })
    }
}

async fn tcp(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let at = format!("can't listen on {address} ({setting})");
        match error.kind() {
            io::ErrorKind::AddrInUse => anyhow!(
                "{at}: {error}; another process has it: perhaps a Tollgate that was told to end and still drains (drain_delay)"
            ),
            _ => anyhow::Error::new(error).context(at),
        }
    })
}

impl UnixSocket {
    /// Listens at `path`. A process that was killed may have left a stale file there.
    async fn bind(path: &Path) -> anyhow::Result<Self> {
        remove_stale(path).await?;
        let at = || format!("can't listen on {} (grpc_unix_socket)", printable::path(path));
        let listener = UnixListener::bind(path).with_context(at)?;
        let inode = fs::metadata(path).with_context(at)?.ino();
        let file = SocketFile { path: path.to_owned(), inode };
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).with_context(at)?;
        Ok(Self { listener, file })
    }
}

/// Removes the file of a socket without a listener.
async fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let shown = printable::path(path);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("can't look at {shown}")),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!("can't listen on {shown} (grpc_unix_socket): it exists and is not a socket")
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("can't remove the stale socket {shown}"))
        }
        Err(error) => Err(error).with_context(|| format!("can't check the listener on {shown}")),
        Ok(_) => {
            bail!("can't listen on {shown} (grpc_unix_socket): another process is listening on it")
        }
    }
}

impl SocketFile {
    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If another process has taken over the path, the file there is its own.
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(path: &Path) -> String {
        UnixSocket::bind(path).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_socket_file_comes_and_goes_with_its_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.sock");
        let socket = UnixSocket::bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        assert!(refusal(&path).await.contains("another process is listening"));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        UnixSocket::bind(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.sock");
        fs::write(&path, "mine").unwrap();
        assert!(refusal(&path).await.contains("it exists and is not a socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_file_that_another_process_put_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.sock");
        let socket = UnixSocket::bind(&path).await.unwrap();
        // Renamed, not removed, so that its inode is not reused.
        fs::rename(&path, directory.path().join("old.sock")).unwrap();
        let successor = UnixSocket::bind(&path).await.unwrap();
        drop(socket);
        assert!(path.exists());
        drop(successor);
    }
}
