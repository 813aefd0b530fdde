//! Brings a file's bytes to the disk while more of them come, so that the last sync has little left to wait for.

use std::fs::File;
use std::io;
use std::thread::{self, JoinHandle};

/// So many new bytes are worth a sync of their own: enough that the file system's journal is no burden.
const STEP_BYTES: u64 = 64 * 1024 * 1024;

/// The sync that is under way beside the writing, one at most.
#[derive(Debug, Default)]
pub(super) struct EarlySync {
    unsynced_bytes: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl EarlySync {
    /// More bytes were written. An error is that of the sync before: the file is to be given up.
    pub(super) fn wrote(&mut self, file: &File, bytes: u64) -> io::Result<()> {
        self.unsynced_bytes = self.unsynced_bytes.saturating_add(bytes);
        let disk_is_behind = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if self.unsynced_bytes < STEP_BYTES || disk_is_behind {
            return Ok(());
        }
        self.settle()?;
        self.unsynced_bytes = 0;
        let handle = file.try_clone()?;
        // Without a thread the last sync does it all.
        self.running = thread::Builder::new().name("early sync".into()).spawn(move || handle.sync_data()).ok();
        Ok(())
    }

    /// Waits for the sync that is under way. The system tells its error once: the last sync would not hear of it.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.join().unwrap_or_else(|_| Err(io::Error::other("a sync stopped in the middle")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_begins_only_once_enough_was_written() {
        let file = tempfile::tempfile().expect("a file");
        let mut early = EarlySync::default();
        early.wrote(&file, STEP_BYTES - 1).expect("noted");
        assert!(early.running.is_none());
        early.wrote(&file, 1).expect("begins");
        assert!(early.running.is_some());
        assert_eq!(early.unsynced_bytes, 0);
        early.settle().expect("synced");
        assert!(early.running.is_none());
    }

    #[test]
    fn one_sync_at_a_time_is_under_way() {
        let file = tempfile::tempfile().expect("a file");
        let (let_go, until) = std::sync::mpsc::channel::<()>();
        let waiting = thread::spawn(move || until.recv().map_err(io::Error::other));
        let mut early = EarlySync { unsynced_bytes: 0, running: Some(waiting) };
        early.wrote(&file, STEP_BYTES).expect("noted");
        assert_eq!(early.unsynced_bytes, STEP_BYTES, "what was written then is for the next one");
        let_go.send(()).expect("it waits");
        early.settle().expect("it ended well");
    }

    #[test]
    fn the_error_of_a_sync_is_told_by_whatever_comes_next() {
        // A pipe cannot be synced.
        let (_reader, writer) = io::pipe().expect("a pipe");
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let mut early = EarlySync::default();
        early.wrote(&pipe, STEP_BYTES).expect("begins");
        early.settle().expect_err("it failed");
        early.wrote(&pipe, STEP_BYTES).expect("begins");
        while early.running.as_ref().is_some_and(|running| !running.is_finished()) {
            thread::yield_now();
        }
        early.wrote(&pipe, STEP_BYTES).expect_err("the one before failed");
    }
}
