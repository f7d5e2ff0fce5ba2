//! The places to watch for changes of files: directories, names in them, and the symlinks on the way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, path};

/// Symlinks on the way to one file; the kernel's own bound.
const SYMLINKS_MAX: usize = 40;

/// What to watch. Each path goes through no symlink, save perhaps its last part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchTargets {
    /// Whatever changes directly in these may matter.
    pub directories: BTreeSet<PathBuf>,
    /// Files, and symlinks on the way to them; beside them, nothing matters.
    pub names: BTreeSet<PathBuf>,
}

impl WatchTargets {
    /// The directories to watch.
    pub fn watched(&self) -> BTreeSet<&Path> {
        let parents = self.names.iter().filter_map(|name| name.parent());
        self.directories.iter().map(PathBuf::as_path).chain(parents).collect()
    }

    /// Whether a change at `path` may matter.
    pub fn concern(&self, path: &Path) -> bool {
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

    /// Adds `path` and the symlinks on the way to it; if part of the way is missing, that part.
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

    /// Where the first symlink on the way to `path` leads, the rest of the way included.
    fn step(&mut self, path: &Path) -> Option<PathBuf> {
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        for part in way {
            match fs::symlink_metadata(part) {
                Ok(metadata) if metadata.is_symlink() => {
                    self.name(part);
                    let rest = path.strip_prefix(part).ok()?;
                    let target = part.parent()?.join(fs::read_link(part).ok()?);
                    // Without a rest, a join would end in a slash.
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
