//! Asks each node that is called what it has to tell the store, while the command does what it is for.

use super::exchange::Exchange;
use super::heard::{HeardNotice, NoticeFile};
use crate::peer::storage::{MAX_NOTICES, StorageAnswer, StorageCall, StorageRequest};
use crate::peer::transport::Session;
use crate::peer::{NodeGrant, PeerAddress};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// How long a command that is at its end waits for what a node has to tell.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(1);
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
    tasks: TaskTracker,
}

impl Ears {
    pub(super) fn of(folder: &Path, grant: Option<NodeGrant>, untold: Untold) -> Arc<Self> {
        let file = Arc::new(NoticeFile::in_folder(folder));
        Arc::new(Self { grant, file, untold, tasks: TaskTracker::new() })
    }

    /// Listens to a node over a session that began, and holds nothing else up.
    pub(super) fn listen(self: &Arc<Self>, address: &PeerAddress, session: &Session) {
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
            let call = StorageCall { grant: self.grant.clone(), request: StorageRequest::Notices { after } };
            let mut exchange = Exchange::begin(session, &call, "hearing what it has to tell").await?;
            let StorageAnswer::Notices(notices) = exchange.answer().await? else {
                return Err("it answered something else than was asked".into());
            };
            let (are_all, last) = (notices.len() < MAX_NOTICES, notices.last().map(|notice| notice.number));
            let (file, of) = (Arc::clone(&self.file), address.clone());
            let new = spawn_blocking(move || file.keep(&of, after, notices)).await??;
            let said = new.into_iter().map(|notice| NodeSaid { address: address.clone(), notice });
            self.untold.lock().unwrap_or_else(PoisonError::into_inner).extend(said);
            match last {
                Some(last) if !are_all => after = last,
                _ => break,
            }
        }
        Ok(())
    }

    /// Waits a little for what is being heard.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        let _ = timeout(LAST_WORDS_DEADLINE, self.tasks.wait()).await;
    }
}
