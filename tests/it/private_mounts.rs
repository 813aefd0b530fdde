//! Real disks of any size, mounted where only the commands run here see them; nothing outlives the test.

use crate::desk::{Desk, Outcome, PROGRAM, counts};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A mount namespace, held by a process that does nothing else. All that is mounted in it goes when it is dropped.
pub(crate) struct PrivateMounts {
    holder: Child,
    is_superuser: bool,
}

impl PrivateMounts {
    /// `None`, after a word about it, where this machine lets nobody mount.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(crate) fn new() -> Option<Self> {
        let is_superuser = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        let mounts = Self::hold(is_superuser).filter(|mounts| {
            let folder = tempfile::tempdir().expect("a folder");
            mounts.try_shell("mount -t tmpfs -o size=64k tmpfs \"$1\"", &[folder.path().as_os_str()]).code == 0
        });
        if mounts.is_none() {
            eprintln!("skipped: nothing can be mounted here, not even in a private namespace");
        }
        mounts
    }

    fn hold(is_superuser: bool) -> Option<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]);
        if !is_superuser {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = unshare.spawn().ok()?;
        // An answer says that the process has come to be what it is for.
        let mut answer = String::new();
        let asked = holder.stdin.as_mut().is_some_and(|stdin| stdin.write_all(b"there\n").is_ok());
        let answered =
            asked && holder.stdout.as_mut().is_some_and(|stdout| BufReader::new(stdout).read_line(&mut answer).is_ok());
        let mounts = Self { holder, is_superuser };
        (answered && answer == "there\n").then_some(mounts)
    }

    /// A command that is run among the mounts, in this folder.
    pub(crate) fn command(&self, folder: &Path, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string()]);
        if !self.is_superuser {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["sh", "-c", "cd \"$0\" && exec \"$@\""]).arg(folder).arg(program);
        command.env_clear().env("HOME", folder).envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(counts());
        command
    }

    /// Runs `shard` on a desk, among the mounts.
    pub(crate) fn shard(&self, desk: &Desk, words: &[&str]) -> Outcome {
        outcome(self.command(desk.home(), PROGRAM).args(words))
    }

    /// Runs `shard` on a desk, among the mounts; it must end with this code.
    pub(crate) fn expect(&self, desk: &Desk, code: i32, words: &[&str]) -> Outcome {
        let ended = self.shard(desk, words);
        let said = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.code, code, "{words:?}\n{said}\n{}", ended.stderr);
        ended
    }

    /// The same with `--json`: the document, or the failure.
    pub(crate) fn json(&self, desk: &Desk, code: i32, words: &[&str]) -> serde_json::Value {
        let ended = self.expect(desk, code, &[words, &["--json"]].concat());
        let document = if ended.stdout.is_empty() {
            ended.stderr.lines().last().expect("a failure").as_bytes().to_vec()
        } else {
            ended.stdout
        };
        serde_json::from_slice(&document).expect("JSON")
    }

    /// Mounts an empty disk of this size on a folder, which is made.
    pub(crate) fn disk(&self, folder: &Path, size: &str) {
        std::fs::create_dir_all(folder).expect("a folder");
        self.shell("mount -t tmpfs -o size=\"$2\" tmpfs \"$1\"", &[folder.as_os_str(), size.as_ref()]);
    }

    /// Shows one folder in the place of another.
    pub(crate) fn bind(&self, shown: &Path, place: &Path) {
        self.shell("mount --bind \"$1\" \"$2\"", &[shown.as_os_str(), place.as_os_str()]);
    }

    pub(crate) fn unmount(&self, folder: &Path) {
        self.shell("umount \"$1\"", &[folder.as_os_str()]);
    }

    /// From now on nothing on this disk can be changed.
    pub(crate) fn make_read_only(&self, folder: &Path) {
        self.shell("mount -o remount,ro \"$1\"", &[folder.as_os_str()]);
    }

    /// Fills a disk up to its last byte.
    pub(crate) fn fill(&self, disk: &Path) {
        self.try_shell("cat /dev/zero >\"$1/filling\"", &[disk.as_os_str()]);
    }

    /// Takes the filling away.
    pub(crate) fn empty(&self, disk: &Path) {
        self.shell("rm \"$1/filling\"", &[disk.as_os_str()]);
    }

    /// Every file below a folder, as it is among the mounts.
    pub(crate) fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let found = self.shell("find \"$1\" -type f", &[folder.as_os_str()]);
        found.text().lines().map(PathBuf::from).collect()
    }

    fn shell(&self, script: &str, words: &[&std::ffi::OsStr]) -> Outcome {
        let ended = self.try_shell(script, words);
        assert_eq!(ended.code, 0, "{script} {words:?}: {}", ended.stderr);
        ended
    }

    fn try_shell(&self, script: &str, words: &[&std::ffi::OsStr]) -> Outcome {
        outcome(self.command(Path::new("/"), "sh").args(["-c", script, "sh"]).args(words))
    }
}

impl Drop for PrivateMounts {
    fn drop(&mut self) {
        // Without its input the holder ends, and the namespace with it.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    Outcome {
        code: output.status.code().expect("it ended by itself"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
