//! Where backups are kept: anything that keeps files under names, given by whoever has such a thing; a folder is one.

use crate::id::NodeId;
use async_trait::async_trait;
use std::error::Error as StdError;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a place says when it fails.
pub type PlaceError = Box<dyn StdError + Send + Sync>;

/// What a backup is called: `NODE.NUMBER`, the number with twenty digits, so that names sort as the numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupLabel {
    /// Whose records.
    pub node: NodeId,
    /// Higher than those of all that were made before.
    pub number: u64,
}

impl fmt::Display for BackupLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:020}", self.node, self.number)
    }
}

/// A text is not what a backup is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not NODE.NUMBER, as a backup is called")]
pub struct NotALabel;

impl FromStr for BackupLabel {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let (node, number) = text.split_once('.').ok_or(NotALabel)?;
        let node = node.parse().map_err(|_| NotALabel)?;
        let label = Self { node, number: number.parse().map_err(|_| NotALabel)? };
        if label.to_string() == text { Ok(label) } else { Err(NotALabel) }
    }
}

/// A place that keeps backups: a store with its backends, a folder, another machine.
#[async_trait]
pub trait BackupPlace: Send + Sync {
    /// Keeps the bytes of this file under a label, durably, or fails and keeps nothing under it.
    async fn keep(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError>;
    /// The labels of all that it keeps, in any order; those of other nodes may be among them.
    async fn list(&self) -> Result<Vec<BackupLabel>, PlaceError>;
    /// Writes what is under a label to a file that is not there yet.
    async fn fetch(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError>;
    /// Deletes what is under a label; nothing there is no failure.
    async fn delete(&self, label: BackupLabel) -> Result<(), PlaceError>;
}

/// What a backup's file in a folder ends with.
const SUFFIX: &str = ".snapshot";
/// What one ends with that is being written.
const UNFINISHED_SUFFIX: &str = ".snapshot.part";

/// A folder that keeps backups, each in a file.
#[derive(Debug, Clone)]
pub struct BackupFolder {
    folder: PathBuf,
}

impl BackupFolder {
    /// In this folder, which is made when the first backup is.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file of a backup.
    pub fn file(&self, label: BackupLabel) -> PathBuf {
        self.folder.join(format!("{label}{SUFFIX}"))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PlaceError> {
        let folder = self.clone();
        let done = tokio::task::spawn_blocking(move || work(folder)).await;
        let in_folder = |source| InFolder { folder: self.folder.clone(), source };
        Ok(done?.map_err(in_folder)?)
    }

    fn keep_now(&self, label: BackupLabel, from: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let part = |label: BackupLabel| self.folder.join(format!("{label}{UNFINISHED_SUFFIX}"));
        for left in self.named(UNFINISHED_SUFFIX)?.into_iter().filter(|left| left.node == label.node) {
            // A node makes one backup at a time: what is unfinished was left by one that was killed.
            fs::remove_file(part(left))?;
        }
        let part = part(label);
        let written = copy(from, &part).and_then(|()| fs::rename(&part, self.file(label)));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written?;
        File::open(&self.folder)?.sync_all()
    }

    fn list_now(&self) -> io::Result<Vec<BackupLabel>> {
        self.named(SUFFIX)
    }

    /// The labels of the files that end so.
    fn named(&self, suffix: &str) -> io::Result<Vec<BackupLabel>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut labels = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let label = name.to_str().and_then(|name| name.strip_suffix(suffix)?.parse::<BackupLabel>().ok());
            labels.extend(label);
        }
        Ok(labels)
    }

    fn delete_now(&self, label: BackupLabel) -> io::Result<()> {
        match fs::remove_file(self.file(label)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => File::open(&self.folder)?.sync_all(),
        }
    }
}

#[async_trait]
impl BackupPlace for BackupFolder {
    async fn keep(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError> {
        let file = file.to_owned();
        self.run(move |folder| folder.keep_now(label, &file)).await
    }

    async fn list(&self) -> Result<Vec<BackupLabel>, PlaceError> {
        self.run(|folder| folder.list_now()).await
    }

    async fn fetch(&self, label: BackupLabel, file: &Path) -> Result<(), PlaceError> {
        let file = file.to_owned();
        self.run(move |folder| copy(&folder.file(label), &file)).await
    }

    async fn delete(&self, label: BackupLabel) -> Result<(), PlaceError> {
        self.run(move |folder| folder.delete_now(label)).await
    }
}

/// Which folder failed.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used", folder.display())]
struct InFolder {
    folder: PathBuf,
    source: io::Error,
}

/// Copies a file to a durable one that only its owner reads.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = private_options().create(true).truncate(true).open(to)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// How a file is opened for writing that is its owner's alone if it is made.
pub(super) fn private_options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
