//! What every operation takes beside its own options: where progress is told, and how it is cancelled.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Something happened on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// A part of the work begins; the totals are known or not.
    Begin {
        /// What is being done, in a word or two.
        phase: &'static str,
        /// How many bytes it will take.
        total_bytes: Option<u64>,
        /// How many files, objects or shards.
        total_items: Option<u64>,
    },
    /// This many more bytes are done.
    Bytes(u64),
    /// This many more items are done.
    Items(u64),
    /// A person should know; the work goes on.
    Warning(String),
    /// The part of the work that began last is over.
    End,
}

/// Takes progress; called from many tasks, and quickly done.
pub type ProgressSink = Arc<dyn Fn(ProgressEvent) + Send + Sync>;

/// Where progress is told, and how the operation is cancelled.
#[derive(Clone, Default)]
pub struct Controls {
    /// Takes progress, if anyone listens.
    pub progress: Option<ProgressSink>,
    /// Cancelled by whoever wants the operation to stop; it leaves nothing half-visible.
    pub cancel: CancellationToken,
}

impl Controls {
    /// A part of the work begins.
    pub fn begin(&self, phase: &'static str, total_bytes: Option<u64>, total_items: Option<u64>) {
        self.tell(ProgressEvent::Begin { phase, total_bytes, total_items });
    }

    /// This many more bytes are done.
    pub fn bytes(&self, delta: u64) {
        self.tell(ProgressEvent::Bytes(delta));
    }

    /// This many more items are done.
    pub fn items(&self, delta: u64) {
        self.tell(ProgressEvent::Items(delta));
    }

    /// A person should know.
    pub fn warn(&self, text: impl Into<String>) {
        self.tell(ProgressEvent::Warning(text.into()));
    }

    /// The part of the work that began last is over.
    pub fn end(&self) {
        self.tell(ProgressEvent::End);
    }

    /// An error once the operation is cancelled.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        Ok(())
    }

    fn tell(&self, event: ProgressEvent) {
        if let Some(progress) = &self.progress {
            progress(event);
        }
    }
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls").field("cancelled", &self.cancel.is_cancelled()).finish_non_exhaustive()
    }
}
