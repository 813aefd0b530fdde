//! Whether the folder for the shards of peers is the one that was served before: a mark in it, and the same beside the node's key.
//!
//! That folder is often a disk of its own. Where it is not mounted an empty folder is in its place, and whoever served that would
//! tell peers that what they keep is gone.

use super::file::{self, Readers};
use super::{NodeHome, records};
use crate::backend::LocalBackend;
use crate::error::{Error, ErrorKind, Result, with_causes};
use std::path::Path;
use zeroize::Zeroizing;

/// What the mark is called among the folders of owners, which are called by their ids.
const MARK_NAME: &str = "node.mark";
/// A longer file is none.
const MAX_MARK_BYTES: u64 = 64;

/// Refuses another folder than the one that was served before. What was never served is marked, but no empty folder that was
/// there already: it may be where a disk is to be mounted. Whoever asks holds the lock of the node's folder. Blocks on the file
/// system.
pub(super) fn confirm(home: &NodeHome) -> Result<()> {
    let (folder, own) = (home.shards_folder(), home.shards_mark_file());
    let mark = folder.join(MARK_NAME);
    let read = |path| file::read(path, MAX_MARK_BYTES, Readers::Anyone);
    let found = read(&mark)?;
    if let Some(expected) = read(&own)? {
        let why = match found {
            Some(found) if found == expected => return Ok(()),
            Some(_) => "it is not the folder that this node served before",
            None => "the mark that this node left there is gone",
        };
        let doing = format!("what peers keep here is not in {}: {why}", folder.display());
        return Err(Error::new(ErrorKind::Local, doing).with_hint(format!(
            "is the disk mounted? If this is to be served all the same, remove {} first",
            own.display()
        )));
    }
    if found.is_none() && is_empty(&folder) {
        return Ok(());
    }
    let marked = || {
        // The mark comes first: where this ends between the two, it is taken for the node's own the next time.
        let text = match found {
            Some(found) => found,
            None => {
                LocalBackend::create_root(&folder)
                    .map_err(|error| Error::new(ErrorKind::Local, "making the folder").with_source(error))?;
                let text = Zeroizing::new(format!("{}\n", hex::encode(records::random()?)).into_bytes());
                file::replace(&mark, &text)?;
                text
            }
        };
        file::replace(&own, &text)
    };
    if let Err(error) = marked() {
        // A disk that is full or read-only gives back all the same what is on it.
        tracing::warn!("the folder for the shards of peers cannot be marked: {}", with_causes(&error));
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_never_served_is_marked_and_nothing_else_is_taken_for_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = NodeHome::at(dir.path());
        let (folder, own) = (home.shards_folder(), home.shards_mark_file());
        let mark = folder.join(MARK_NAME);
        confirm(&home).expect("made");
        confirm(&home).expect("the same");
        assert_eq!(fs::read(&mark).expect("a mark"), fs::read(&own).expect("a mark"));
        // Where there is none, another, or no folder.
        let aside = dir.path().join("aside");
        fs::rename(&folder, &aside).expect("moved");
        let refused = || {
            let error = confirm(&home).expect_err("it is not mounted");
            assert!(error.kind == ErrorKind::Local && error.hint.is_some_and(|hint| hint.contains("mounted")));
        };
        refused();
        assert!(!folder.exists());
        fs::create_dir(&folder).expect("a mount point");
        refused();
        fs::write(&mark, "another\n").expect("written");
        refused();
        // Begun and not finished, and of a node that knew no marks.
        fs::remove_file(&own).expect("removed");
        confirm(&home).expect("taken for its own");
        assert_eq!(fs::read(&own).expect("a mark"), b"another\n");
        fs::remove_file(&own).expect("removed");
        fs::remove_file(&mark).expect("removed");
        confirm(&home).expect("it may be a mount point");
        assert!(!own.exists() && !mark.exists());
        fs::create_dir(folder.join("0a".repeat(32))).expect("an owner");
        confirm(&home).expect("marked");
        assert_eq!(fs::read(&mark).expect("a mark"), fs::read(&own).expect("a mark"));
    }
}
