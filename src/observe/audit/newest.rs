//! Reads the newest lines of the file of the audit log. Older files are not read.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes that are read from the end of the file.
const TAIL_LEN: u64 = 2 * 1024 * 1024;

/// The newest lines of a file, the newest first, among those of its last bytes. There are none without a file.
///
/// # Errors
/// If it can't be read.
pub fn newest_lines(path: &Path, max: usize) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        // A device or a pipe has no lines that could be read.
        return Ok(Vec::new());
    }
    let start = metadata.len().saturating_sub(TAIL_LEN);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_LEN).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first one is not whole.
    let lines = text.lines().skip(usize::from(start != 0));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.reverse();
    lines.truncate(max);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_newest_line_is_the_first() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("log");
        assert_eq!(newest_lines(&path, 9).unwrap(), Vec::<String>::new());
        fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(newest_lines(&path, 2).unwrap(), ["c", "b"]);
        let long = "x".repeat(usize::try_from(TAIL_LEN).unwrap());
        fs::write(&path, format!("{long}\nb\nc\n")).unwrap();
        assert_eq!(newest_lines(&path, 9).unwrap(), ["c", "b"]);
    }
}
