//! The socket in a node's folder: commands ask over it, and the node that is served answers. It is its owner's alone.

use super::NodeHome;
use super::control::{Answer, MAX_ANSWER_BYTES, MAX_QUESTION_BYTES, Question};
use super::door::{Places, WhenFull, hear_all};
use crate::error::{Error, ErrorKind, Result};
use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Commands that are heard at once; others wait.
const MAX_ASKING: usize = 16;
/// How long a command has for its question, and to take the answer.
const LINE_DEADLINE: Duration = Duration::from_secs(5);
/// How long answers that are under way may take when the node stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Asks the node that is served from a folder. [`ErrorKind::Unavailable`] where none is.
pub async fn ask(home: &NodeHome, question: &Question) -> Result<Answer> {
    let path = home.socket();
    let failed = |error| Error::local(format!("asking the node at {}", path.display()), error);
    let mut stream = match UnixStream::connect(&path).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            let doing = format!("no node is served from {}", home.folder().display());
            return Err(Error::new(ErrorKind::Unavailable, doing).with_hint("`shard node serve` serves it"));
        }
        connected => connected.map_err(failed)?,
    };
    let asked = async {
        stream.write_all(&question.to_line()).await?;
        read_line(&mut stream, MAX_ANSWER_BYTES).await
    };
    let asked = timeout(question.deadline() + 2 * LINE_DEADLINE, asked).await;
    let line = asked.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    let none = |error| Error::new(ErrorKind::Unavailable, "the node gave no answer").with_source(error);
    Answer::parse(&line).map_err(none)
}

/// A line, without more than its limit being held.
async fn read_line(stream: impl AsyncRead + Unpin, limit: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(limit as u64 + 1)).read_until(b'\n', &mut line).await?;
    Ok(line)
}

/// Where commands are heard. The socket's file goes when it is dropped.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// In this file; what a process that was killed left there goes. The caller holds the folder's lock.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let bound = || {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        match bound() {
            Ok(listener) => Ok(Self { listener, path: path.to_owned() }),
            Err(error) => {
                let is_long = error.kind() == io::ErrorKind::InvalidInput;
                let failure = Error::local(format!("cannot make the socket {}", path.display()), error);
                Err(if is_long {
                    failure.with_hint("choose a folder with a shorter path: --data DIR")
                } else {
                    failure
                })
            }
        }
    }

    /// Hears commands until it is told to stop.
    pub(super) async fn run<F>(
        self,
        answer: impl Fn(Question) -> F + Clone + Send + 'static,
        stopping: CancellationToken,
    ) where
        F: Future<Output = Answer> + Send,
    {
        let places = Places { count: MAX_ASKING, when_full: WhenFull::Wait, last_answers: LAST_ANSWERS };
        let hear_one = move |stream| {
            let answer = answer.clone();
            async move {
                if let Err(error) = hear(stream, answer).await {
                    tracing::debug!("a command was not answered: {error}");
                }
            }
        };
        hear_all(&self.listener, places, hear_one, stopping).await;
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

async fn hear<F: Future<Output = Answer>>(mut stream: UnixStream, answer: impl Fn(Question) -> F) -> io::Result<()> {
    let line = timeout(LINE_DEADLINE, read_line(&mut stream, MAX_QUESTION_BYTES)).await??;
    let answer = match Question::parse(&line) {
        Ok(question) => timeout(question.deadline(), answer(question)).await?,
        Err(error) => Answer::Failed { why: error.to_string() },
    };
    timeout(LINE_DEADLINE, stream.write_all(&answer.to_line())).await?
}
