//! The calls on one folder: a few at a time, and no more once one of them hangs.
//!
//! A disk that stalls keeps the thread of every call on it. All places, and coding, share few threads, so that without a
//! bound a single such disk would stop them all.

use super::super::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// So many calls on one folder may be under way: enough to keep a disk busy, and few of the threads there are.
const CALLS_AT_ONCE: usize = 4;
/// A call that was given up after so long hangs; what is given up sooner was not wanted any more.
const HANGS_AFTER: Duration = Duration::from_secs(10);

/// The calls on one folder.
#[derive(Debug)]
pub(in crate::backend) struct Calls {
    shown: String,
    permits: Arc<Semaphore>,
    /// How many calls were given up and have not come back.
    hanging: watch::Sender<usize>,
    hangs_after: Duration,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running(Instant),
    /// Its caller has gone, and what it does is not known.
    Hanging,
    /// Its caller went before it began: nothing is to be done.
    Unwanted,
    Done,
}

/// One call, as its thread and its caller both see it.
struct Call {
    stage: Mutex<Stage>,
}

impl Calls {
    /// None yet.
    pub(in crate::backend) fn on(folder: &Path) -> Self {
        Self::with_patience(folder, HANGS_AFTER)
    }

    fn with_patience(folder: &Path, hangs_after: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(CALLS_AT_ONCE));
        Self { shown: folder.display().to_string(), permits, hanging: watch::Sender::new(0), hangs_after }
    }

    /// Runs file calls where they may block; [`ErrorKind::Unreachable`] at once while an earlier call hangs.
    pub(in crate::backend) async fn run<T, F>(self: &Arc<Self>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let mut hanging = self.hanging.subscribe();
        let permit = tokio::select! {
            biased;
            _ = hanging.wait_for(|count| *count > 0) => return Err(self.hangs()),
            permit = Arc::clone(&self.permits).acquire_owned() => permit,
        };
        let call = Arc::new(Call { stage: Mutex::new(Stage::Waiting) });
        let caller = Caller { calls: Arc::clone(self), call: Arc::clone(&call) };
        let calls = Arc::clone(self);
        let running = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if !call.begin() {
                return Err(calls.hangs());
            }
            let outcome = work();
            if call.end() == Stage::Hanging {
                calls.hanging.send_modify(|count| *count -= 1);
            }
            outcome
        });
        let joined = running.await;
        drop(caller);
        joined.unwrap_or_else(|join| Err(Error::with_source(ErrorKind::Failed, "waiting for a file operation", join)))
    }

    fn hangs(&self) -> Error {
        let why = "an earlier call on it has not come back";
        Error::with_source(ErrorKind::Unreachable, format!("using {}", self.shown), why)
    }
}

impl Call {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anyone still wants it.
    fn begin(&self) -> bool {
        let mut stage = self.stage();
        if *stage == Stage::Unwanted {
            return false;
        }
        *stage = Stage::Running(Instant::now());
        true
    }

    /// What it was until now.
    fn end(&self) -> Stage {
        std::mem::replace(&mut *self.stage(), Stage::Done)
    }
}

/// Whoever waits for a call; dropped before its end, the call was given up.
struct Caller {
    calls: Arc<Calls>,
    call: Arc<Call>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut stage = self.call.stage();
        match *stage {
            Stage::Waiting => *stage = Stage::Unwanted,
            Stage::Running(since) if since.elapsed() >= self.calls.hangs_after => {
                *stage = Stage::Hanging;
                self.calls.hanging.send_modify(|count| *count += 1);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::sync::oneshot;

    fn calls(hangs_after: Duration) -> Arc<Calls> {
        Arc::new(Calls::with_patience(Path::new("/mnt/nas"), hangs_after))
    }

    /// A call that hangs until it is let go, given up once it runs.
    async fn give_up_one(calls: &Arc<Calls>) -> mpsc::Sender<()> {
        let (begun, has_begun) = oneshot::channel();
        let (let_go, until) = mpsc::channel();
        let call = calls.run(move || {
            begun.send(()).expect("somebody waits for it");
            until.recv().expect("it is let go");
            Ok(())
        });
        tokio::select! {
            _ = call => unreachable!("it hangs"),
            _ = has_begun => {}
        }
        let_go
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_that_hangs_makes_its_place_unreachable_until_it_comes_back() {
        let calls = calls(Duration::ZERO);
        let let_go = give_up_one(&calls).await;
        let error = calls.run(|| Ok(())).await.expect_err("it is not tried");
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        let_go.send(()).expect("it waits");
        calls.hanging.subscribe().wait_for(|count| *count == 0).await.expect("it comes back");
        assert_eq!(calls.run(|| Ok(7)).await.expect("it works again"), 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_waits_for_a_turn_is_told_as_soon_as_a_call_hangs() {
        let calls = calls(Duration::ZERO);
        let mut permits = Vec::new();
        for _ in 1..CALLS_AT_ONCE {
            permits.push(Arc::clone(&calls.permits).acquire_owned().await.expect("a turn"));
        }
        let let_go = give_up_one(&calls).await;
        assert_eq!(calls.permits.available_permits(), 0, "a call that hangs keeps its turn");
        assert_eq!(calls.run(|| Ok(())).await.expect_err("no turn").kind, ErrorKind::Unreachable);
        let_go.send(()).expect("it waits");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_that_is_given_up_soon_hangs_in_no_ones_way() {
        let calls = calls(HANGS_AFTER);
        let let_go = give_up_one(&calls).await;
        calls.run(|| Ok(())).await.expect("the place is well");
        let_go.send(()).expect("it waits");
    }
}
