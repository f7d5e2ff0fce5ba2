//! The file of the audit log: rotated by size, and shared by processes.
//!
//! The file is opened and locked for each write, and a chain goes on from its last line. So several processes may write
//! to one file, and other programs may rename it. Numbered files are older: `audit.jsonl.1` is the newest of them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::line::{AuditLine, ChainEnd, Content};

/// The owner may read and write the file; the group may read it.
const MODE: u32 = 0o640;

/// How often the file is opened again if others rename it meanwhile.
const ATTEMPTS_MAX: u32 = 16;

/// Bytes to read at first in search of the last line.
const TAIL_LEN: u64 = 64 * 1024;

/// The size at which the file is rotated, and the number of older files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// None: never.
    pub size_max: Option<u64>,
    pub files_max: usize,
}

/// A file with a chain of lines.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    rotation: Rotation,
    /// The end of the chain after the last write.
    end: Option<ChainEnd>,
}

impl AuditFile {
    /// The file at `path`.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = Self { path: path.to_owned(), rotation, end: None };
        file.locked()?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds lines in one write.
    ///
    /// # Errors
    /// If they can't be written; then none is.
    pub fn append(&mut self, contents: &[Content]) -> io::Result<()> {
        let mut file = self.locked()?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            // A device or a pipe has no lines that could be read.
            let mut end = self.end.clone().unwrap_or_default();
            let text = text(contents, &mut end, self.end.is_none());
            file.write_all(text.as_bytes())?;
            self.end = Some(end);
            return Ok(());
        }
        let mut len = metadata.len();
        let (before, is_first) = self.continued(&mut file, &mut len)?;
        let mut end = before.clone();
        let mut lines = text(contents, &mut end, is_first);
        let is_full = |max: u64| max < len.saturating_add(lines.len() as u64);
        if 0 < len && self.rotation.size_max.is_some_and(is_full) {
            self.rotate()?;
            file = self.locked()?;
            len = file.metadata()?.len();
            end = before;
            lines = text(contents, &mut end, true);
        }
        if let Err(error) = file.write_all(lines.as_bytes()) {
            // Half a line would break the chain. If this fails too, the next write removes it.
            file.set_len(len).ok();
            return Err(error);
        }
        self.end = Some(end);
        Ok(())
    }

    /// The numbers of the lines for whose subjects `is_erased` holds, in all files.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn find(&self, is_erased: &dyn Fn(&str) -> bool) -> io::Result<BTreeSet<u64>> {
        let mut numbers = BTreeSet::new();
        self.each(&mut |path| {
            each_line(path, &mut |_, line| {
                numbers.extend(
                    line.filter(|line| line.subject.is_some_and(is_erased)).map(|line| line.number),
                );
                Ok(())
            })
        })?;
        Ok(numbers)
    }

    /// Removes the subjects for which `is_erased` holds from the lines with these numbers, in all files. Returns the number of
    /// lines.
    ///
    /// # Errors
    /// If a file can't be read or replaced.
    pub fn erase(
        &self,
        numbers: &BTreeSet<u64>,
        is_erased: &dyn Fn(&str) -> bool,
    ) -> io::Result<u64> {
        let mut count = 0;
        self.each(&mut |path| {
            let is_of = |line: &AuditLine<'_>| {
                numbers.contains(&line.number) && line.subject.is_some_and(is_erased)
            };
            count += erase_in(path, &is_of)?;
            Ok(())
        })?;
        Ok(count)
    }

    /// Visits all files while they are locked, the oldest first.
    fn each(&self, visit: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
        let _locked = self.locked()?;
        for number in (0..=self.rotation.files_max).rev() {
            let path = self.numbered(number);
            match fs::metadata(&path) {
                // A device or a pipe has no lines that could be read.
                Ok(metadata) if metadata.is_file() => visit(&path)?,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The file, locked until it is dropped.
    fn locked(&self) -> io::Result<File> {
        for _ in 0..ATTEMPTS_MAX {
            let mut options = OpenOptions::new();
            let file = options.read(true).append(true).create(true).mode(MODE).open(&self.path)?;
            match file.lock() {
                Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error),
                _ => {}
            }
            // It may have been renamed before it was locked.
            let (ours, named) = (file.metadata()?, fs::metadata(&self.path));
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
                return Ok(file);
            }
        }
        Err(io::Error::other("the file is renamed again and again"))
    }

    /// The end of the chain to continue, and whether the next line is the first one of a file or chain. Removes the part
    /// of a line that a crash left at the end.
    fn continued(&self, file: &mut File, len: &mut u64) -> io::Result<(ChainEnd, bool)> {
        let (last, whole) = last_line(file, *len)?;
        if whole != *len {
            file.set_len(whole)?;
            *len = whole;
        }
        let known = self.end.clone();
        let Some(last) = last else {
            // The file is new: the chain goes on from ours, or from the newest of the older files.
            return Ok((known.or_else(|| self.end_before()).unwrap_or_default(), true));
        };
        // Behind what is no line, the chain goes on from the last one that is.
        let read = AuditLine::parse(&last).map(|line| line.end());
        let read = read.map_or_else(|| last_end(&self.path), |end| Ok(Some(end)))?;
        Ok(match (read, known) {
            // Lines were removed: the gap must show.
            (Some(read), Some(known)) if read.number < known.number => (known, false),
            (Some(read), _) => (read, false),
            (None, known) => (known.or_else(|| self.end_before()).unwrap_or_default(), true),
        })
    }

    /// The end of the chain in the newest of the older files.
    fn end_before(&self) -> Option<ChainEnd> {
        last_end(&self.numbered(1)).ok()?
    }

    /// Renames the file and the older ones; the oldest one is deleted.
    fn rotate(&self) -> io::Result<()> {
        for number in (0..self.rotation.files_max).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        match self.rotation.files_max {
            0 => fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }

    fn numbered(&self, number: usize) -> PathBuf {
        match number {
            0 => self.path.clone(),
            number => with_suffix(&self.path, &number.to_string()),
        }
    }
}

/// Removes subjects from a file, which is replaced in one step.
fn erase_in(path: &Path, is_erased: &dyn Fn(&AuditLine<'_>) -> bool) -> io::Result<u64> {
    let draft = with_suffix(path, "draft");
    let written = write_erased(path, &draft, is_erased);
    let replaced = match written {
        Ok(0) | Err(_) => written,
        Ok(count) => fs::rename(&draft, path).map(|()| count),
    };
    if !matches!(replaced, Ok(1..)) {
        // It has names that may be erased from the file later.
        fs::remove_file(&draft).ok();
    }
    replaced
}

/// Writes the lines of a file to another one, some of them without their subjects. Returns the number of these.
fn write_erased(
    path: &Path,
    draft: &Path,
    is_erased: &dyn Fn(&AuditLine<'_>) -> bool,
) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(fs::metadata(path)?.mode() & 0o777);
    let mut draft = BufWriter::new(options.open(draft)?);
    let mut count = 0;
    each_line(path, &mut |bytes, line| match line.filter(is_erased) {
        Some(line) => {
            count += 1;
            writeln!(draft, "{}", line.erased())
        }
        None => draft.write_all(bytes),
    })?;
    draft.into_inner()?.sync_all()?;
    Ok(count)
}

/// Takes the bytes of a line, and what it is.
type Visit<'v> = dyn FnMut(&[u8], Option<AuditLine<'_>>) -> io::Result<()> + 'v;

/// Visits the lines of a file.
fn each_line(path: &Path, visit: &mut Visit<'_>) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? != 0 {
        let text = bytes.strip_suffix(b"\n").and_then(|line| str::from_utf8(line).ok());
        visit(&bytes, text.and_then(AuditLine::parse))?;
        bytes.clear();
    }
    Ok(())
}

/// The end of the chain in a file: its last line that is one.
fn last_end(path: &Path) -> io::Result<Option<ChainEnd>> {
    let mut end = None;
    each_line(path, &mut |_, line| {
        end = line.map(|line| line.end()).or_else(|| end.take());
        Ok(())
    })?;
    Ok(end)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(suffix);
    name.into()
}

fn text(contents: &[Content], end: &mut ChainEnd, mut is_first: bool) -> String {
    let line = |content| end.push(content, std::mem::take(&mut is_first));
    contents.iter().map(line).collect()
}

/// The last whole line, and the length of the file up to its end.
fn last_line(file: &mut File, len: u64) -> io::Result<(Option<String>, u64)> {
    let mut tail_len = TAIL_LEN;
    loop {
        let start = len.saturating_sub(tail_len);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        (&mut *file).take(len - start).read_to_end(&mut tail)?;
        let end = tail.iter().rposition(|byte| *byte == b'\n');
        let begin = end.and_then(|end| tail[..end].iter().rposition(|byte| *byte == b'\n'));
        match (begin.map(|begin| begin + 1), end) {
            (None, Some(end)) if start == 0 => {
                return Ok((Some(line(&tail[..end])), end as u64 + 1));
            }
            (None, None) if start == 0 => return Ok((None, 0)),
            (Some(begin), Some(end)) => {
                return Ok((Some(line(&tail[begin..end])), start + end as u64 + 1));
            }
            _ => tail_len = tail_len.saturating_mul(4),
        }
    }
}

fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::clock::Timestamp;
    use crate::observe::audit::erasure::erasures;
    use crate::observe::audit::verify::{Verified, verify};

    const NEVER: Rotation = Rotation { size_max: None, files_max: 3 };
    const SMALL: Rotation = Rotation { size_max: Some(1_000), files_max: 3 };

    fn content(caller: &str) -> Content {
        let subject = format!("\"caller\":\"{caller}\",\"nonce\":\"1\"");
        Content { head: "\"what\":\"put\"".to_owned(), subject: Some(subject) }
    }

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        (folder, path)
    }

    /// The files of a folder.
    fn files(folder: &TempDir) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn check(folder: &TempDir) -> Verified {
        let verified = verify(&files(folder), None).unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
        verified
    }

    #[test]
    fn the_chain_goes_on_over_rotations_and_restarts_of_two_processes() {
        let (folder, path) = folder();
        let open = || AuditFile::open(&path, SMALL).unwrap();
        let (mut one, mut other) = (open(), open());
        for number in 0..40 {
            one.append(&[content("a"), content("b")]).unwrap();
            other.append(&[content("c")]).unwrap();
            if number % 7 == 0 {
                one = open();
            }
        }
        let verified = check(&folder);
        assert_eq!(files(&folder).len(), 4, "the file and three older ones");
        assert_eq!(verified.end.number, 120);
        assert!(verified.lines < 120 && 8 < verified.lines, "{}", verified.lines);
        assert!(files(&folder).iter().all(|file| fs::metadata(file).unwrap().len() <= 1_000));
    }

    #[test]
    fn another_program_may_rename_or_empty_the_file() {
        let (folder, path) = folder();
        let mut file = AuditFile::open(&path, NEVER).unwrap();
        file.append(&[content("a")]).unwrap();
        fs::rename(&path, folder.path().join("yesterday")).unwrap();
        file.append(&[content("b")]).unwrap();
        assert_eq!(check(&folder).lines, 2);
        File::create(&path).unwrap();
        file.append(&[content("c")]).unwrap();
        let verified = verify(&files(&folder), None).unwrap();
        assert_eq!(verified.problems.len(), 1, "line 2 is gone: {:?}", verified.problems);
    }

    #[test]
    fn half_a_line_of_a_crash_is_removed() {
        let (folder, path) = folder();
        let mut file = AuditFile::open(&path, NEVER).unwrap();
        file.append(&[content("a")]).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        for half in ["{\"seq\":2,", "{"] {
            fs::write(&path, format!("{whole}{half}")).unwrap();
            AuditFile::open(&path, NEVER).unwrap().append(&[content("b")]).unwrap();
            assert_eq!(check(&folder).lines, 2);
        }
        fs::write(&path, "{\"seq\"").unwrap();
        AuditFile::open(&path, NEVER).unwrap().append(&[content("b")]).unwrap();
        assert_eq!(check(&folder).lines, 1);
    }

    #[test]
    fn lines_that_are_removed_while_the_process_runs_show() {
        let (folder, path) = folder();
        let mut file = AuditFile::open(&path, NEVER).unwrap();
        file.append(&[content("a")]).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        file.append(&[content("b")]).unwrap();
        fs::write(&path, first).unwrap();
        file.append(&[content("c")]).unwrap();
        assert_eq!(verify(&files(&folder), None).unwrap().problems.len(), 1);
    }

    #[test]
    fn a_subject_is_erased_in_all_files_and_the_chain_stays_whole() {
        let (folder, path) = folder();
        let mut file = AuditFile::open(&path, SMALL).unwrap();
        for _ in 0..6 {
            file.append(&[content("alice"), content("bob")]).unwrap();
        }
        assert!(1 < files(&folder).len());
        let is_erased = |subject: &str| subject.contains("\"alice\"");
        let numbers = file.find(&is_erased).unwrap();
        file.append(&erasures(Timestamp::from_ms(0), &numbers)).unwrap();
        let count = file.erase(&numbers, &is_erased).unwrap();
        file.append(&[content("bob")]).unwrap();
        let verified = check(&folder);
        assert_eq!((count, verified.erased, verified.end.number), (6, 6, 14));
        for file in files(&folder) {
            assert!(!fs::read_to_string(file).unwrap().contains("alice"));
        }
    }

    #[test]
    fn an_erasure_that_fails_leaves_no_draft() {
        let (folder, path) = folder();
        let mut file = AuditFile::open(&path, NEVER).unwrap();
        file.append(&[content("alice")]).unwrap();
        // A folder can't be replaced by a file.
        let rotated = folder.path().join("audit.jsonl.1");
        fs::rename(&path, folder.path().join("whole")).unwrap();
        fs::create_dir(&path).unwrap();
        fs::rename(folder.path().join("whole"), &rotated).unwrap();
        let is_erased = |line: &AuditLine<'_>| line.subject.is_some();
        assert!(write_erased(&path, &with_suffix(&path, "draft"), &is_erased).is_err());
        assert!(erase_in(&path, &is_erased).is_err());
        assert_eq!(files(&folder), [path, rotated]);
    }

    #[test]
    fn behind_what_is_no_line_the_chain_goes_on() {
        let (folder, path) = folder();
        let mut file = AuditFile::open(&path, NEVER).unwrap();
        file.append(&[content("a"), content("b")]).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}garbage\n\u{0}\n")).unwrap();
        AuditFile::open(&path, NEVER).unwrap().append(&[content("c")]).unwrap();
        let verified = verify(&files(&folder), None).unwrap();
        assert_eq!((verified.lines, verified.end.number), (3, 3));
        assert_eq!(verified.problems.len(), 2, "{:?}", verified.problems);
        assert!(verified.problems.iter().all(|problem| problem.contains("the line has no hash")));
        // Also if a file has nothing else.
        fs::rename(&path, folder.path().join("audit.jsonl.1")).unwrap();
        fs::write(&path, "garbage\n").unwrap();
        AuditFile::open(&path, NEVER).unwrap().append(&[content("d")]).unwrap();
        assert_eq!(verify(&files(&folder), None).unwrap().end.number, 4);
    }

    #[test]
    fn lines_of_an_older_version_stay_before_the_chain() {
        let (folder, path) = folder();
        fs::write(&path, "{\"at\":\"1970-01-01T00:00:01.5Z\",\"who\":\"ops\"}\n").unwrap();
        AuditFile::open(&path, NEVER).unwrap().append(&[content("a")]).unwrap();
        let verified = check(&folder);
        assert_eq!((verified.lines, verified.unchained), (1, 1));
    }
}
