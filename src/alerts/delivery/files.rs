//! Files of channels. They are read for each notification, so that they may be replaced while the process runs.

use std::fs::File;
use std::io::Read;

use super::send_error::SendError;
use super::signature::Secrets;

/// Maximum size of a file of a channel.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// The secrets of a file.
///
/// # Errors
/// If the file can't be read or has no valid secrets.
pub fn secrets(file: &str) -> Result<Secrets, SendError> {
    let text = String::from_utf8_lossy(&read(file)?).into_owned();
    let named = |source| SendError::Secrets { file: file.to_owned(), source };
    Secrets::parse(&text).map_err(named)
}

/// The text of a file without the end of its line.
///
/// # Errors
/// If the file can't be read.
pub fn line(file: &str) -> Result<String, SendError> {
    Ok(String::from_utf8_lossy(&read(file)?).trim().to_owned())
}

/// The bytes of a file.
///
/// # Errors
/// If the file can't be read.
pub fn read(file: &str) -> Result<Vec<u8>, SendError> {
    let mut bytes = Vec::new();
    let read =
        File::open(file).and_then(|opened| opened.take(FILE_LEN_MAX).read_to_end(&mut bytes));
    read.map_err(|source| SendError::File { file: file.to_owned(), source })?;
    Ok(bytes)
}
