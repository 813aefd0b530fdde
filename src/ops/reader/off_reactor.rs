//! Work for the processor leaves the reactor; work in the background ends with whoever waits for it.

use super::ReadError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinError, JoinHandle};

/// Runs what takes the processor, or waits for a disk, on a thread of its own; it begins at once.
pub(in crate::ops) fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, ReadError>> + Send {
    let task = tokio::task::spawn_blocking(work);
    async { task.await.map_err(stopped) }
}

/// A task that goes on while nobody looks, and is stopped when it is dropped.
#[derive(Debug)]
pub(super) struct Ahead<T>(JoinHandle<T>);

impl<T: Send + 'static> Ahead<T> {
    pub(super) fn start(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl<T> Future for Ahead<T> {
    type Output = Result<T, ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(context)).map_err(stopped))
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A panic goes on where it was waited for; anything else is the runtime going down.
fn stopped(error: JoinError) -> ReadError {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => ReadError::Stopped,
    }
}
