//! What a thread is about to do to which file, read from its registers and its memory.

use nix::libc::{self, c_long, user_regs_struct};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// No path is longer.
const MAX_PATH_BYTES: usize = 4096;
const PAGE_BYTES: u64 = 4096;

/// Which arguments of a call say which file it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// A descriptor.
    Open(usize),
    /// A path.
    Path(usize),
    /// A folder's descriptor and a path below it.
    Below(usize, usize),
    /// Two paths.
    Paths(usize, usize),
    /// Two folders' descriptors, each before a path below it.
    BothBelow(usize, usize),
}

/// The system calls that are about files, and whether they change one; opening changes only when it creates or cuts.
const CALLS: [(c_long, &str, Names, bool); 56] = [
    (libc::SYS_open, "open", Names::Path(0), true),
    (libc::SYS_openat, "openat", Names::Below(0, 1), true),
    (libc::SYS_creat, "creat", Names::Path(0), true),
    (libc::SYS_read, "read", Names::Open(0), false),
    (libc::SYS_readv, "readv", Names::Open(0), false),
    (libc::SYS_pread64, "pread64", Names::Open(0), false),
    (libc::SYS_write, "write", Names::Open(0), true),
    (libc::SYS_writev, "writev", Names::Open(0), true),
    (libc::SYS_pwrite64, "pwrite64", Names::Open(0), true),
    (libc::SYS_pwritev, "pwritev", Names::Open(0), true),
    (libc::SYS_pwritev2, "pwritev2", Names::Open(0), true),
    (libc::SYS_copy_file_range, "copy_file_range", Names::Open(2), true),
    (libc::SYS_sendfile, "sendfile", Names::Open(0), true),
    (libc::SYS_ftruncate, "ftruncate", Names::Open(0), true),
    (libc::SYS_truncate, "truncate", Names::Path(0), true),
    (libc::SYS_fallocate, "fallocate", Names::Open(0), true),
    (libc::SYS_fsync, "fsync", Names::Open(0), true),
    (libc::SYS_fdatasync, "fdatasync", Names::Open(0), true),
    (libc::SYS_sync_file_range, "sync_file_range", Names::Open(0), true),
    (libc::SYS_syncfs, "syncfs", Names::Open(0), true),
    (libc::SYS_rename, "rename", Names::Paths(0, 1), true),
    (libc::SYS_renameat, "renameat", Names::BothBelow(0, 2), true),
    (libc::SYS_renameat2, "renameat2", Names::BothBelow(0, 2), true),
    (libc::SYS_link, "link", Names::Paths(0, 1), true),
    (libc::SYS_linkat, "linkat", Names::BothBelow(0, 2), true),
    (libc::SYS_symlink, "symlink", Names::Path(1), true),
    (libc::SYS_symlinkat, "symlinkat", Names::Below(1, 2), true),
    (libc::SYS_unlink, "unlink", Names::Path(0), true),
    (libc::SYS_unlinkat, "unlinkat", Names::Below(0, 1), true),
    (libc::SYS_rmdir, "rmdir", Names::Path(0), true),
    (libc::SYS_mkdir, "mkdir", Names::Path(0), true),
    (libc::SYS_mkdirat, "mkdirat", Names::Below(0, 1), true),
    (libc::SYS_chmod, "chmod", Names::Path(0), true),
    (libc::SYS_fchmod, "fchmod", Names::Open(0), true),
    (libc::SYS_fchmodat, "fchmodat", Names::Below(0, 1), true),
    (libc::SYS_fchown, "fchown", Names::Open(0), true),
    (libc::SYS_utimensat, "utimensat", Names::Below(0, 1), true),
    (libc::SYS_stat, "stat", Names::Path(0), false),
    (libc::SYS_lstat, "lstat", Names::Path(0), false),
    (libc::SYS_fstat, "fstat", Names::Open(0), false),
    (libc::SYS_newfstatat, "newfstatat", Names::Below(0, 1), false),
    (libc::SYS_statx, "statx", Names::Below(0, 1), false),
    (libc::SYS_statfs, "statfs", Names::Path(0), false),
    (libc::SYS_fstatfs, "fstatfs", Names::Open(0), false),
    (libc::SYS_access, "access", Names::Path(0), false),
    (libc::SYS_faccessat, "faccessat", Names::Below(0, 1), false),
    (libc::SYS_faccessat2, "faccessat2", Names::Below(0, 1), false),
    (libc::SYS_readlink, "readlink", Names::Path(0), false),
    (libc::SYS_readlinkat, "readlinkat", Names::Below(0, 1), false),
    (libc::SYS_getdents64, "getdents64", Names::Open(0), false),
    (libc::SYS_lseek, "lseek", Names::Open(0), false),
    (libc::SYS_flock, "flock", Names::Open(0), false),
    (libc::SYS_fcntl, "fcntl", Names::Open(0), false),
    (libc::SYS_fadvise64, "fadvise64", Names::Open(0), false),
    (libc::SYS_mmap, "mmap", Names::Open(4), false),
    (libc::SYS_chdir, "chdir", Names::Path(0), false),
];

/// A system call about a file below the folder that is watched.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    /// Where it is moved or linked to.
    pub(crate) to: Option<PathBuf>,
    pub(crate) arguments: [u64; 6],
    thread: i32,
    changes: bool,
}

impl Call {
    /// What the thread is about to do, when that is about a file below this folder.
    pub(super) fn of(thread: i32, registers: &user_regs_struct, folder: &Path) -> Option<Self> {
        let (_, name, names, may_change) = CALLS.iter().find(|(number, ..)| *number == registers.orig_rax as c_long)?;
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let mut call = Self { name, path: PathBuf::new(), to: None, arguments, thread, changes: *may_change };
        (call.path, call.to) = match *names {
            Names::Open(at) => (call.open(at)?, None),
            Names::Path(at) => (call.below(None, at)?, None),
            Names::Below(folder, at) => (call.below(Some(folder), at)?, None),
            Names::Paths(from, to) => (call.below(None, from)?, Some(call.below(None, to)?)),
            Names::BothBelow(from, to) => (call.below(Some(from), from + 1)?, Some(call.below(Some(to), to + 1)?)),
        };
        if call.name.starts_with("open") {
            let flags = call.open_flags();
            let is_nameless = flags & libc::O_TMPFILE == libc::O_TMPFILE;
            call.changes = is_nameless || flags & (libc::O_CREAT | libc::O_TRUNC) != 0;
        }
        let is_below = call.path.starts_with(folder) || call.to.as_ref().is_some_and(|to| to.starts_with(folder));
        is_below.then_some(call)
    }

    /// Whether it changes a file or a folder, or makes a change last.
    pub(crate) fn changes(&self) -> bool {
        self.changes
    }

    pub(super) fn makes_descriptor(&self) -> bool {
        matches!(self.name, "open" | "openat" | "creat")
    }

    pub(super) fn syncs(&self) -> bool {
        matches!(self.name, "fsync" | "fdatasync")
    }

    pub(super) fn writes(&self) -> bool {
        matches!(self.name, "write" | "pwrite64")
    }

    pub(super) fn open_flags(&self) -> i32 {
        match self.name {
            "openat" => self.arguments[2] as i32,
            "creat" => libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY,
            _ => self.arguments[1] as i32,
        }
    }

    /// The number by which the system knows the file that is open under this descriptor, and whether it is a folder.
    pub(super) fn opened(&self, descriptor: u64) -> Option<(u64, bool)> {
        let metadata = fs::metadata(self.descriptor(descriptor)).ok()?;
        Some((metadata.ino(), metadata.is_dir()))
    }

    /// Where the next byte of an open file goes.
    pub(super) fn position(&self, descriptor: u64) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/fdinfo/{descriptor}", self.thread)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
    }

    /// Bytes of the thread's memory.
    pub(super) fn memory(&self, address: u64, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let memory = File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        memory.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    fn descriptor(&self, descriptor: u64) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", self.thread, descriptor as i32))
    }

    fn open(&self, at: usize) -> Option<PathBuf> {
        let path = fs::read_link(self.descriptor(self.arguments[at])).ok()?;
        // A file without a name is the file that it was.
        let text = path.to_str()?;
        Some(text.strip_suffix(" (deleted)").map_or(path.clone(), PathBuf::from))
    }

    fn below(&self, folder: Option<usize>, at: usize) -> Option<PathBuf> {
        let name = self.text(self.arguments[at])?;
        let path = Path::new(&name);
        if path.is_absolute() {
            return Some(path.to_owned());
        }
        let folder = match folder {
            Some(folder) if self.arguments[folder] as i32 != libc::AT_FDCWD => self.open(folder)?,
            _ => fs::read_link(format!("/proc/{}/cwd", self.thread)).ok()?,
        };
        Some(if name.is_empty() { folder } else { folder.join(path) })
    }

    /// The text that ends with a zero at this address: page by page, for the next page may not be there.
    fn text(&self, address: u64) -> Option<String> {
        let mut text = Vec::new();
        while address != 0 && text.len() < MAX_PATH_BYTES {
            let from = address + text.len() as u64;
            let page = self.memory(from, (PAGE_BYTES - from % PAGE_BYTES) as usize)?;
            match page.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend(&page[..end]);
                    return String::from_utf8(text).ok();
                }
                None => text.extend(page),
            }
        }
        None
    }
}
