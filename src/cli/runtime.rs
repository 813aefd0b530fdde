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

/// What a person, a service manager or a closed terminal sends to stop a process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where whoever started the process wants it to outlive its terminal, as `nohup` does.
    hang_up: Option<Signal>,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let hang_up = (!ignores_hang_up()).then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hang_up })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = received(&mut self.hang_up) => {}
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

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the process was started so that a closed terminal does not end it. Where that cannot be found out, it was not.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let hang_up = 1 << (SignalKind::hangup().as_raw_value() - 1);
    ignored & hang_up != 0
}
