//! What nodes told a store: kept in its folder, so that each notice is told once and can be seen later.
//!
//! All of it is the nodes' word: it hints at where to look, and decides nothing.

use super::turn;
use crate::id::ShardId;
use crate::peer::PeerAddress;
use crate::peer::storage::{NoticeKind, OwnerNotice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file in a store's folder.
pub const NOTICES_NAME: &str = "notices.json";
/// A longer file is none of these.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// Notices of one node that are kept.
const MAX_KEPT: usize = 16;

/// A notice of a node that was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeardNotice {
    /// What it is about.
    pub kind: NoticeKind,
    /// Of how many shards it is, as the node says.
    pub shard_count: u64,
    /// The first of them.
    pub shards: Vec<ShardId>,
    /// In the node's words, of any characters.
    pub text: String,
    /// When it was said by the node's clock, in milliseconds since 1970.
    pub said_ms: u64,
    /// When it was heard by the clock here, in milliseconds since 1970.
    pub heard_ms: u64,
}

/// What one node said.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeardFrom {
    /// The number of the newest that was heard.
    newest: u64,
    /// The oldest first.
    kept: Vec<HeardNotice>,
}

type Nodes = BTreeMap<String, HeardFrom>;

/// The file of one store. Several processes may use it at the same time.
#[derive(Debug)]
pub(super) struct NoticeFile {
    path: PathBuf,
}

/// What the node at an address told the store in this folder, the oldest first. Blocks on the file system.
pub fn heard(folder: &Path, address: &PeerAddress) -> Vec<HeardNotice> {
    let mut nodes = NoticeFile::in_folder(folder).read();
    nodes.remove(&address.to_string()).map(|from| from.kept).unwrap_or_default()
}

impl NoticeFile {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join(NOTICES_NAME) }
    }

    /// The number of the newest notice that was heard from there; 0 where none was.
    pub(super) fn newest(&self, address: &PeerAddress) -> u64 {
        self.read().get(&address.to_string()).map_or(0, |from| from.newest)
    }

    /// Keeps what a node answered to whoever had all up to a number, and gives what nobody heard before. Where it cannot be
    /// kept, all of it is given: told again is better than never.
    pub(super) fn keep(
        &self,
        address: &PeerAddress,
        after: u64,
        notices: Vec<OwnerNotice>,
    ) -> (Vec<HeardNotice>, io::Result<()>) {
        if notices.is_empty() {
            return (Vec::new(), Ok(()));
        }
        match self.keep_new(address, after, &notices) {
            Ok(new) => (new, Ok(())),
            Err(error) => (notices.into_iter().map(|notice| of(notice, now_ms())).collect(), Err(error)),
        }
    }

    fn keep_new(&self, address: &PeerAddress, after: u64, notices: &[OwnerNotice]) -> io::Result<Vec<HeardNotice>> {
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(self.beside("lock"))?;
        turn::take(&lock)?;
        let mut nodes = self.read();
        let from = nodes.entry(address.to_string()).or_default();
        // A node that gives numbers which it gave before begins anew. Else another process may have been quicker.
        let begins_anew = notices.iter().any(|notice| notice.number <= after);
        let newest = if begins_anew { 0 } else { from.newest };
        let Some(last) = notices.iter().map(|notice| notice.number).max() else { return Ok(Vec::new()) };
        from.newest = newest.max(last);
        let heard_ms = now_ms();
        let later = notices.iter().filter(|notice| notice.number > newest);
        let new: Vec<HeardNotice> = later.map(|notice| of(notice.clone(), heard_ms)).collect();
        from.kept.extend(new.iter().cloned());
        from.kept.drain(..from.kept.len().saturating_sub(MAX_KEPT));
        self.replace(&nodes)?;
        lock.unlock()?;
        Ok(new)
    }

    /// What is not there or cannot be read was not heard: then it is told again, which is better than never.
    fn read(&self) -> Nodes {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 <= MAX_FILE_BYTES => serde_json::from_slice(&bytes).unwrap_or_default(),
            _ => Nodes::new(),
        }
    }

    /// After a crash there is the old file or the new.
    fn replace(&self, nodes: &Nodes) -> io::Result<()> {
        let temporary = self.beside("new");
        let _ = fs::remove_file(&temporary);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        serde_json::to_writer(&mut file, nodes)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }

    fn beside(&self, what: &str) -> PathBuf {
        self.path.with_extension(what)
    }
}

fn of(notice: OwnerNotice, heard_ms: u64) -> HeardNotice {
    let OwnerNotice { said_ms, kind, shard_count, shards, text, .. } = notice;
    HeardNotice { kind, shard_count, shards, text, said_ms, heard_ms }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(number: u64) -> OwnerNotice {
        let (kind, text) = (NoticeKind::Text, format!("\u{1b}[2J {number}"));
        OwnerNotice { number, said_ms: 5, kind, shard_count: 0, shards: Vec::new(), text }
    }

    fn numbers(heard: &[HeardNotice]) -> Vec<u64> {
        heard.iter().map(|notice| notice.text[5..].parse().expect("a number")).collect()
    }

    #[test]
    fn what_cannot_be_kept_is_told_all_the_same_and_nothing_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let address: PeerAddress = "node://friend:1".parse().expect("an address");
        let file = NoticeFile::in_folder(dir.path());
        assert!(matches!(file.keep(&address, 0, Vec::new()), (new, Ok(())) if new.is_empty()));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
        let gone = NoticeFile::in_folder(&dir.path().join("gone"));
        let (told, kept) = gone.keep(&address, 0, vec![notice(3)]);
        assert_eq!((numbers(&told), kept.is_err()), (vec![3], true));
        // Another process that holds the lock and does not go on.
        let lock = File::create(dir.path().join("notices.lock")).expect("a file");
        lock.lock().expect("locked");
        let (told, kept) = file.keep(&address, 0, vec![notice(4)]);
        assert_eq!((numbers(&told), kept.is_err()), (vec![4], true));
        lock.unlock().expect("unlocked");
        assert_eq!(numbers(&file.keep(&address, 0, vec![notice(4)]).0), [4]);
    }

    #[test]
    fn a_notice_is_new_once_whoever_hears_it_and_a_node_that_begins_anew_is_heard() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = NoticeFile::in_folder(dir.path());
        let address: PeerAddress = "node://friend:1".parse().expect("an address");
        let other: PeerAddress = "node+ws://friend:1".parse().expect("an address");
        let keep = |address: &PeerAddress, after, given: &[u64]| {
            let notices = given.iter().map(|number| notice(*number)).collect();
            let (new, kept) = file.keep(address, after, notices);
            kept.expect("kept");
            numbers(&new)
        };
        assert_eq!(file.newest(&address), 0);
        assert_eq!(keep(&address, 0, &[]), [0; 0]);
        assert_eq!(keep(&address, 0, &[3, 7]), [3, 7]);
        // Another process asked before this was kept.
        assert_eq!(keep(&address, 0, &[3, 7, 8]), [8]);
        assert_eq!((file.newest(&address), file.newest(&other)), (8, 0));
        assert_eq!(keep(&other, 0, &[1]), [1]);
        // These records began anew: what they say is heard though the numbers are small.
        assert_eq!(keep(&address, 8, &[2, 4]), [2, 4]);
        assert_eq!(file.newest(&address), 4);
        assert_eq!(numbers(&heard(dir.path(), &address)), [3, 7, 8, 2, 4]);
        // No more is kept than there is room for, and a file that is damaged begins anew.
        let many: Vec<u64> = (10..10 + 2 * MAX_KEPT as u64).collect();
        assert_eq!(keep(&address, 4, &many), many);
        assert_eq!(heard(dir.path(), &address).len(), MAX_KEPT);
        fs::write(dir.path().join(NOTICES_NAME), "{\"node://friend:1\":{\"newest\":").expect("written");
        assert_eq!(file.newest(&address), 0);
        assert_eq!(keep(&address, 0, &[5]), [5]);
    }
}
