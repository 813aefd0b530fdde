//! Asks each node that is called what it has to tell the store, while the command does what it is for.

use super::exchange::Exchange;
use super::heard::{HeardNotice, NoticeFile};
use crate::peer::storage::{MAX_NOTICES, StorageAnswer, StorageCall, StorageRequest};
use crate::peer::transport::Session;
use crate::peer::{NodeGrant, PeerAddress};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a command that is at its end waits for what a node has to tell.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(1);
/// What it told may then take so long to be kept: what is kept is told too.
const LAST_KEEPING_DEADLINE: Duration = Duration::from_secs(10);
/// A node whose sessions come and go is asked once in this time.
const ASKED_EVERY: Duration = Duration::from_secs(60);
/// So many notices of one node wait to be told to a person: the newest.
const MAX_UNTOLD: usize = 16;
/// How long a node may take to tell it.
const HEARING_DEADLINE: Duration = Duration::from_secs(30);
/// A node is asked so often for more in one session: more than the notices that it keeps for one owner.
const MAX_ROUNDS: usize = 4;

/// What a node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSaid {
    /// Which node.
    pub address: PeerAddress,
    /// What it said; its own word.
    pub notice: HeardNotice,
}

/// What was heard and not yet told to a person.
pub(super) type Untold = Arc<Mutex<Vec<NodeSaid>>>;

/// The ears of one store.
pub(super) struct Ears {
    grant: Option<NodeGrant>,
    file: Arc<NoticeFile>,
    untold: Untold,
    asked: Mutex<HashMap<PeerAddress, Instant>>,
    leaving: CancellationToken,
    tasks: TaskTracker,
}

impl Ears {
    pub(super) fn of(folder: &Path, grant: Option<NodeGrant>, untold: Untold) -> Arc<Self> {
        let file = Arc::new(NoticeFile::in_folder(folder));
        let (asked, leaving, tasks) = (Mutex::default(), CancellationToken::new(), TaskTracker::new());
        Arc::new(Self { grant, file, untold, asked, leaving, tasks })
    }

    /// Listens to a node over a session that began, and holds nothing else up.
    pub(super) fn listen(self: &Arc<Self>, address: &PeerAddress, session: &Session) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.get(address).is_some_and(|before| before.elapsed() < ASKED_EVERY) {
            return;
        }
        asked.insert(address.clone(), Instant::now());
        drop(asked);
        let (ears, address, session) = (Arc::clone(self), address.clone(), session.clone());
        self.tasks.spawn(async move {
            let heard = timeout(HEARING_DEADLINE, ears.hear(&address, &session)).await;
            if let Err(why) = heard.unwrap_or_else(|_| Err("it took too long".into())) {
                tracing::debug!(%address, "what the node has to tell was not heard: {why}");
            }
        });
    }

    async fn hear(
        &self,
        address: &PeerAddress,
        session: &Session,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (file, of) = (Arc::clone(&self.file), address.clone());
        let mut after = spawn_blocking(move || file.newest(&of)).await?;
        for _ in 0..MAX_ROUNDS {
            let asked = tokio::select! {
                asked = self.ask(session, after) => asked?,
                () = self.leaving.cancelled() => return Err("the command is at its end".into()),
            };
            let StorageAnswer::Notices(notices) = asked else {
                return Err("it answered something else than was asked".into());
            };
            let (are_all, last) = (notices.len() < MAX_NOTICES, notices.last().map(|notice| notice.number));
            let (file, of) = (Arc::clone(&self.file), address.clone());
            let (new, kept) = spawn_blocking(move || file.keep(&of, after, notices)).await?;
            self.tell_later(address, new);
            kept?;
            match last {
                Some(last) if !are_all => after = last,
                _ => break,
            }
        }
        Ok(())
    }

    async fn ask(&self, session: &Session, after: u64) -> crate::backend::Result<StorageAnswer> {
        let call = StorageCall { grant: self.grant.clone(), request: StorageRequest::Notices { after } };
        Exchange::begin(session, &call, "hearing what it has to tell").await?.answer().await
    }

    fn tell_later(&self, address: &PeerAddress, new: Vec<HeardNotice>) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        untold.extend(new.into_iter().map(|notice| NodeSaid { address: address.clone(), notice }));
        let count = untold.iter().filter(|said| said.address == *address).count();
        let mut surplus = count.saturating_sub(MAX_UNTOLD);
        untold.retain(|said| {
            let goes = surplus > 0 && said.address == *address;
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Waits a little for what is being heard, and for what was heard to be kept.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        if timeout(LAST_WORDS_DEADLINE, self.tasks.wait()).await.is_err() {
            self.leaving.cancel();
            let _ = timeout(LAST_KEEPING_DEADLINE, self.tasks.wait()).await;
        }
    }
}
