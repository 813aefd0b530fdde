//! Folders for tests that are not about a disk: in memory, where the machine has room there. A sync costs nothing then.

use crate::soak;
use tempfile::TempDir;

/// Where memory has a folder.
const SHARED: &str = "/dev/shm";
/// Far more than all tests that run at once have on their disks.
const ROOM_BYTES: u64 = 2 << 30;

/// A folder that goes when it is dropped. Where `TMPDIR` names a place it is there, and for whole runs on the disk: they
/// hold more.
pub(crate) fn folder() -> TempDir {
    let is_in_memory = std::env::var_os("TMPDIR").is_none() && !soak::is_asked_for() && has_room();
    let made = if is_in_memory { tempfile::tempdir_in(SHARED) } else { tempfile::tempdir() };
    made.expect("a folder")
}

#[cfg(target_os = "linux")]
fn has_room() -> bool {
    rustix::fs::statvfs(SHARED).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ROOM_BYTES)
}

#[cfg(not(target_os = "linux"))]
fn has_room() -> bool {
    false
}
