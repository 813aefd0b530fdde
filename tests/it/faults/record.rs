//! What the program did to the disk, call by call, with the bytes it wrote.

use super::disk::Event;
use super::{Call, Verdict, Watcher};
use nix::errno::Errno;

/// What the tests' own process takes away of every mode.
const UMASK: u32 = 0o022;

/// Records everything that a run changes, and fails one of its syncs if it is asked to.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) events: Vec<Event>,
    /// Which of its syncs of a file fails.
    pub(super) failing_sync: Option<usize>,
    pub(super) syncs: usize,
}

impl Recorder {
    pub(super) fn failing(sync: usize) -> Self {
        Self { failing_sync: Some(sync), ..Self::default() }
    }
}

impl Watcher for Recorder {
    fn before(&mut self, call: &Call) -> Verdict {
        let is_file = call.opened(call.arguments[0]).is_some_and(|(_, is_folder)| !is_folder);
        if call.syncs() && is_file {
            self.syncs += 1;
            if self.failing_sync == Some(self.syncs) {
                return Verdict::Fail(Errno::EIO);
            }
        }
        Verdict::Go
    }

    fn after(&mut self, call: &Call, result: i64) {
        if call.changes() {
            self.events.extend(event(call, result));
        }
    }
}

/// What a call did; nothing when it failed, but for a sync.
fn event(call: &Call, result: i64) -> Option<Event> {
    let (path, arguments) = (call.path.clone(), call.arguments);
    let written = || call.memory(arguments[1], result as usize).expect("memory");
    let target = || call.to.clone().expect("it goes somewhere");
    let (inode, is_folder) = subject(call, result);
    let event = match call.name {
        "fsync" | "fdatasync" if result < 0 && !is_folder => Event::FailSync { inode },
        _ if result < 0 => return None,
        "open" | "openat" | "creat" => {
            assert!(!is_folder, "{call:?}");
            let mode = arguments[if call.name == "openat" { 3 } else { 2 }] as u32 & !UMASK;
            Event::Open { path, inode, cut: call.open_flags() & nix::libc::O_TRUNC != 0, mode }
        }
        "write" => {
            let (end, bytes) = (call.position(arguments[0]).expect("a position"), written());
            Event::Write { inode, offset: end - bytes.len() as u64, bytes }
        }
        "pwrite64" => Event::Write { inode, offset: arguments[3], bytes: written() },
        "ftruncate" => Event::Cut { inode, length: arguments[1] },
        "fchmod" => Event::Mode { inode, mode: arguments[1] as u32 },
        "fsync" | "fdatasync" if is_folder => Event::SyncFolder { path },
        "fsync" | "fdatasync" => Event::SyncFile { inode },
        "rename" | "renameat" | "renameat2" => Event::Move { from: path, to: target() },
        "link" | "linkat" => Event::Link { from: path, to: target() },
        "unlink" | "unlinkat" | "rmdir" => Event::Remove { path },
        "mkdir" | "mkdirat" => Event::Folder { path },
        // Whose a file is, the tests do not change.
        "fchown" => return None,
        _ => unreachable!("the model of the disk does not know {call:?}"),
    };
    Some(event)
}

/// The number of the file that a call was about, and whether it is a folder.
fn subject(call: &Call, result: i64) -> (u64, bool) {
    let descriptor = if call.makes_descriptor() { result.cast_unsigned() } else { call.arguments[0] };
    call.opened(descriptor).unwrap_or_default()
}
