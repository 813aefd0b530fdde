//! The operations whose steps are tried, each on a store in which it has something to do.

use crate::desk::{Desk, noise};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a store by their names.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Put,
    Overwrite,
    FolderPut,
    Repair,
    Remove,
    Drain,
    Gc,
    Rebuild,
    Recover,
    Backup,
}

/// A store as it is before an operation, on a desk where it can be had again.
pub(super) struct Stage {
    pub(super) desk: Desk,
    pub(super) operation: Operation,
    pub(super) words: Vec<&'static str>,
    /// What is stored before.
    pub(super) before: Files,
    /// What is stored once it is done.
    pub(super) after: Files,
    kept: PathBuf,
}

impl Stage {
    /// A store with files of every kind, ready for the operation.
    pub(super) fn new(operation: Operation) -> Self {
        let desk = Desk::in_memory();
        let mut before = Files::new();
        store(&desk, &mut before, "kept", noise(6_000, 1));
        store(&desk, &mut before, "changing", noise(3_000, 2));
        store(&desk, &mut before, "going", noise(2_500, 3));
        let packed = (1..=4).map(|number| (format!("packed/{number}"), noise(900, 10 + number))).collect();
        store_folder(&desk, &mut before, "packed", packed);
        let mut stage =
            Self { kept: desk.path("kept-store"), desk, operation, words: Vec::new(), after: before.clone(), before };
        stage.prepare();
        copy_tree(&stage.desk.store(), &stage.kept);
        stage
    }

    fn prepare(&mut self) {
        let Self { desk, before, after, .. } = self;
        self.words = match self.operation {
            Operation::Put => {
                after.insert("new".to_owned(), noise(5_000, 20));
                desk.file("new", &after["new"]);
                vec!["put", "new", "-q", "--level", "minimal"]
            }
            Operation::Overwrite => {
                after.insert("changing".to_owned(), noise(4_000, 21));
                desk.file("changing", &after["changing"]);
                vec!["put", "changing", "-q", "--level", "minimal"]
            }
            Operation::FolderPut => {
                for number in 1..=3 {
                    let (name, bytes) = (format!("folder/{number}"), noise(700 * number as usize, 30 + number));
                    desk.file(&name, &bytes);
                    after.insert(name, bytes);
                }
                vec!["put", "folder", "-q", "--level", "minimal"]
            }
            Operation::Repair => {
                damage(desk);
                vec!["repair", "-q"]
            }
            Operation::Remove => {
                after.remove("going");
                vec!["remove", "going", "-q"]
            }
            Operation::Drain => vec!["backend", "drain", "local-1", "-q"],
            Operation::Gc => {
                for number in 1..=3 {
                    let name = format!("packed/{number}");
                    desk.expect(0, &["remove", &name, "-q"]);
                    before.remove(&name);
                    after.remove(&name);
                }
                vec!["gc", "-q"]
            }
            Operation::Rebuild => {
                for ending in ["", "-wal", "-shm"] {
                    let _ = fs::remove_file(desk.store().join(format!("catalog.db{ending}")));
                }
                before.clear();
                vec!["catalog", "rebuild", "-q"]
            }
            // The second, which makes the first one old.
            Operation::Backup => {
                desk.expect(0, &["catalog", "backup", "-q"]);
                store(desk, before, "newer", noise(1_500, 40));
                after.clone_from(before);
                vec!["catalog", "backup", "--full", "-q"]
            }
            Operation::Recover => vec!["recover", "--all", "-o", "back", "-q"],
        };
    }

    /// Puts the store back as it was before the operation.
    pub(super) fn restore(&self) {
        let _ = fs::remove_dir_all(self.desk.store());
        let _ = fs::remove_dir_all(self.desk.path("back"));
        copy_tree(&self.kept, &self.desk.store());
    }
}

/// Stores a file.
pub(super) fn store(desk: &Desk, files: &mut Files, name: &str, bytes: Vec<u8>) {
    desk.file(name, &bytes);
    desk.expect(0, &["put", name, "-q", "--level", "minimal"]);
    files.insert(name.to_owned(), bytes);
}

fn store_folder(desk: &Desk, files: &mut Files, name: &str, contents: Files) {
    for (name, bytes) in &contents {
        desk.file(name, bytes);
    }
    desk.expect(0, &["put", name, "-q", "--level", "minimal"]);
    files.extend(contents);
}

/// One shard of each object goes or has a byte changed: no more may be lost of any.
pub(super) fn damage(desk: &Desk) {
    let objects: BTreeMap<String, PathBuf> =
        desk.shard_files().into_iter().map(|path| (object_of(&path), path)).collect();
    for (number, path) in objects.values().enumerate() {
        if number % 2 == 0 {
            fs::remove_file(path).expect("removed");
        } else {
            let mut bytes = fs::read(path).expect("a shard");
            bytes[70] ^= 1;
            fs::write(path, bytes).expect("written");
        }
    }
}

/// The object that a shard is of, by its file's name.
pub(super) fn object_of(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Copies a folder with everything in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from).into_iter().filter_map(Result::ok) {
        let target = to.join(entry.path().strip_prefix(from).expect("below it"));
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).expect("a folder");
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
