//! Runs a command's work on all cores until it is done or somebody interrupts it.

use super::exit::ExitCode;
use super::failure::{Failure, FailureKind};
use super::notices::Notices;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// So many threads do what blocks: files, coding, hashing. Each keeps freed memory of its own, so that more of them would
/// cost more memory than they save time.
const MAX_BLOCKING_THREADS: usize = 16;
/// Work that is off the reactor (a read from a pipe that stays silent) is waited for this long when the command is over.
const PATIENCE: Duration = Duration::from_millis(500);

/// Runs `work` to its end. The first interruption cancels `cancel`, and the work takes back what is half-done; the second
/// ends the process at once.
pub(crate) fn run<F>(notices: Notices, cancel: &CancellationToken, work: F) -> Result<ExitCode, Failure>
where
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let starting = |error| Failure::new(FailureKind::Failed, "cannot start working threads").because(error);
    let runtime: Runtime = Builder::new_multi_thread()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(starting)?;
    let outcome = runtime.block_on(async {
        let signals = Signals::listen().map_err(starting)?;
        tokio::spawn(signals.obey(notices, cancel.clone()));
        work.await
    });
    runtime.shutdown_timeout(PATIENCE);
    outcome
}

/// What a person or a service manager sends to stop a process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    async fn obey(mut self, notices: Notices, cancel: CancellationToken) {
        self.next().await;
        cancel.cancel();
        notices.note("stopping; interrupt again to stop at once");
        self.next().await;
        std::process::exit(ExitCode::Failed.code().into());
    }
}
