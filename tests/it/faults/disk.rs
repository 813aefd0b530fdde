//! A disk of which only what was synced is sure.
//!
//! *What it is.* The files below a folder as a program sees them, and as they would be found after the power went.
//!
//! *What it promises.* A sync of a file makes its bytes and its length last, and not its name; a sync of a folder makes the
//! names in it last. A rename is one step, wherever it is between. Everything else may have arrived or not, each sector of
//! 512 bytes by itself, in any order, but for two changes of one name, which keep their order.
//!
//! *What it does not know.* Time, the kernel's own habits (which keep more of an order than this), memory that is mapped.

mod tests;

use crate::soak::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// What a program did to the disk.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A file was opened so that it is made, or cut to nothing.
    Open {
        path: PathBuf,
        inode: u64,
        cut: bool,
        mode: u32,
    },
    Folder {
        path: PathBuf,
    },
    Write {
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Cut {
        inode: u64,
        length: u64,
    },
    Mode {
        inode: u64,
        mode: u32,
    },
    Move {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncFile {
        inode: u64,
    },
    SyncFolder {
        path: PathBuf,
    },
    /// A sync that failed: what was to be written is dropped, and the system takes it for written.
    FailSync {
        inode: u64,
    },
}

impl Event {
    /// Whether the disk is asked to keep something from here on, or a name changes.
    pub(super) fn is_persistence_point(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Cut { .. } | Self::Mode { .. } | Self::FailSync { .. })
    }
}

/// What of that which is not sure is found after the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    Nothing,
    Everything,
    /// Names, and lengths of nothing but zeros.
    Names,
    /// Bytes, and no name.
    Bytes,
    /// Everything, but of the last write the first half of its sectors alone.
    Torn,
    /// Chance, which follows from this.
    Some(u64),
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    mode: u32,
    sure: Vec<u8>,
    /// As the program sees it.
    now: Vec<u8>,
    pending: Vec<Change>,
}

/// A name given or taken away; a rename is both at once.
#[derive(Debug, Clone)]
struct Naming {
    given: Option<(PathBuf, Node)>,
    taken: Option<PathBuf>,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

/// A disk, from a moment on at which all of it was sure.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    root: PathBuf,
    inodes: Vec<Inode>,
    /// By the numbers that the system has for them now.
    numbers: BTreeMap<u64, usize>,
    sure: Names,
    now: Names,
    pending: Vec<Naming>,
    last_written: Option<usize>,
}

/// What is found after the power went: folders, and files with mode and bytes, by their paths below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remains {
    root: PathBuf,
    files: BTreeMap<PathBuf, Option<(u32, Vec<u8>)>>,
    /// The files that are as the program left them.
    whole: BTreeSet<PathBuf>,
}

impl Disk {
    /// Everything below a folder, as it is.
    pub(super) fn of(root: &Path) -> Self {
        let root = root.canonicalize().expect("a folder");
        let mut disk = Self {
            root: root.clone(),
            inodes: Vec::new(),
            numbers: BTreeMap::new(),
            sure: Names::new(),
            now: Names::new(),
            pending: Vec::new(),
            last_written: None,
        };
        for entry in walkdir::WalkDir::new(&root).into_iter().map(|entry| entry.expect("an entry")) {
            let metadata = entry.metadata().expect("metadata");
            let node = if metadata.is_dir() {
                Node::Folder
            } else {
                let bytes = fs::read(entry.path()).expect("a file");
                disk.inodes.push(Inode { mode: metadata.mode(), sure: bytes.clone(), now: bytes, pending: Vec::new() });
                disk.numbers.insert(metadata.ino(), disk.inodes.len() - 1);
                Node::File(disk.inodes.len() - 1)
            };
            disk.now.insert(entry.into_path(), node);
        }
        disk.sure = disk.now.clone();
        disk
    }

    /// The program did this.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Open { path, inode, cut, mode } => self.open(path, *inode, *cut, *mode),
            Event::Folder { path } => self.name(Some((path.clone(), Node::Folder)), None),
            Event::Write { inode, offset, bytes } => {
                self.last_written = self.numbers.get(inode).copied();
                self.change(*inode, Change::Write { offset: *offset as usize, bytes: bytes.clone() });
            }
            Event::Cut { inode, length } => self.change(*inode, Change::Cut(*length as usize)),
            Event::Mode { inode, mode } => {
                if let Some(inode) = self.inode(*inode) {
                    inode.mode = *mode;
                }
            }
            Event::Move { from, to } => {
                let node = self.now[from];
                self.name(Some((to.clone(), node)), Some(from.clone()));
            }
            Event::Link { from, to } => {
                let node = self.now[from];
                self.name(Some((to.clone(), node)), None);
            }
            Event::Remove { path } => self.name(None, Some(path.clone())),
            Event::SyncFile { inode } => {
                if let Some(inode) = self.inode(*inode) {
                    inode.pending.iter().for_each(|change| change.apply(&mut inode.sure));
                    inode.pending.clear();
                }
            }
            Event::FailSync { inode } => {
                if let Some(inode) = self.inode(*inode) {
                    inode.pending.clear();
                }
            }
            Event::SyncFolder { path } => self.sync_folder(path),
        }
    }

    /// The name of the file that has this number now, if it has one.
    pub(super) fn path_of(&self, number: u64) -> Option<&Path> {
        let node = Node::File(*self.numbers.get(&number)?);
        self.now.iter().find(|(_, other)| **other == node).map(|(path, _)| path.as_path())
    }

    fn inode(&mut self, number: u64) -> Option<&mut Inode> {
        self.numbers.get(&number).map(|at| &mut self.inodes[*at])
    }

    fn open(&mut self, path: &Path, number: u64, cut: bool, mode: u32) {
        if self.now.contains_key(path) {
            if cut {
                self.change(number, Change::Cut(0));
            }
            return;
        }
        self.inodes.push(Inode { mode, ..Inode::default() });
        let at = self.inodes.len() - 1;
        self.numbers.insert(number, at);
        self.name(Some((path.to_owned(), Node::File(at))), None);
    }

    fn change(&mut self, number: u64, change: Change) {
        if let Some(inode) = self.inode(number) {
            change.apply(&mut inode.now);
            inode.pending.push(change);
        }
    }

    fn name(&mut self, given: Option<(PathBuf, Node)>, taken: Option<PathBuf>) {
        let naming = Naming { given, taken };
        naming.apply(&mut self.now);
        self.pending.push(naming);
    }

    /// The names in this folder last, and whatever else changed in the same steps or before it under these names.
    fn sync_folder(&mut self, folder: &Path) {
        let pending = std::mem::take(&mut self.pending);
        let mut wanted = vec![false; pending.len()];
        let mut names = BTreeSet::new();
        for (at, naming) in pending.iter().enumerate().rev() {
            let is_here = naming.paths().any(|path| path.parent() == Some(folder));
            wanted[at] = is_here || naming.paths().any(|path| names.contains(path));
            if wanted[at] {
                names.extend(naming.paths().map(Path::to_owned));
            }
        }
        for (naming, wanted) in pending.into_iter().zip(wanted) {
            match wanted {
                true => naming.apply(&mut self.sure),
                false => self.pending.push(naming),
            }
        }
    }

    /// What is found when the power goes now.
    pub(super) fn crash(&self, arrived: Arrived) -> Remains {
        let mut dice = Dice::new(if let Arrived::Some(seed) = arrived { seed } else { 0 });
        // Of some crashes nearly nothing arrived, of others nearly everything.
        let of_ten = [1, 5, 9][dice.below(3)];
        let mut names = self.sure.clone();
        let mut held_back = BTreeSet::new();
        for naming in &self.pending {
            let arrives = match arrived {
                Arrived::Nothing | Arrived::Bytes => false,
                Arrived::Everything | Arrived::Names | Arrived::Torn => true,
                Arrived::Some(_) => dice.below(10) < of_ten,
            };
            if arrives && !naming.paths().any(|path| held_back.contains(path)) {
                naming.apply(&mut names);
            } else {
                held_back.extend(naming.paths().map(Path::to_owned));
            }
        }
        let contents: Vec<Vec<u8>> = (0..self.inodes.len()).map(|at| self.content(at, arrived, &mut dice)).collect();
        self.remains(&names, &contents)
    }

    fn content(&self, at: usize, arrived: Arrived, dice: &mut Dice) -> Vec<u8> {
        let inode = &self.inodes[at];
        let mut bytes = inode.sure.clone();
        match arrived {
            Arrived::Nothing => {}
            Arrived::Everything | Arrived::Bytes => bytes.clone_from(&inode.now),
            Arrived::Names => bytes.resize(inode.now.len(), 0),
            Arrived::Torn => {
                let is_last = self.last_written == Some(at);
                let (last, before) =
                    inode.pending.split_last().map_or((None, &[][..]), |(last, all)| (Some(last), all));
                before.iter().for_each(|change| change.apply(&mut bytes));
                if let Some(last) = last {
                    if is_last { last.tear(&mut bytes) } else { last.apply(&mut bytes) }
                }
            }
            Arrived::Some(_) => {
                let of_ten = [1, 5, 9][dice.below(3)];
                inode.pending.iter().for_each(|change| change.apply_some(&mut bytes, of_ten, dice));
                if dice.below(2) == 0 {
                    // The length arrived, and what is not there reads as zeros.
                    bytes.resize(inode.now.len(), 0);
                }
            }
        }
        bytes
    }

    fn remains(&self, names: &Names, contents: &[Vec<u8>]) -> Remains {
        let mut remains = Remains { root: self.root.clone(), files: BTreeMap::new(), whole: BTreeSet::new() };
        for (path, node) in names {
            // A file in a folder that is not there is not there.
            let parent = path.parent().filter(|_| *path != self.root);
            if parent.is_some_and(|parent| !matches!(remains.files.get(parent), Some(None))) {
                continue;
            }
            let file = match node {
                Node::Folder => None,
                Node::File(at) => Some((self.inodes[*at].mode, contents[*at].clone())),
            };
            if let Node::File(at) = node
                && contents[*at] == self.inodes[*at].now
            {
                remains.whole.insert(path.clone());
            }
            remains.files.insert(path.clone(), file);
        }
        remains
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(content, *offset, bytes),
            Self::Cut(length) => content.resize(*length, 0),
        }
    }

    /// The first half of its sectors.
    fn tear(&self, content: &mut Vec<u8>) {
        if let Self::Write { offset, bytes } = self {
            let sectors = sectors(*offset, bytes);
            let kept = sectors.len() / 2;
            sectors.into_iter().take(kept).for_each(|(offset, sector)| put(content, offset, sector));
        }
    }

    fn apply_some(&self, content: &mut Vec<u8>, of_ten: usize, dice: &mut Dice) {
        match self {
            Self::Write { offset, bytes } => {
                let sectors = sectors(*offset, bytes).into_iter();
                let arrived: Vec<_> = sectors.filter(|_| dice.below(10) < of_ten).collect();
                arrived.into_iter().for_each(|(offset, sector)| put(content, offset, sector));
            }
            Self::Cut(length) if dice.below(10) < of_ten => content.resize(*length, 0),
            Self::Cut(_) => {}
        }
    }
}

/// A write in parts that each lie in one sector of the file.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let (mut at, mut rest, mut parts) = (offset, bytes, Vec::new());
    while !rest.is_empty() {
        let (part, more) = rest.split_at((SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len()));
        parts.push((at, part));
        (at, rest) = (at + part.len(), more);
    }
    parts
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Naming {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.given.iter().map(|(path, _)| path.as_path()).chain(self.taken.as_deref())
    }

    fn apply(&self, names: &mut Names) {
        if let Some(path) = &self.taken {
            names.remove(path);
        }
        if let Some((path, node)) = &self.given {
            names.insert(path.clone(), *node);
        }
    }
}

impl Remains {
    /// What tells it from others.
    pub(super) fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (path, file) in &self.files {
            hasher.update(path.to_string_lossy().as_bytes()).update(&[0, u8::from(file.is_some())]);
            if let Some((_, bytes)) = file {
                hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
            }
        }
        hasher.finalize()
    }

    /// Puts it in the place of all that is below the root.
    pub(super) fn write(&self) {
        for entry in fs::read_dir(&self.root).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
        for (path, file) in &self.files {
            match file {
                None if *path == self.root => {}
                None => fs::create_dir(path).expect("a folder"),
                Some((mode, bytes)) => {
                    let mut made = fs::File::create(path).expect("a file");
                    let number = made.metadata().expect("metadata").ino().to_string();
                    // A lock file says its own number: on the real disk it would have kept it.
                    let is_lock = path.extension().is_some_and(|ending| ending == "lock" || ending == "new");
                    let is_named = is_lock && self.whole.contains(path) && bytes.iter().all(u8::is_ascii_digit);
                    let bytes = if is_named && !bytes.is_empty() { number.as_bytes() } else { bytes };
                    made.write_all(bytes).expect("written");
                    fs::set_permissions(path, fs::Permissions::from_mode(*mode)).expect("a mode");
                }
            }
        }
    }
}
