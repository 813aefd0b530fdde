//! Hears many callers at once, and never more than it has places for.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// After an error of accept, such as too many open files, which would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that is called.
pub(super) trait Door {
    /// One that called.
    type Caller: Send + 'static;

    /// The next.
    fn next(&self) -> impl Future<Output = io::Result<Self::Caller>> + Send;
}

impl Door for UnixListener {
    type Caller = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Door for TcpListener {
    type Caller = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// What happens when all places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// Whoever comes waits: the callers are known to be friends.
    Wait,
    /// Whoever has been there longest goes: so those who say nothing keep nobody out.
    OldestGoes,
}

/// How many are heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub(super) count: usize,
    pub(super) when_full: WhenFull,
    /// How long those who are being heard have when no more are taken.
    pub(super) last_answers: Duration,
}

/// Hears callers until it is told to stop; then nothing of it is left.
pub(super) async fn hear_all<D: Door, F>(
    door: &D,
    places: Places,
    hear: impl Fn(D::Caller) -> F,
    stopping: CancellationToken,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (mut heard, mut oldest_first) = (JoinSet::new(), VecDeque::new());
    loop {
        let takes = places.when_full == WhenFull::OldestGoes || heard.len() < places.count;
        tokio::select! {
            called = door.next(), if takes => match called {
                Ok(caller) => {
                    oldest_first.retain(|task: &tokio::task::AbortHandle| !task.is_finished());
                    if oldest_first.len() >= places.count && let Some(oldest) = oldest_first.pop_front() {
                        oldest.abort();
                    }
                    oldest_first.push_back(heard.spawn(hear(caller)));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            // What is over is not kept.
            Some(_) = heard.join_next() => {}
            () = stopping.cancelled() => break,
        }
    }
    timeout(places.last_answers, async { while heard.join_next().await.is_some() {} }).await.ok();
    heard.shutdown().await;
}
