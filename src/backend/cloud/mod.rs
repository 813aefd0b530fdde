//! Shards in object stores: S3 and what speaks like it, Google, Azure, and WebDAV.
//!
//! *What it is.* [`CloudBackend`], which keeps the contract of [`Backend`] over requests that may be slow, lost,
//! repeated or answered wrongly.
//!
//! *What it knows.* Addresses, credentials of people (never shown), timeouts, parts, what servers' answers mean.
//!
//! *What it does not know.* The environment and the home directory (its caller brings both), what is inside a shard,
//! which backend a shard should go to, how often to try again once the short retries here are used up.
//!
//! # Invariants
//!
//! - A read hands on exactly the bytes asked for or fails; a length is compared wherever a server can lie about it.
//! - Nothing rests on a server refusing to overwrite: names are looked for before they are made, and made once.
//! - A shard is visible only when whole: one request, a completed multipart upload, or a move.
//! - Requests under way hold at most [`UPLOAD_BUDGET_BYTES`]; a writer fills at most one part of [`PART_BYTES`] more,
//!   since S3 takes no smaller ones.
//! - "There is no such shard" is said only of a bucket that has been seen.
//!
//! Interrupted uploads are aborted by name on S3. Azure drops blocks that no list names after seven days and at the
//! next write of that name; Google does so by a lifecycle rule of the bucket, and until then bills them.

mod connect;
mod credentials;
mod dav_writer;
mod fault;
mod inner_error;
mod listing;
mod place;
mod read;
mod settings;
mod unfinished;
mod webdav;
mod writer;

pub use settings::{
    CONNECT_TIMEOUT, CloudSettings, FIRST_PAUSE, MAX_RETRIES, Patience, REQUEST_TIMEOUT, RETRY_TIMEOUT, UPLOAD_TIMEOUT,
};
pub use writer::{PART_BYTES, UPLOAD_BUDGET_BYTES};

use crate::backend::ledger::{Ledger, Reservation};
use crate::backend::{Backend, BackendStats, Error, ErrorKind, ListPage, MARK_NAME, Mark, Result, ShardWriter};
use crate::id::ShardId;
use async_trait::async_trait;
use bytes::Bytes;
use connect::Clients;
use dav_writer::DavWriter;
use fault::{Cause, says_no_container};
use object_store::{ObjectStore, ObjectStoreExt};
use place::{Place, Scheme};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use unfinished::UnfinishedUploads;
use url::Url;
use webdav::Dav;
use writer::{Mode, ObjectWriter};

/// A mark longer than this is none, in bytes.
const MAX_MARK_BYTES: u64 = 4096;
/// A mark that was seen so long ago is asked for again before a shard is said to be absent.
const MARK_AGE: Duration = Duration::from_secs(5);

/// A place in an object store.
pub struct CloudBackend {
    remote: Arc<Remote>,
}

/// What the backend and its writers share.
struct Remote {
    place: Place,
    store: Arc<dyn ObjectStore>,
    uploads: Arc<dyn ObjectStore>,
    unfinished: Option<UnfinishedUploads>,
    dav: Option<Dav>,
    quota_bytes: Option<u64>,
    /// Counted at the first write.
    quota: OnceCell<Arc<Ledger>>,
    container_seen: AtomicBool,
    mark: SeenMark,
    /// Whether the server has answered a range with the whole.
    whole_answers: AtomicBool,
}

/// The mark of a place, and when it was seen last.
#[derive(Debug, Default)]
struct SeenMark(Mutex<Option<(Mark, Instant)>>);

impl SeenMark {
    fn saw(&self, mark: Mark) {
        *self.seen() = Some((mark, Instant::now()));
    }

    fn forget(&self) {
        *self.seen() = None;
    }

    /// What was seen, and not just now.
    fn to_be_asked_for(&self) -> Option<Mark> {
        self.seen().filter(|(_, when)| when.elapsed() >= MARK_AGE).map(|(mark, _)| mark)
    }

    fn seen(&self) -> MutexGuard<'_, Option<(Mark, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CloudBackend {
    /// Opens `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `http(s)://host/folder` (WebDAV).
    ///
    /// Sends nothing. [`ErrorKind::Settings`] where address, settings or credentials make no sense,
    /// [`ErrorKind::Denied`] where the credentials file cannot be read or can be read by others.
    pub fn open(url: &Url, settings: &CloudSettings) -> Result<Self> {
        let place = Place::parse(url)?;
        let Clients { store, uploads, unfinished, dav } = connect::connect(&place, settings)?;
        let remote = Remote {
            // A folder of a WebDAV server is made when it is first written to; there is nothing to be seen before.
            container_seen: AtomicBool::new(place.scheme == Scheme::WebDav),
            place,
            store,
            uploads,
            unfinished,
            dav,
            quota_bytes: settings.quota_bytes,
            quota: OnceCell::new(),
            mark: SeenMark::default(),
            whole_answers: AtomicBool::new(false),
        };
        Ok(Self { remote: Arc::new(remote) })
    }

    async fn writer(&self, shard: ShardId, mode: Mode) -> Result<Box<dyn ShardWriter>> {
        let reservation = self.remote.reserve(mode.replaced_bytes()).await?;
        let remote = Arc::clone(&self.remote);
        Ok(match &self.remote.dav {
            Some(dav) => Box::new(DavWriter::begin((remote, dav), shard, mode, reservation).await?),
            None => Box::new(ObjectWriter::new(remote, shard, mode, reservation)),
        })
    }
}

impl Remote {
    async fn head(&self, shard: ShardId) -> Result<u64> {
        match self.store.head(&self.place.shard_path(shard)).await {
            Ok(meta) => {
                self.saw_container();
                Ok(meta.size)
            }
            Err(error) => Err(self.absent_or(&error, self.place.doing("looking for", shard)).await),
        }
    }

    /// A failed request for a shard; it is absent only where the place is what it was.
    async fn absent_or(&self, error: &object_store::Error, doing: String) -> Error {
        let error = self.absent_in_container_or(error, doing).await;
        match error.kind {
            ErrorKind::NotFound => self.confirm().await.err().unwrap_or(error),
            _ => error,
        }
    }

    /// Fails where a mark was seen and is another one now, or gone: a server may have lost the disk behind it, or answer for
    /// another that is away, and then has nothing of what is there. Asked for once in a while.
    async fn confirm(&self) -> Result<()> {
        let Some(seen) = self.mark.to_be_asked_for() else { return Ok(()) };
        let why = match self.fetch_mark().await? {
            Some(mark) if mark == seen => {
                self.mark.saw(mark);
                return Ok(());
            }
            Some(_) => "its mark is another one now",
            None => "its mark is gone",
        };
        let doing = format!("looking at {} again", self.place.shown);
        Err(Error::with_source(ErrorKind::Unreachable, doing, why))
    }

    async fn fetch_mark(&self) -> Result<Option<Mark>> {
        let doing = self.doing_mark("reading");
        let answer = match self.store.get(&self.place.mark_path()).await {
            Ok(answer) => answer,
            Err(error) => {
                let error = self.absent_in_container_or(&error, doing).await;
                return if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) };
            }
        };
        self.saw_container();
        if answer.meta.size > MAX_MARK_BYTES {
            return Err(Error::new(ErrorKind::Failed, format!("{doing}: {} bytes long", answer.meta.size)));
        }
        let bytes = answer.bytes().await.map_err(|error| Cause::of(&error).doing(&doing))?;
        let mark = serde_json::from_slice(&bytes);
        mark.map(Some).map_err(|error| Error::with_source(ErrorKind::Failed, doing, error))
    }

    /// A failed request for a name; it is absent only where the bucket is there, which an answer to HEAD cannot say.
    async fn absent_in_container_or(&self, error: &object_store::Error, doing: String) -> Error {
        let cause = self.container_or(Cause::of(error));
        if cause.kind() == ErrorKind::NotFound && !self.container_seen.load(Ordering::Relaxed) {
            if let Err(error) = listing::probe_container(self).await {
                return error;
            }
            self.saw_container();
        }
        cause.doing(doing)
    }

    fn container_or(&self, cause: Cause) -> Cause {
        if says_no_container(&cause) { Cause::NoContainer { container: self.place.container.clone() } } else { cause }
    }

    fn saw_container(&self) {
        self.container_seen.store(true, Ordering::Relaxed);
    }

    async fn reserve(self: &Arc<Self>, replaced_bytes: u64) -> Result<Option<Reservation>> {
        if self.quota_bytes.is_none() {
            return Ok(None);
        }
        let remote = Arc::clone(self);
        // A task of its own, which goes on when nobody waits any more: to count may take longer than a try to write, and
        // the next try finds what was counted.
        let counting = tokio::spawn(async move {
            let count = async || Ok::<_, Error>(Ledger::new(remote.quota_bytes, remote.count().await?.1));
            remote.quota.get_or_try_init(count).await.map(Arc::clone)
        });
        let stopped =
            |error| Error::with_source(ErrorKind::Failed, format!("counting what {} holds", self.place.shown), error);
        Ok(Some(counting.await.map_err(stopped)??.begin(replaced_bytes)))
    }

    async fn see_that_it_is_gone(&self, shard: ShardId) -> Result<()> {
        match self.head(shard).await {
            Ok(_) => {
                let doing = self.place.doing("deleting", shard);
                Err(Error::with_source(ErrorKind::Failed, doing, "the server says that it did, and has it still"))
            }
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How many shards there are, and their bytes.
    async fn count(&self) -> Result<(u64, u64)> {
        let (mut shard_count, mut used_bytes) = (0, 0);
        let mut after = None;
        loop {
            let page = listing::list(self, after).await?;
            shard_count += page.shards.len() as u64;
            used_bytes += page.shards.iter().map(|shard| shard.bytes).sum::<u64>();
            if page.next.is_none() {
                return Ok((shard_count, used_bytes));
            }
            after = page.next;
        }
    }

    fn doing_mark(&self, verb: &str) -> String {
        format!("{verb} {MARK_NAME} in {}", self.place.shown)
    }
}

#[async_trait]
impl Backend for CloudBackend {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        match self.remote.head(shard).await {
            Ok(_) => Err(Error::new(ErrorKind::AlreadyExists, self.remote.place.doing("creating", shard))),
            Err(error) if error.kind == ErrorKind::NotFound => self.writer(shard, Mode::Create).await,
            Err(error) => Err(error),
        }
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        let replaced_bytes = match self.remote.head(shard).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        self.writer(shard, Mode::Replace(replaced_bytes)).await
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        read::read(&self.remote, shard, range).await
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        self.remote.head(shard).await
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        let remote = &self.remote;
        // With a quota, what goes is counted off.
        let bytes = match remote.quota.get() {
            Some(_) => remote.head(shard).await.unwrap_or(0),
            None => 0,
        };
        match remote.store.delete(&remote.place.shard_path(shard)).await {
            // A success may have failures inside (207), or be a promise (202).
            Ok(()) if remote.dav.is_some() => remote.see_that_it_is_gone(shard).await?,
            // To delete what is not there is a success as well.
            Ok(()) => remote.confirm().await?,
            Err(error) => {
                let error = remote.absent_or(&error, remote.place.doing("deleting", shard)).await;
                if error.kind != ErrorKind::NotFound {
                    return Err(error);
                }
            }
        }
        if let Some(quota) = remote.quota.get() {
            quota.remove(bytes);
        }
        Ok(())
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        listing::list(&self.remote, after).await
    }

    async fn stats(&self) -> Result<BackendStats> {
        let known = self.remote.quota.get().map(|quota| (quota, quota.changes()));
        let (shard_count, used_bytes) = self.remote.count().await?;
        if let Some((quota, changes)) = known {
            quota.recount(used_bytes, changes);
        }
        Ok(BackendStats { shard_count, used_bytes, free_bytes: None, quota_bytes: self.remote.quota_bytes })
    }

    async fn room(&self) -> Result<Option<u64>> {
        match self.remote.quota_bytes {
            Some(_) => Ok(self.stats().await?.room()),
            None => Ok(None),
        }
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        let mark = self.remote.fetch_mark().await?;
        match mark {
            Some(mark) => self.remote.mark.saw(mark),
            // Whoever asks knows it from here on.
            None => self.remote.mark.forget(),
        }
        Ok(mark)
    }

    async fn write_mark(&self, mark: &Mark) -> Result<()> {
        let remote = &self.remote;
        let doing = remote.doing_mark("writing");
        let json = serde_json::to_vec_pretty(mark);
        let json = json.map_err(|error| Error::with_source(ErrorKind::Failed, &doing, error))?;
        let put = remote.store.put(&remote.place.mark_path(), json.into()).await;
        // What was seen before is no measure any more.
        remote.mark.forget();
        put.map(|_| ()).map_err(|error| remote.container_or(Cause::of(&error)).doing(doing))
    }

    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        let remote = &self.remote;
        let doing = remote.place.doing("clearing what is unfinished of", shard);
        let path = remote.place.shard_path(shard);
        if let Some(unfinished) = &remote.unfinished {
            // How long the parts of an upload are would take a request for each.
            let cleared = unfinished.clear(&path).await;
            return cleared.map(|()| 0).map_err(|cause| remote.container_or(cause).doing(doing));
        }
        let Some(folder) = path.parent().filter(|_| remote.dav.is_some()) else { return Ok(0) };
        let mut bytes = 0;
        for file in listing::list_folder(remote, &folder).await?.objects {
            if !file.location.filename().is_some_and(|name| Dav::is_unfinished(name, shard)) {
                continue;
            }
            if let Err(error) = remote.store.delete(&file.location).await {
                let cause = Cause::of(&error);
                if cause.kind() != ErrorKind::NotFound {
                    return Err(cause.doing(doing));
                }
            }
            bytes += file.size;
        }
        Ok(bytes)
    }
}

impl fmt::Debug for CloudBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudBackend").field("place", &self.remote.place.shown).finish_non_exhaustive()
    }
}
