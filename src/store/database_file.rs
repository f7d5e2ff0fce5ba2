//! Opens a database file in `data_dir`. A missing file is created under another name and renamed when it is complete. A
//! damaged file is renamed, so that it is kept and a new one can be created; or it stays, if a new one would be a loss.
//!
//! redb panics on some truncated or overwritten files, so each of its calls runs in `catch_unwind`: a file must not
//! end a process that limits rates.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, TableError, WriteTransaction};

use crate::clock::Timestamp;
use crate::printable;

/// The owner may read and write the file.
const MODE: u32 = 0o600;

/// Bytes of the file that are cached in memory.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The first bytes of each redb file.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Comes after the name of a damaged file, before the time at which it was renamed.
const DAMAGED: &str = ".damaged-";

/// Maximum number of damaged files in the folder. Beyond it, a damaged file is not renamed, and no new one is created.
const DAMAGED_MAX: usize = 8;

/// How often a file is tried that another process has open, and the pauses between: a process that was killed may need some
/// milliseconds to end.
const IN_USE_TRIES: u32 = 50;
const IN_USE_PAUSE: Duration = Duration::from_millis(20);

/// The reason that a call of the database failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The file is probably intact: the disk is full, or permissions are missing.
    #[error("{0}")]
    Unavailable(String),
    #[error("another process has it open")]
    InUse,
    /// The file is not a database, or it is damaged.
    #[error("{0}")]
    Damaged(String),
}

/// The tables of a file.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    pub create: fn(&WriteTransaction) -> Result<(), redb::Error>,
    /// Opens one of them; they are created together.
    pub open: fn(&ReadTransaction) -> Result<(), TableError>,
}

/// Steps before a file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    None,
    /// Unused space is released.
    Compaction,
    /// All of it is read, because the last error may mean damage.
    Verification,
    /// The same, and its tables must be there: another database is no empty file.
    Proof,
}

/// An open database.
#[derive(Debug)]
pub struct Opened {
    pub database: Database,
    pub is_new: bool,
    /// The new name of the old file, and its damage.
    pub set_aside: Option<(PathBuf, String)>,
}

/// Opens the file, and creates it and its folder if they are missing.
///
/// # Errors
/// If it can't be read and written now.
pub fn open(
    path: &Path,
    tables: Tables,
    preparation: Preparation,
    now: Timestamp,
) -> Result<Opened, Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if is_absent(path)? {
        return Ok(Opened { database: create(path, tables)?, is_new: true, set_aside: None });
    }
    match open_existing(path, tables, preparation) {
        Ok(database) => Ok(Opened { database, is_new: false, set_aside: None }),
        Err(Failure::Damaged(reason)) => replace(path, tables, reason, now),
        Err(failure) => Err(failure),
    }
}

/// Opens and reads a file that nothing may replace but a person, and creates it and its folder if it was never there. A
/// damaged file stays as it is, and while one that was renamed is beside it, no new one is created.
///
/// # Errors
/// If it can't be read and written now: a clause with the reason, and the remedy if it is damaged.
pub fn open_irreplaceable<T>(
    path: &Path,
    tables: Tables,
    read: fn(&Database) -> Result<Result<T, Failure>, redb::Error>,
    remedy: &str,
) -> Result<(Database, T), String> {
    let opened = open_when_free(path, tables).and_then(|database| {
        match guarded(|| read(&database)).and_then(|content| content) {
            Ok(content) => Ok((database, content)),
            Err(failure) => {
                close(database);
                Err(failure)
            }
        }
    });
    opened.map_err(|failure| match failure {
        Failure::Damaged(reason) => format!("{reason}; {remedy}"),
        other => other.to_string(),
    })
}

/// Whether there is no file, nor a damaged one that was renamed.
pub fn was_never_there(path: &Path) -> bool {
    let is_missing =
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    // A folder that is unreadable, or no folder, is told when the file is opened.
    is_missing && damaged(path).is_ok_and(|damaged| damaged.is_empty())
}

/// Opens or creates a file, and waits for a short time for another process to close it.
fn open_when_free(path: &Path, tables: Tables) -> Result<Database, Failure> {
    for _ in 0..IN_USE_TRIES {
        match open_or_create(path, tables) {
            Err(Failure::InUse) => thread::sleep(IN_USE_PAUSE),
            opened => return opened,
        }
    }
    Err(Failure::InUse)
}

/// Opens a file and verifies all of it, or creates it if it was never there.
fn open_or_create(path: &Path, tables: Tables) -> Result<Database, Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::metadata(path) {
        Ok(_) => open_existing(path, tables, Preparation::Proof),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match damaged(path)?.first() {
            Some(name) => {
                let name = printable::line(&name.to_string_lossy()).into_owned();
                Err(Failure::Damaged(format!("the file is missing, and {name} is beside it")))
            }
            None if path.is_symlink() => {
                Err(Failure::Damaged("it is a symbolic link to a missing file".to_owned()))
            }
            None => create(path, tables),
        },
        Err(error) => Err(error.into()),
    }
}

/// Renames a damaged file that is closed, and creates a new one.
///
/// # Errors
/// If that is not possible now.
pub fn replace(
    path: &Path,
    tables: Tables,
    reason: String,
    now: Timestamp,
) -> Result<Opened, Failure> {
    let set_aside = Some((rename(path, now, &reason)?, reason));
    Ok(Opened { database: create(path, tables)?, is_new: true, set_aside })
}

/// Calls redb. A panic counts as damage.
pub fn guarded<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
    // The call may leave values half changed, but the database is closed after a panic.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failure::Damaged("the file is damaged".to_owned())),
    }
}

/// Closes a database that may be damaged.
pub fn close<T>(database: T) {
    guarded(|| {
        drop(database);
        Ok(())
    })
    .ok();
}

fn open_existing(
    path: &Path,
    tables: Tables,
    preparation: Preparation,
) -> Result<Database, Failure> {
    let file = locked(OpenOptions::new().read(true).write(true).open(path)?)?;
    let mut magic = [0; MAGIC.len()];
    file.read_exact_at(&mut magic, 0)?;
    if magic != MAGIC {
        return Err(Failure::Damaged("not a database of Tollgate".to_owned()));
    }
    let mut database = guarded(|| Ok(builder().create_with_backend(FileBackend::new(file)?)?))?;
    // It outlives the call, so that no part of it is dropped during a panic.
    let prepared = guarded(|| prepare(&mut database, tables, preparation));
    match prepared {
        Ok(()) => Ok(database),
        Err(failure) => {
            close(database);
            match (failure, preparation) {
                // There may be no space for a compaction.
                (Failure::Unavailable(_), Preparation::Compaction) => {
                    open_existing(path, tables, Preparation::None)
                }
                (failure, _) => Err(failure),
            }
        }
    }
}

fn prepare(
    database: &mut Database,
    tables: Tables,
    preparation: Preparation,
) -> Result<(), redb::Error> {
    if matches!(preparation, Preparation::Verification | Preparation::Proof) {
        database.check_integrity()?;
    }
    let known = (tables.open)(&database.begin_read()?);
    match known {
        Ok(()) => {}
        Err(TableError::TableDoesNotExist(_)) if preparation != Preparation::Proof => {
            create_tables(database, tables)?;
        }
        Err(error) => return Err(error.into()),
    }
    match preparation {
        Preparation::None => {}
        Preparation::Compaction => drop(database.compact()?),
        // What was erased is no longer in the file then. There may be no space for it.
        Preparation::Verification | Preparation::Proof => drop(database.compact().ok()),
    }
    Ok(())
}

/// Creates the file. Until it is complete it has another name, so that a crash or a full disk leaves no partial file.
fn create(path: &Path, tables: Tables) -> Result<Database, Failure> {
    let draft = with_suffix(path, ".new");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE);
    let file = locked(options.open(&draft)?)?;
    // A process that has just renamed its draft has the lock of the file, not of the name.
    if !is_absent(path)? {
        return Err(Failure::Unavailable("another process has just made it".to_owned()));
    }
    let made = file.set_len(0).map_err(Failure::from).and_then(|()| {
        guarded(|| {
            let database = builder().create_with_backend(FileBackend::new(file)?)?;
            create_tables(&database, tables)?;
            Ok(database)
        })
    });
    let renamed = made.and_then(|database| match fs::rename(&draft, path) {
        Ok(()) => Ok(database),
        Err(error) => Err(error.into()),
    });
    match renamed {
        Ok(database) => {
            // The name is synced too.
            path.parent()
                .map(File::open)
                .transpose()?
                .map(|folder| folder.sync_all())
                .transpose()?;
            Ok(database)
        }
        Err(failure) => {
            fs::remove_file(&draft).ok();
            Err(failure)
        }
    }
}

fn create_tables(database: &Database, tables: Tables) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    (tables.create)(&transaction)?;
    Ok(transaction.commit()?)
}

/// Renames a damaged file, and returns its new name.
fn rename(path: &Path, now: Timestamp, reason: &str) -> Result<PathBuf, Failure> {
    if DAMAGED_MAX <= damaged(path)?.len() {
        let known = format!("{reason}; there are {DAMAGED_MAX} damaged files: remove them");
        return Err(Failure::Unavailable(known));
    }
    let to = with_suffix(&with_suffix(path, DAMAGED), &now.as_ms().to_string());
    fs::rename(path, &to)?;
    Ok(to)
}

/// The names of the damaged files that were renamed.
fn damaged(path: &Path) -> Result<Vec<OsString>, Failure> {
    let damaged = with_suffix(path, DAMAGED);
    let prefix = damaged.file_name().unwrap_or_default().as_encoded_bytes();
    let folder = path.parent().unwrap_or(path);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    Ok(names.filter(|name| name.as_encoded_bytes().starts_with(prefix)).collect())
}

/// The file, if no other process has it open.
fn locked(file: File) -> Result<File, Failure> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::InUse),
        // Some file systems have no locks; redb continues there too.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Whether the file is missing or empty.
fn is_absent(path: &Path) -> Result<bool, Failure> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => Self::Damaged(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}
