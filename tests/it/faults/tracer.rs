//! Runs the program and stops it before and after each system call.
//!
//! All threads are stopped by one tracer, so that calls have one order and one number over all of them.

use super::Call;
use crate::desk::{Desk, PROGRAM};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Stops itself before it becomes the program, so that there is a time to take hold of it.
const WAITING: &str = "kill -STOP $$; exec \"$0\" \"$@\"";

/// What stands where the result will be while a call is about to be made.
const AT_BEGINNING: i64 = -(Errno::ENOSYS as i64);

/// What is done with a call that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is made.
    Go,
    /// The process is killed before it.
    Kill,
    /// It is not made, and fails with this.
    Fail(Errno),
    /// It is made with half of what it was to write.
    Shorten,
}

/// What looks at the calls about files, and decides.
pub(crate) trait Watcher {
    /// Before it is made.
    fn before(&mut self, call: &Call) -> Verdict;

    /// After it was made, with what it gave: a negative number is an error's.
    fn after(&mut self, _call: &Call, _result: i64) {}
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exit(i32),
    Killed,
}

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) ended: Ended,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A call that a thread is in.
struct Pending {
    call: Option<Call>,
    verdict: Verdict,
    /// The third argument as the program gave it.
    third: u64,
}

impl Pending {
    fn unwatched() -> Self {
        Self { call: None, verdict: Verdict::Go, third: 0 }
    }
}

struct Tracer<'a> {
    leader: Pid,
    folder: &'a Path,
    watcher: &'a mut dyn Watcher,
    /// From here on it is the program that makes calls.
    is_program: bool,
    pending: BTreeMap<Pid, Pending>,
}

/// Whether this machine lets a process trace its child; if not, that is said.
#[expect(clippy::print_stdout, reason = "that nothing was tried must be seen")]
pub(crate) fn can_trace() -> bool {
    struct Nothing;
    impl Watcher for Nothing {
        fn before(&mut self, _: &Call) -> Verdict {
            Verdict::Go
        }
    }
    let mut child = waiting("/bin/true", &[]);
    let can = matches!(start(&mut child, Path::new("/"), &mut Nothing), Ok(Ended::Exit(0)));
    if !can {
        println!("SKIPPED: this machine does not let a process trace its child");
    }
    can
}

/// Runs `shard` on a desk; calls about files below its home are watched.
pub(crate) fn run(desk: &Desk, words: &[&str], watcher: &mut dyn Watcher) -> Traced {
    let plain = desk.command();
    let (mut stdout, mut stderr) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    let mut command = waiting(PROGRAM, words);
    command.current_dir(desk.home()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TOKIO_WORKER_THREADS", "1");
    command.stdout(stdout.try_clone().expect("a handle")).stderr(stderr.try_clone().expect("a handle"));
    let folder: PathBuf = desk.home().canonicalize().expect("a folder");
    let ended = start(&mut command, &folder, watcher).expect("it can be traced");
    Traced { ended, stdout: all_of(&mut stdout), stderr: all_of(&mut stderr) }
}

fn all_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn waiting(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", WAITING, program]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[expect(clippy::zombie_processes, reason = "the tracer waits for the child and all its threads itself")]
fn start(command: &mut Command, folder: &Path, watcher: &mut dyn Watcher) -> Result<Ended, Errno> {
    let child = command.spawn().expect("a shell");
    let leader = Pid::from_raw(child.id().cast_signed());
    waitpid(leader, Some(WaitPidFlag::WUNTRACED))?;
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    let mut tracer = Tracer { leader, folder, watcher, is_program: false, pending: BTreeMap::new() };
    let seized = ptrace::seize(leader, options);
    if seized.is_err() {
        let _ = kill(leader, Signal::SIGKILL);
    }
    kill(leader, Signal::SIGCONT)?;
    let ended = tracer.follow()?;
    seized.map(|()| ended)
}

impl Tracer<'_> {
    /// Lets every thread run from stop to stop, until the process is no more.
    fn follow(&mut self) -> Result<Ended, Errno> {
        loop {
            // Of this thread's children only: other tests have children too.
            let status = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))?;
            // One that was killed meanwhile does not go on; its end is told.
            let go_on = |thread, signal: Option<Signal>| {
                let _ = ptrace::syscall(thread, signal);
            };
            match status {
                WaitStatus::Exited(thread, code) if thread == self.leader => return Ok(Ended::Exit(code)),
                WaitStatus::Signaled(thread, ..) if thread == self.leader => return Ok(Ended::Killed),
                WaitStatus::PtraceSyscall(thread) => {
                    self.stopped(thread);
                    go_on(thread, None);
                }
                WaitStatus::PtraceEvent(thread, _, event) => {
                    if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 {
                        self.is_program = true;
                        // What comes next is the end of the call that made it the program.
                        self.pending = BTreeMap::from([(thread, Pending::unwatched())]);
                    }
                    go_on(thread, None);
                }
                WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal)),
                _ => {}
            }
        }
    }

    /// A thread is at the beginning or at the end of a call.
    fn stopped(&mut self, thread: Pid) {
        let Ok(mut registers) = ptrace::getregs(thread) else { return };
        if let Some(pending) = self.pending.remove(&thread) {
            match pending.verdict {
                Verdict::Fail(errno) => registers.rax = (-i64::from(errno as i32)).cast_unsigned(),
                Verdict::Shorten => registers.rdx = pending.third,
                Verdict::Go | Verdict::Kill => {}
            }
            if pending.verdict != Verdict::Go {
                let _ = ptrace::setregs(thread, registers);
            }
            if let Some(call) = &pending.call {
                self.watcher.after(call, registers.rax.cast_signed());
            }
            return;
        }
        // Held in the middle of a call, a thread comes to an end without a beginning.
        if registers.rax.cast_signed() != AT_BEGINNING {
            return;
        }
        let call = self.is_program.then(|| Call::of(thread.as_raw(), &registers, self.folder)).flatten();
        let verdict = call.as_ref().map_or(Verdict::Go, |call| self.watcher.before(call));
        let third = registers.rdx;
        match verdict {
            Verdict::Go => {}
            Verdict::Kill => {
                let _ = kill(self.leader, Signal::SIGKILL);
            }
            // There is no such call: nothing is done.
            Verdict::Fail(_) => registers.orig_rax = u64::MAX,
            Verdict::Shorten => registers.rdx /= 2,
        }
        if matches!(verdict, Verdict::Fail(_) | Verdict::Shorten) {
            let _ = ptrace::setregs(thread, registers);
        }
        self.pending.insert(thread, Pending { call, verdict, third });
    }
}
