//! The places to watch for changes of files: directories, names in them, and the symlinks on the way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, path};

/// Maximum number of symlinks on the way to a file, as in the kernel.
const SYMLINKS_MAX: usize = 40;

/// Directories and files to watch. No path contains a symlink, except perhaps as its last part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchTargets {
    /// Any change directly in these directories may matter.
    pub directories: BTreeSet<PathBuf>,
    /// Files, and symlinks on the way to them. Changes of other files beside them don't matter.
    pub names: BTreeSet<PathBuf>,
}

impl WatchTargets {
    /// The directories to watch.
    pub fn watched(&self) -> BTreeSet<&Path> {
        let parents = self.names.iter().filter_map(|name| name.parent());
        self.directories.iter().map(PathBuf::as_path).chain(parents).collect()
    }

    /// Whether a change at `path` may matter.
    pub fn affects(&self, path: &Path) -> bool {
        self.names.contains(path)
            || self.watched().contains(path)
            || path.parent().is_some_and(|parent| self.directories.contains(parent))
    }

    fn name(&mut self, path: &Path) {
        let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok());
        if let (Some(parent), Some(name)) = (parent, path.file_name()) {
            self.names.insert(parent.join(name));
        }
    }

    /// Adds `path` and the symlinks on the way to it. If a part of the path is missing, adds that part.
    pub fn trace(&mut self, path: &Path) {
        let Ok(mut path) = path::absolute(path) else {
            return;
        };
        for _ in 0..SYMLINKS_MAX {
            match self.step(&path) {
                Some(target) => path = target,
                None => return,
            }
        }
    }

    /// The target of the first symlink in `path`, with the rest of the path.
    fn step(&mut self, path: &Path) -> Option<PathBuf> {
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        for part in way {
            match fs::symlink_metadata(part) {
                Ok(metadata) if metadata.is_symlink() => {
                    self.name(part);
                    let rest = path.strip_prefix(part).ok()?;
                    let target = part.parent()?.join(fs::read_link(part).ok()?);
                    // Without a rest, a join would add a trailing slash.
                    return Some(if rest.as_os_str().is_empty() {
                        target
                    } else {
                        target.join(rest)
                    });
                }
                Ok(_) => {}
                Err(_) => {
                    self.name(part);
                    return None;
                }
            }
        }
        self.name(path);
        None
    }
}
