//! Reads YAML files and directories of them.
//!
//! A directory includes every `*.yaml` and `*.yml` in it and below, in the order of their names. Names that start with
//! a dot are ignored, so the files of a Kubernetes ConfigMap are read once, and not again through its `..data`. A root
//! that is a file is read whatever its name. Symlinks are followed. Files with other names are reported, except hidden
//! files, editor backups and Markdown.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::watch_targets::WatchTargets;
use crate::policy::Source;
use crate::printable;

/// The largest file; about 100,000 rules of a policy.
const FILE_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Total bytes of the files of one set. Reading and compiling them takes several times as much memory.
const TOTAL_LEN_MAX: u64 = 64 * 1024 * 1024;

/// Files in one set. Each policy file is a domain.
const FILES_MAX: usize = 10_000;

/// Directories in one set, each with a watch.
const DIRECTORIES_MAX: usize = 1_000;

/// The files and directories of policies, or of callers.
#[derive(Clone, Debug)]
pub struct SourceFiles {
    roots: Vec<PathBuf>,
    /// Whether files of all names are read, as envoyproxy/ratelimit does.
    all_names: bool,
}

/// The files found.
#[derive(Debug)]
pub struct Reading {
    pub sources: Result<Vec<Source>, SourceFilesError>,
    pub targets: WatchTargets,
    /// Files that were ignored because of their names, but may be meant.
    pub skipped: Vec<PathBuf>,
}

/// The reason that files are unreadable.
#[derive(Debug, thiserror::Error)]
pub enum SourceFilesError {
    #[error("can't read {}: {source}", printable::path(path))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not a file", printable::path(path))]
    NoFile { path: PathBuf },
    #[error("{} is larger than {FILE_LEN_MAX} bytes", printable::path(path))]
    TooLarge { path: PathBuf },
    #[error(
        "{} and the files before it exceed {TOTAL_LEN_MAX} bytes in total",
        printable::path(path)
    )]
    TooMuch { path: PathBuf },
    #[error("too many files: more than {FILES_MAX} files or {DIRECTORIES_MAX} directories")]
    TooMany,
    #[error("no *.yaml or *.yml files in {roots}{}", others(skipped))]
    None { roots: String, skipped: Vec<PathBuf> },
}

impl SourceFiles {
    /// The files and directory trees at `roots`.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots, all_names: false }
    }

    /// The same, with files of all names in directories.
    pub fn of_all_names(self) -> Self {
        Self { all_names: true, ..self }
    }

    /// Reads everything.
    pub fn read(&self) -> Reading {
        let mut walk = Walk { all_names: self.all_names, ..Walk::default() };
        let read = self.roots.iter().try_for_each(|root| walk.root(root));
        let sources = match read {
            Ok(()) if walk.sources.is_empty() => {
                let (roots, skipped) = (self.names(), walk.skipped.clone());
                Err(SourceFilesError::None { roots, skipped })
            }
            Ok(()) => Ok(walk.sources),
            Err(error) => Err(error),
        };
        Reading { sources, targets: walk.targets, skipped: walk.skipped }
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.roots.iter().map(|root| printable::path(root)).collect();
        names.join(", ")
    }
}

#[derive(Debug, Default)]
struct Walk {
    sources: Vec<Source>,
    targets: WatchTargets,
    skipped: Vec<PathBuf>,
    total_len: u64,
    all_names: bool,
}

impl Walk {
    fn root(&mut self, root: &Path) -> Result<(), SourceFilesError> {
        self.targets.trace(root);
        let metadata = fs::metadata(root).map_err(|source| unreadable(root, source))?;
        if metadata.is_dir() { self.directory(root) } else { self.file(root) }
    }

    fn directory(&mut self, path: &Path) -> Result<(), SourceFilesError> {
        let real = fs::canonicalize(path).map_err(|source| unreadable(path, source))?;
        // A directory that was already visited may contain itself.
        if !self.targets.directories.insert(real) {
            return Ok(());
        }
        if DIRECTORIES_MAX < self.targets.directories.len() {
            return Err(SourceFilesError::TooMany);
        }
        for path in entries(path)? {
            let is_symlink = path.is_symlink();
            if is_symlink {
                self.targets.trace(&path);
            }
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.directory(&path)?,
                Ok(metadata) if self.is_read(&path) => {
                    // For example a pipe: a read would block until there is a writer.
                    if !metadata.is_file() {
                        return Err(SourceFilesError::NoFile { path });
                    }
                    self.file(&path)?;
                }
                Err(source) if self.is_read(&path) => return Err(unreadable(&path, source)),
                Ok(metadata) if metadata.is_file() && should_warn(&path) => {
                    if self.skipped.len() < FILES_MAX {
                        self.skipped.push(path);
                    }
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Whether a file with this name is read.
    fn is_read(&self, path: &Path) -> bool {
        is_yaml(path) || (self.all_names && should_warn(path))
    }

    fn file(&mut self, path: &Path) -> Result<(), SourceFilesError> {
        if self.sources.len() == FILES_MAX {
            return Err(SourceFilesError::TooMany);
        }
        let mut text = String::new();
        let file = fs::File::open(path).map_err(|source| unreadable(path, source))?;
        let read = file.take(FILE_LEN_MAX + 1).read_to_string(&mut text);
        let len = read.map_err(|source| unreadable(path, source))?;
        if u64::try_from(len).is_ok_and(|len| FILE_LEN_MAX < len) {
            return Err(SourceFilesError::TooLarge { path: path.to_owned() });
        }
        self.total_len += u64::try_from(len).unwrap_or(u64::MAX);
        if TOTAL_LEN_MAX < self.total_len {
            return Err(SourceFilesError::TooMuch { path: path.to_owned() });
        }
        self.sources.push(Source { path: printable::path(path), text });
        Ok(())
    }
}

/// The entries of a directory that are not hidden, by name.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, SourceFilesError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(|source| unreadable(directory, source))? {
        let entry = entry.map_err(|source| unreadable(directory, source))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_yaml(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    matches!(extension, Some("yaml" | "yml"))
}

/// Whether a file with another ending may be meant as a policy, since envoyproxy/ratelimit reads files of all names.
/// Backups of editors and merges, and Markdown, are not.
fn should_warn(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let is_backup = name.ends_with(b"~") || (name.starts_with(b"#") && name.ends_with(b"#"));
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    !is_backup && !["md", "bak", "orig", "rej", "swp", "tmp"].contains(&extension)
}

/// The other files found, for a message.
fn others(skipped: &[PathBuf]) -> String {
    match skipped {
        [] => String::new(),
        [one] => format!("; {} has another name: rename it, or list it", printable::path(one)),
        [first, rest @ ..] => {
            let (first, more) = (printable::path(first), rest.len());
            format!(
                "; {first} and {more} more files have other names: rename them, or list them one by one"
            )
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> SourceFilesError {
    SourceFilesError::Unreadable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A directory with these files.
    fn tree(files: &[&str]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "domain: d").unwrap();
        }
        directory
    }

    fn read(root: &Path) -> Reading {
        SourceFiles::new(vec![root.to_owned()]).read()
    }

    #[track_caller]
    fn check(root: &Path, expected: &[&str]) {
        let sources = read(root).sources.unwrap();
        let found: Vec<&Path> = sources.iter().map(|source| Path::new(&source.path)).collect();
        let expected: Vec<PathBuf> = expected.iter().map(|name| root.join(name)).collect();
        assert_eq!(found, expected);
    }

    fn error(root: &Path) -> String {
        read(root).sources.unwrap_err().to_string()
    }

    #[test]
    fn a_tree_gives_its_files_by_name() {
        let files = ["b.yml", "a/z.yaml", "a.yaml", "notes.txt", ".hidden.yaml", ".git/x.yaml"];
        check(tree(&files).path(), &["a/z.yaml", "a.yaml", "b.yml"]);
    }

    #[test]
    fn files_of_all_names_are_read_on_request() {
        let files = tree(&["basic", "b.yaml", ".hidden", "c~"]);
        let read = SourceFiles::new(vec![files.path().to_owned()]).of_all_names().read();
        let names = read.sources.unwrap().into_iter();
        let names: Vec<_> = names.map(|source| source.path).collect();
        let expected = ["b.yaml", "basic"].map(|name| files.path().join(name));
        assert_eq!(names, expected.map(|path| path.display().to_string()));
    }

    #[test]
    fn files_of_other_names_are_told_of_if_they_may_be_meant() {
        let files = tree(&[
            "p.yaml",
            "basic",
            "json.json",
            "a/notes.txt",
            ".hidden",
            "p.yaml~",
            "#p.yaml#",
            "README.md",
            "p.yaml.orig",
            "..data/p",
            ".git/config",
        ]);
        let skipped = read(files.path()).skipped;
        let names: Vec<_> = skipped
            .iter()
            .map(|path| path.strip_prefix(files.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["a/notes.txt", "basic", "json.json"]);
        let message = error(tree(&["basic"]).path());
        assert!(message.contains("basic has another name"), "{message}");
    }

    #[test]
    fn a_config_map_gives_each_file_once() {
        let map = tree(&["..2026_1/p.yaml"]);
        symlink("..2026_1", map.path().join("..data")).unwrap();
        symlink("..data/p.yaml", map.path().join("p.yaml")).unwrap();
        check(map.path(), &["p.yaml"]);

        let at = |path: &str| fs::canonicalize(map.path()).unwrap().join(path);
        let targets = read(map.path()).targets;
        for path in ["..data", "p.yaml", "new.yaml", "..2026_1/p.yaml"] {
            assert!(targets.affects(&at(path)), "{path} in {targets:?}");
        }
        assert!(!targets.affects(&at("..2026_1/other.yaml")), "{targets:?}");
    }

    #[test]
    fn a_single_file_is_watched_through_its_directory() {
        let files = tree(&["p.conf", "log.txt"]);
        let root = files.path().join("p.conf");
        let reading = read(&root);
        assert_eq!(reading.sources.unwrap().len(), 1);
        let directory = fs::canonicalize(files.path()).unwrap();
        assert!(reading.targets.watched().contains(directory.as_path()));
        assert!(reading.targets.affects(&directory.join("p.conf")));
        assert!(!reading.targets.affects(&directory.join("log.txt")));
    }

    #[test]
    fn a_release_that_a_link_leads_to_is_watched_by_the_link() {
        let files = tree(&["releases/1/policies/p.yaml"]);
        symlink("releases/1", files.path().join("current")).unwrap();
        let root = files.path().join("current/policies");
        check(&root, &["p.yaml"]);
        let targets = read(&root).targets;
        assert!(targets.affects(&fs::canonicalize(files.path()).unwrap().join("current")));
    }

    #[test]
    fn a_directory_that_contains_itself_is_read_once() {
        let files = tree(&["a/p.yaml"]);
        symlink("..", files.path().join("a/loop")).unwrap();
        check(files.path(), &["a/p.yaml"]);
    }

    #[test]
    fn what_is_missing_is_named_and_watched_for() {
        let files = tree(&[]);
        let root = files.path().join("gone/policies");
        let message = error(&root);
        assert!(message.contains("gone/policies: No such file"), "{message}");
        assert!(read(&root).targets.affects(&fs::canonicalize(files.path()).unwrap().join("gone")));
        assert!(error(files.path()).contains("no *.yaml or *.yml files in /"));
    }

    #[test]
    fn what_can_not_be_a_text_is_named() {
        let files = tree(&["p.yaml"]);
        let path = files.path().join("p.yaml");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(error(files.path()).contains("p.yaml: stream did not contain valid UTF-8"));
        fs::File::create(&path).unwrap().set_len(FILE_LEN_MAX + 1).unwrap();
        assert!(error(files.path()).contains("p.yaml is larger than 16777216 bytes"));
        for name in ["1.yaml", "2.yaml", "3.yaml", "4.yaml", "5.yaml"] {
            let file = fs::File::create(files.path().join(name)).unwrap();
            file.set_len(FILE_LEN_MAX - 1_000_000).unwrap();
        }
        let message = error(files.path());
        let expected = "5.yaml and the files before it exceed 67108864 bytes in total";
        assert!(message.ends_with(expected), "{message}");
        for name in ["1.yaml", "2.yaml", "3.yaml", "4.yaml", "5.yaml"] {
            fs::remove_file(files.path().join(name)).unwrap();
        }
        fs::remove_file(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(error(files.path()).contains("p.yaml is not a file"));
        drop(socket);
        fs::remove_file(&path).unwrap();
        symlink("nowhere.yaml", &path).unwrap();
        assert!(error(files.path()).contains("p.yaml: No such file"));
    }
}
