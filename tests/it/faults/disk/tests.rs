//! The model of a disk, held against what it promises.

use super::{Arrived, Disk, Event, Remains, SECTOR_BYTES};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A disk in a folder with one file that was there before.
fn disk_with_old() -> (tempfile::TempDir, Disk, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("old"), b"old").expect("written");
    let disk = Disk::of(folder.path());
    let root = disk.root.clone();
    (folder, disk, root)
}

fn made(path: &Path, bytes: &[u8]) -> [Event; 2] {
    let open = Event::Open { path: path.to_owned(), inode: u64::MAX, cut: false, mode: 0o600 };
    [open, Event::Write { inode: u64::MAX, offset: 0, bytes: bytes.to_vec() }]
}

fn found(remains: &Remains, path: &Path) -> Option<Vec<u8>> {
    remains.files.get(path)?.as_ref().map(|(_, bytes)| bytes.clone())
}

#[test]
fn the_model_of_a_disk_keeps_what_was_synced_and_nothing_else_for_sure() {
    let (_folder, mut disk, root) = disk_with_old();
    let (new, renamed) = (root.join("new"), root.join("renamed"));
    made(&new, b"bytes").iter().for_each(|event| disk.apply(event));
    assert_eq!(found(&disk.crash(Arrived::Nothing), &new), None);
    assert_eq!(found(&disk.crash(Arrived::Names), &new), Some(vec![0; 5]), "a name without its bytes");
    assert_eq!(found(&disk.crash(Arrived::Everything), &new), Some(b"bytes".to_vec()));
    disk.apply(&Event::SyncFile { inode: u64::MAX });
    assert_eq!(found(&disk.crash(Arrived::Nothing), &new), None, "its name was not synced");
    disk.apply(&Event::SyncFolder { path: root.clone() });
    assert_eq!(found(&disk.crash(Arrived::Nothing), &new), Some(b"bytes".to_vec()));
    disk.apply(&Event::Move { from: new.clone(), to: renamed.clone() });
    for (arrived, there, gone) in [(Arrived::Nothing, &new, &renamed), (Arrived::Everything, &renamed, &new)] {
        let remains = disk.crash(arrived);
        assert!(found(&remains, there).is_some() && found(&remains, gone).is_none(), "{arrived:?}");
    }
    assert_eq!(found(&disk.crash(Arrived::Nothing), &root.join("old")), Some(b"old".to_vec()));
}

#[test]
fn the_model_of_a_disk_tears_at_sectors_and_drops_what_a_failed_sync_had() {
    let (_folder, mut disk, root) = disk_with_old();
    let new = root.join("new");
    made(&new, &[7; 2048]).iter().for_each(|event| disk.apply(event));
    disk.apply(&Event::SyncFolder { path: root.clone() });
    assert_eq!(found(&disk.crash(Arrived::Torn), &new), Some(vec![7; 1024]));
    let mut sizes = BTreeSet::new();
    for seed in 0..200 {
        let bytes = found(&disk.crash(Arrived::Some(seed)), &new).expect("its name is sure");
        assert!(bytes.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "seed {seed}");
        sizes.insert(bytes.iter().filter(|byte| **byte == 7).count());
    }
    assert_eq!(sizes, BTreeSet::from([0, 512, 1024, 1536, 2048]), "each sector arrives by itself");
    disk.apply(&Event::FailSync { inode: u64::MAX });
    disk.apply(&Event::SyncFile { inode: u64::MAX });
    assert_eq!(found(&disk.crash(Arrived::Nothing), &new), Some(Vec::new()), "the second sync had nothing to write");
}

#[test]
fn the_model_of_a_disk_puts_back_what_it_says() {
    let (folder, mut disk, root) = disk_with_old();
    disk.apply(&Event::Folder { path: root.join("folder") });
    made(&root.join("folder/new"), b"bytes").iter().for_each(|event| disk.apply(event));
    disk.crash(Arrived::Everything).write();
    assert_eq!(fs::read(folder.path().join("folder/new")).expect("a file"), b"bytes");
    disk.crash(Arrived::Nothing).write();
    assert!(!folder.path().join("folder").exists());
    assert_eq!(fs::read(folder.path().join("old")).expect("a file"), b"old");
}
