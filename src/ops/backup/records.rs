//! The records of one state of the catalog, on their way: what is held is a few batches, however many there are.

use super::super::ingest::is_unread_note;
use crate::catalog::{self, Catalog, ObjectKind, Snapshot};
use crate::crypto::AccessKeys;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ManifestBytes;
use crate::format::backup::{BackupRecord, RecordedObject};
use crate::id::ObjectId;
use crate::store::Store;
use std::sync::Arc;
use tokio::sync::mpsc;

/// How many objects are asked of the catalog at a time.
const PAGE_OBJECTS: usize = 1000;
/// Records are passed on when they have so many bytes together; one alone may be longer.
const BATCH_BYTES: usize = 128 * 1024;
/// So many batches may wait.
const BATCHES_WAITING: usize = 2;

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Of objects that came after this number.
    pub(super) arrival: u64,
    /// And times of those before it that were read in full later than this.
    pub(super) verified_ns: i64,
}

impl Extent {
    pub(super) fn everything() -> Self {
        Self { arrival: 0, verified_ns: i64::MAX }
    }
}

/// Records, one after another, as they are stored.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
    /// Objects of which there is no record.
    pub(super) left_out: u64,
}

/// The records on their way.
#[derive(Debug)]
pub(super) struct Records {
    /// Up to which object, and to which time: where the next backup goes on.
    pub(super) until: Extent,
    batches: mpsc::Receiver<Result<Batch>>,
}

impl Records {
    /// Takes the state of the catalog as it is now.
    pub(super) async fn begin(store: &Store, from: Extent) -> Result<Self> {
        let begin = |catalog: &Catalog| {
            let snapshot = catalog.snapshot()?;
            let (arrival, verified_ns) = (snapshot.last_arrival()?, snapshot.last_verified_ns()?);
            Ok((snapshot, Extent { arrival, verified_ns: verified_ns.unwrap_or(i64::MIN) }))
        };
        let (snapshot, until) = store.look(begin).await?;
        let (sender, batches) = mpsc::channel(BATCHES_WAITING);
        let keys = Arc::clone(store.access());
        tokio::task::spawn_blocking(move || {
            let mut pass = |batch| sender.blocking_send(Ok(batch)).map_err(|_| nobody_listens());
            if let Err(error) = produce(&snapshot, from, &keys, &mut pass) {
                // Where nobody listens any more, nobody need hear.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(Self { until, batches })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Batch>> {
        self.batches.recv().await.transpose()
    }
}

fn nobody_listens() -> Error {
    Error::new(ErrorKind::Cancelled, "the backup was stopped")
}

/// Passes on all records of a state, in the order in which their objects came. Blocking.
pub(super) fn produce(
    snapshot: &Snapshot,
    from: Extent,
    keys: &AccessKeys,
    pass: &mut dyn FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let mut batch = Batch::default();
    let mut after = from.arrival;
    loop {
        let page = snapshot.arrivals_after(after, PAGE_OBJECTS)?;
        let Some((last, _)) = page.last().copied() else { break };
        for (_, object) in page {
            match record_of(snapshot, object, keys)? {
                Some(record) => batch.take(&record),
                None => batch.left_out += 1,
            }
            batch.pass_if_full(pass)?;
        }
        after = last;
    }
    times(snapshot, from, &mut batch, pass)?;
    pass(batch)
}

/// When objects that an earlier backup has were read in full.
fn times(
    snapshot: &Snapshot,
    from: Extent,
    batch: &mut Batch,
    pass: &mut dyn FnMut(Batch) -> Result<()>,
) -> Result<()> {
    // Whatever has the same time was said already, but for what an equal clock made so.
    let mut after = (from.verified_ns, Some(ObjectId([0xff; ObjectId::BYTES])));
    loop {
        let page = snapshot.verified_after(after, from.arrival, PAGE_OBJECTS)?;
        let Some((verified_ns, object)) = page.last().copied() else { return Ok(()) };
        after = (verified_ns, Some(object));
        for (verified_ns, object) in page {
            batch.take(&BackupRecord { object, contents: None, verified_ns: Some(verified_ns) });
            batch.pass_if_full(pass)?;
        }
    }
}

impl Batch {
    fn take(&mut self, record: &BackupRecord) {
        match record.append_to(&mut self.bytes) {
            Ok(()) => self.records += 1,
            Err(_) => self.left_out += 1,
        }
    }

    fn pass_if_full(&mut self, pass: &mut dyn FnMut(Self) -> Result<()>) -> Result<()> {
        if self.bytes.len() < BATCH_BYTES { Ok(()) } else { pass(std::mem::take(self)) }
    }
}

/// What is said of an object; nothing where its index is not known here, or not to be said again.
fn record_of(snapshot: &Snapshot, object: ObjectId, keys: &AccessKeys) -> catalog::Result<Option<BackupRecord>> {
    let Some((record, index)) = snapshot.object(object)? else { return Ok(None) };
    let is_known = match record.kind {
        ObjectKind::Data => !index.pieces.is_empty(),
        // A machine that cannot open removals only heard of them.
        ObjectKind::Removal => keys.keyring().is_some() && index.removal.is_some(),
        ObjectKind::Catalog => false,
    };
    let (Some(created_ns), true, false) = (record.created_ns, is_known, is_unread_note(snapshot, object)?) else {
        return Ok(None);
    };
    let is_removal = record.kind == ObjectKind::Removal;
    let bytes = ManifestBytes { public: record.public, signature: record.signature, sealed: record.sealed };
    let Ok(contents) = RecordedObject::new(object, &bytes, created_ns, index) else { return Ok(None) };
    // What a removal removes has to be what its manifest says, or it is not believed.
    if is_removal && contents.manifest(object, &keys.store_id()).is_err() {
        return Ok(None);
    }
    Ok(Some(BackupRecord { object, contents: Some(contents), verified_ns: snapshot.verified_ns(object)? }))
}
