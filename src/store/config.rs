//! `config.toml`: the settings of a store that a person may read and edit.
//!
//! Reading needs no lock: the file is only ever replaced whole. Changing it goes through [`edit`], which holds a lock
//! from reading to writing, so that two changes at once lose nothing, and leaves alone every comment and every line
//! that the change is not about.

mod text;

use crate::backend::BackendSpec;
use crate::id::RedundancyLevel;
use crate::stripe::Seal;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Settings are at most this many bytes: a thousand backends, and far less than would hurt.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
/// How long a change waits for another one to be finished; each takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks whether the other one is finished.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The settings of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The level of a put that names none.
    pub default_level: RedundancyLevel,
    /// How what is put is sealed, where the put does not say.
    pub seal: Seal,
    /// Whether the catalog is backed up by itself.
    pub catalog_backup: bool,
    /// The backends, in the order in which they were added; names and ids are each used once.
    pub backends: Vec<BackendSpec>,
}

impl Default for Config {
    /// Level personal, sealed under the key, the catalog backed up by itself, and no backends.
    fn default() -> Self {
        Self { default_level: RedundancyLevel::Personal, seal: Seal::Key, catalog_backup: true, backends: Vec::new() }
    }
}

/// Why settings cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("there are no settings at {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is such a file already.
    #[error("there are settings at {} already", path.display())]
    AlreadyExists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written; the old one is still whole.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Over 1 MiB.
    #[error("{} has more than {MAX_CONFIG_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Another process changes it and does not finish.
    #[error("another process has been changing {} for {} s", path.display(), waited.as_secs())]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// It does not say what settings say.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        problem: Problem,
    },
}

/// What is wrong in the text of settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not TOML, an unknown key, or a value that its key does not take.
    #[error("line {line}{}: {message}", key.as_ref().map(|key| format!(", {key}")).unwrap_or_default())]
    Line {
        /// Which line, from 1.
        line: usize,
        /// Which key, where the line has one.
        key: Option<String>,
        /// What is wrong with it.
        message: String,
    },
    /// Two backends share a name.
    #[error("two backends are called {name:?}")]
    TwoOfOneName {
        /// The name.
        name: String,
    },
    /// Two backends share an id.
    #[error("backends {first:?} and {second:?} have the same id")]
    TwoOfOneId {
        /// The name of one.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// The settings cannot be said in TOML.
    #[error("the settings cannot be written: {message}")]
    Unwritable {
        /// Why.
        message: String,
    },
}

impl Config {
    /// Reads settings.
    pub fn load(path: &Path) -> Result<Self, Error> {
        parse(&read(path)?, path)
    }

    /// Writes the first settings of a store, durably; an error where there are some already.
    pub fn create(path: &Path, config: &Self) -> Result<(), Error> {
        let _lock = lock(path)?;
        if path.symlink_metadata().is_ok() {
            return Err(Error::AlreadyExists { path: path.to_owned() });
        }
        let text = text::changed(text::BEGINNING, &Self::default(), config).map_err(content(path))?;
        parse(&text, path)?;
        write_durably(path, &text)
    }

    /// These settings as text, without comments.
    pub(super) fn to_text(&self) -> Result<String, Error> {
        text::changed(text::DEFAULTS, &Self::default(), self).map_err(content(Path::new("the recovery kit")))
    }

    /// Reads such a text; `path` says where it is to stand.
    pub(super) fn from_text(text: &str, path: &Path) -> Result<Self, Error> {
        parse(text, path)
    }

    fn check(&self) -> Result<(), Problem> {
        let mut names = HashSet::new();
        for (position, backend) in self.backends.iter().enumerate() {
            if !names.insert(&backend.name) {
                return Err(Problem::TwoOfOneName { name: backend.name.clone() });
            }
            if let Some(twin) = self.backends[..position].iter().find(|earlier| earlier.id == backend.id) {
                return Err(Problem::TwoOfOneId { first: twin.name.clone(), second: backend.name.clone() });
            }
        }
        Ok(())
    }
}

/// Changes settings while nobody else does. The file is written, atomically and durably, when `change` gives `Ok` and
/// has changed something; otherwise it stays as it is.
///
/// Fails with [`Error::Busy`] when another process holds the lock for longer than ten seconds.
pub fn edit<T, E: From<Error>>(path: &Path, change: impl FnOnce(&mut Config) -> Result<T, E>) -> Result<T, E> {
    let _lock = lock(path)?;
    let old_text = read(path)?;
    let old = parse(&old_text, path)?;
    let mut new = old.clone();
    let outcome = change(&mut new)?;
    if new != old {
        let text = text::changed(&old_text, &old, &new).map_err(content(path))?;
        let read_back = parse(&text, path)?;
        if read_back != new {
            let message = "what was written would be read differently".to_owned();
            return Err(content(path)(Problem::Unwritable { message }).into());
        }
        write_durably(path, &text)?;
    }
    Ok(outcome)
}

fn parse(text: &str, path: &Path) -> Result<Config, Error> {
    let config = text::parse(text).map_err(content(path))?;
    config.check().map_err(content(path))?;
    Ok(config)
}

fn content(path: &Path) -> impl Fn(Problem) -> Error {
    move |problem| Error::Content { path: path.to_owned(), problem }
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
        _ => Error::Read { path: path.to_owned(), source },
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// A lock on a file beside the settings: the settings themselves are replaced, and a lock would go with the old file.
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Write { path: beside(path, "lock"), source };
    let file = lock_file(path).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= LOCK_PATIENCE => {
                return Err(Error::Busy { path: path.to_owned(), waited: begun.elapsed() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
}

/// The same lock without waiting; `None` where somebody has it, or there can be none.
pub(super) fn try_lock(path: &Path) -> Option<File> {
    let file = lock_file(path).ok()?;
    file.try_lock().is_ok().then_some(file)
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, "lock"))
}

/// Replaces the file's text: after a crash there is the old one or the new one. The caller holds the lock, so that the
/// temporary name is its own.
fn write_durably(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    // Where settings are a link into a person's own folder, what it leads to is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temporary = beside(&target, "new");
    let written = replace(&target, &temporary, text);
    if written.is_err() {
        // What is left is overwritten by the next change anyway.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

fn replace(target: &Path, temporary: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    if let Ok(old) = fs::metadata(target) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, target)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// `config.toml` → `config.toml.lock`, in the same folder.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
