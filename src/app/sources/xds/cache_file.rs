//! The file with a copy of the last accepted response. It begins with the hash of the rest, so that a file that was cut
//! off is not taken for fewer policies.

use std::fs::{self, File};
use std::io;
use std::io::{Read, Write};
use std::path::PathBuf;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;
use sha2::{Digest, Sha256};

/// Bytes of the hash.
const HASH_LEN: usize = 32;

/// The largest file: the largest message with its hash.
const FILE_LEN_MAX: u64 = 65 * 1024 * 1024;

/// The file.
#[derive(Clone, Debug)]
pub struct CacheFile {
    path: PathBuf,
}

impl CacheFile {
    /// The file at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its response; None if there is no file.
    ///
    /// # Errors
    /// If it is unreadable, or was changed or cut off.
    pub fn read(&self) -> io::Result<Option<DiscoveryResponse>> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // A pipe would be waited for.
            Ok(metadata) if !metadata.is_file() => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is not a regular file",
                ));
            }
            known => known.map(drop)?,
        }
        let file = File::open(&self.path)?;
        let mut bytes = Vec::new();
        file.take(FILE_LEN_MAX).read_to_end(&mut bytes)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
        let (hash, rest) = bytes.split_at_checked(HASH_LEN).ok_or_else(damaged)?;
        if hash != Sha256::digest(rest).as_slice() {
            return Err(damaged());
        }
        DiscoveryResponse::decode(rest).map(Some).map_err(|_| damaged())
    }

    /// Replaces its response.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, response: &DiscoveryResponse) -> io::Result<()> {
        let bytes = response.encode_to_vec();
        let mut draft = self.path.clone().into_os_string();
        draft.push(".new");
        let mut file = File::create(&draft)?;
        file.write_all(&Sha256::digest(&bytes))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_back_and_a_damaged_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xds");
        let file = CacheFile::new(path.clone());
        assert!(file.read().unwrap().is_none());
        let response = DiscoveryResponse { version_info: "7".into(), ..Default::default() };
        file.write(&response).unwrap();
        assert_eq!(file.read().unwrap().unwrap(), response);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(file.read().is_err(), "{len}");
        }
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xds");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = CacheFile::new(path).read().unwrap_err();
        assert_eq!(error.to_string(), "it is not a regular file");
    }
}
