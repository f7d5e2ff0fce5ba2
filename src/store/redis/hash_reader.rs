//! Reads many hashes over a connection of its own: on the one that requests share, their replies would wait behind it.
//!
//! Fields are read where they arrived, while the server sends more of them.

use std::fmt;
use std::sync::Arc;

use ::redis::Cmd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{ConnectError, target};
use super::link::Link;
use super::resp::{Content, garbled, part};
use super::settings::Login;
use super::socket::{Socket, Target};
use super::sums_link::in_time;
use crate::store::StoreError;
use crate::store::sums::SumsError;

/// Number of hashes that are asked for at once, while the replies of as many are read.
const WINDOW: usize = 64;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// A connection to read hashes.
pub struct HashReader {
    link: Arc<Link>,
    socket: Box<dyn Socket>,
    buffer: Vec<u8>,
    /// The bytes at the start of the buffer that were read.
    read: usize,
}

impl HashReader {
    /// Connects to the server of a link.
    ///
    /// # Errors
    /// If it does not accept the connection in time.
    pub async fn connect(link: Arc<Link>) -> Result<Self, StoreError> {
        if !link.breaker().is_healthy() {
            return Err(link.unavailable());
        }
        let failed = |error: ConnectError| StoreError::Disconnected {
            address: link.address().to_owned(),
            reason: error.to_string(),
        };
        let connecting = async {
            let target = target(link.settings(), Login::Charges).await.map_err(failed)?;
            let socket = target.open().await.map_err(|error| failed(error.into()))?;
            let (link, buffer) = (link.clone(), Vec::new());
            let mut reader = Self { link, socket, buffer, read: 0 };
            reader.log_in(&target).await?;
            Ok(reader)
        };
        in_time(connecting).await
    }

    /// Visits the fields of hashes, each with the index of its key.
    ///
    /// # Errors
    /// That of the visitor; or the server does not answer as expected, after which the connection is of no use.
    pub async fn visit(
        &mut self,
        keys: &[String],
        mut visitor: impl FnMut(usize, &str, &str) -> Result<(), SumsError>,
    ) -> Result<(), SumsError> {
        let mut windows = keys.chunks(WINDOW);
        self.ask(windows.next().unwrap_or_default()).await?;
        for (window, asked) in keys.chunks(WINDOW).enumerate() {
            self.ask(windows.next().unwrap_or_default()).await?;
            for index in 0..asked.len() {
                let index = window * WINDOW + index;
                self.visit_hash(|field, value| visitor(index, field, value)).await?;
            }
        }
        Ok(())
    }

    async fn log_in(&mut self, target: &Target) -> Result<(), StoreError> {
        let login = target.connection.redis_settings();
        let mut commands = Vec::new();
        if let Some(password) = login.password() {
            let mut auth = Cmd::new();
            auth.arg("AUTH").arg(login.username()).arg(password);
            commands.push(auth);
        }
        if login.db() != 0 {
            let mut select = Cmd::new();
            select.arg("SELECT").arg(login.db());
            commands.push(select);
        }
        for command in commands {
            self.write(&command.get_packed_command()).await?;
            while part(&self.buffer[self.read..])?.is_none() {
                self.receive().await?;
            }
            let Some(answer) = part(&self.buffer[self.read..])? else { continue };
            match answer.content {
                Content::Status => self.read += answer.len,
                Content::Error(error) => return Err(StoreError::Refused(error.to_owned())),
                _ => return Err(garbled("no status")),
            }
        }
        Ok(())
    }

    async fn ask(&mut self, keys: &[String]) -> Result<(), StoreError> {
        let mut commands = Vec::new();
        for key in keys {
            let mut command = Cmd::new();
            command.arg("HGETALL").arg(key);
            command.write_packed_command(&mut commands);
        }
        in_time(self.write(&commands)).await
    }

    /// Visits the fields of the next hash.
    async fn visit_hash(
        &mut self,
        mut visitor: impl FnMut(&str, &str) -> Result<(), SumsError>,
    ) -> Result<(), SumsError> {
        let mut fields = None;
        loop {
            let mut bytes = &self.buffer[self.read..];
            while fields != Some(0) {
                let Some(first) = part(bytes)? else { break };
                let rest = &bytes[first.len..];
                fields = match (first.content, fields) {
                    (Content::Array(len), None) => Some(len / 2),
                    (Content::Text(field), Some(left)) => {
                        let Some(second) = part(rest)? else { break };
                        let Content::Text(value) = second.content else {
                            return Err(garbled("a field without a value").into());
                        };
                        visitor(field, value)?;
                        self.read += second.len;
                        Some(left - 1)
                    }
                    (Content::Error(error), None) => return Err(self.refused(error).into()),
                    _ => return Err(garbled("no hash").into()),
                };
                self.read += first.len;
                bytes = &self.buffer[self.read..];
            }
            if fields == Some(0) {
                return Ok(());
            }
            in_time(self.receive()).await?;
        }
    }

    fn refused(&self, error: &str) -> StoreError {
        if ["MOVED ", "ASK "].iter().any(|slot| error.starts_with(slot)) {
            self.link.doubt_nodes();
        }
        StoreError::Refused(error.to_owned())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let link = &self.link;
        let lost = |error: std::io::Error| link.lost(error.to_string());
        self.socket.write_all(bytes).await.map_err(lost)?;
        // TLS has a buffer.
        self.socket.flush().await.map_err(lost)
    }

    /// Receives more bytes.
    async fn receive(&mut self) -> Result<(), StoreError> {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(self.link.lost("the server closed the connection".to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(self.link.lost(error.to_string())),
        }
    }
}

impl fmt::Debug for HashReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashReader").field("address", &self.link.address()).finish_non_exhaustive()
    }
}
