//! `catalog refresh`: brings in what other machines did on the same backends.
//!
//! Objects that the catalog does not know are taken in once the write quorum of their shards is there: with fewer, another
//! machine may be writing them. A catalog that was made anew without every backend takes them in from as many on as are
//! needed to read them, as a rebuild does, until every backend was listed: it may have known them. Shards of known objects that were found in another place are recorded there. Nothing on a
//! backend is changed, and nothing is forgotten because it was not found.
//!
//! A machine without a master key hears of removals by their public part: what they name is left alone wherever it is found.
//! A removal that is gone from all backends, as is what it names, is over: another machine saw to its end.

use super::Controls;
use super::ingest::{
    FoundObject, Ingested, Inventory, ListedPlace, Sources, Taken, is_unread, read_object, shard_records,
};
use super::rebuild::{MAINTENANCE, UnreadableObject, UntrustedObject};
use super::show::backend_name;
use crate::backend::ErrorKind as BackendErrorKind;
use crate::catalog::{
    self, Catalog, CheckRecord, JournalEntry, ObjectKind, ObjectState, Purpose, ShardRecord, ShardState,
};
use crate::crypto::AccessKeys;
use crate::error::{Error, ErrorKind, Result, with_causes};
use crate::format::Manifest;
use crate::id::{BackendId, ObjectId, ShardId};
use crate::store::Store;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// How many objects are looked up in the catalog at a time.
const BATCH_OBJECTS: usize = 256;

/// How the catalog is refreshed.
#[derive(Debug, Clone, Default)]
pub struct RefreshOptions {
    /// Progress and cancelling.
    pub controls: Controls,
}

/// What was brought in.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RefreshReport {
    /// Objects that were not known, removals among them.
    pub objects: u64,
    /// Names that have a version now.
    pub files: u64,
    /// How many more complete versions there are than before; fewer when removals came in.
    pub versions_gained: i64,
    /// Places of known shards that were recorded anew.
    pub shards_found: u64,
    /// Shards of removed objects that were found, and are to be deleted.
    pub removed_shards_found: u64,
    /// Objects with fewer shards than the write quorum: maybe another machine is writing them.
    pub incomplete: Vec<IncompleteObject>,
    /// Objects that open only with a key that this machine lacks: another machine made a new one.
    pub locked: Vec<ObjectId>,
    /// Objects of which enough shards were found, and what they hold cannot be read: they are not taken in.
    pub unreadable: Vec<UnreadableObject>,
    /// Objects that cannot be trusted, for their manifest or for what they say: they are left alone.
    pub untrusted: Vec<UntrustedObject>,
    /// Objects that the catalog has and no backend does, though every backend was listed to its end: lost, or removed by a
    /// machine that finished before this one looked. They stay in the catalog until someone removes their files.
    pub vanished: Vec<ObjectId>,
    /// Those of them that held files: they are recorded as lost.
    pub lost: Vec<ObjectId>,
    /// Backends that could not be listed to their end.
    pub unlisted: Vec<String>,
    /// How many bytes of shards were read.
    pub bytes_read: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// An object that is not whole yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncompleteObject {
    /// The object.
    pub id: ObjectId,
    /// How many of its shards were found.
    pub found: usize,
    /// How many must be there before it is taken in.
    pub needed: usize,
}

/// Brings in what is on the backends and not in the catalog.
pub async fn refresh(store: &Store, options: RefreshOptions) -> Result<RefreshReport> {
    options.controls.check_cancelled()?;
    let sources = Sources::of(store);
    if sources.is_empty() {
        let doing = "no backend can be read: there is nothing to refresh from";
        return Err(Error::new(ErrorKind::Unavailable, doing).with_hint("`shard backend check` says why"));
    }
    let _lease = store.lease(MAINTENANCE).await?;
    refresh_known(store, &sources, &options.controls).await
}

/// The same, for whoever holds the maintenance lease.
pub(in crate::ops) async fn refresh_known(
    store: &Store,
    sources: &Sources,
    controls: &Controls,
) -> Result<RefreshReport> {
    let begun = Instant::now();
    let before = store.look(|catalog| catalog.stats()).await?;
    controls.begin("listing the backends", None, None);
    let mut inventory = Inventory::new(sources);
    let (listed, report) = (BTreeSet::new(), RefreshReport::default());
    let in_part = store.look(|catalog| catalog.is_rebuilt_in_part()).await?;
    let (absent, not_whole) = (Vec::new(), Vec::new());
    let dead = BTreeSet::new();
    let mut refresh =
        Refresh { store, sources, listed, in_part, absent, begun: not_whole, dead, seen_to: None, report };
    let mut batch = Vec::new();
    while let Some(found) = inventory.next_object().await {
        controls.check_cancelled()?;
        controls.items(1);
        batch.push(found);
        if batch.len() >= BATCH_OBJECTS {
            refresh.listed = inventory.listed();
            refresh.take_batch(std::mem::take(&mut batch), controls).await?;
        }
    }
    refresh.listed = inventory.listed();
    refresh.take_batch(batch, controls).await?;
    refresh.note_absent(&BTreeSet::new(), None).await?;
    controls.end();
    refresh.report.unlisted = unlisted(store, sources, &inventory.into_places());
    let absent = std::mem::take(&mut refresh.absent);
    if refresh.report.unlisted.is_empty() {
        refresh.report.vanished = refresh.still_absent(absent, controls).await?;
        refresh.take_begun(controls).await?;
        refresh.end_vanished().await?;
        refresh.report.lost = refresh.record_lost().await?;
        let filled = |catalog: &mut Catalog| catalog.note_rebuilt_in_part(false).and_then(|()| catalog.note_filled());
        store.catalog(filled).await?;
    }
    let mut report = refresh.report;
    let after = store.look(|catalog| catalog.stats()).await?;
    report.files = after.files;
    report.versions_gained =
        i64::try_from(after.versions).unwrap_or(i64::MAX) - i64::try_from(before.versions).unwrap_or(i64::MAX);
    report.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

fn unlisted(store: &Store, sources: &Sources, listed: &[ListedPlace]) -> Vec<String> {
    let silent = store.registry().iter().map(|backend| backend.id).filter(|id| !sources.contains(*id));
    let failed = listed.iter().filter(|place| place.failure.is_some()).map(|place| place.backend);
    silent.chain(failed).map(|id| backend_name(store, id)).collect()
}

struct Refresh<'a> {
    store: &'a Store,
    sources: &'a Sources,
    /// Places whose listing did not fail so far: what they did not show of an object is not there.
    listed: BTreeSet<BackendId>,
    /// The catalog was made anew without every backend: what is unknown may have been whole.
    in_part: bool,
    /// Objects that the catalog has and no listing showed.
    absent: Vec<ObjectId>,
    /// Unknown objects that can be read and are not whole: they may be under way.
    begun: Vec<FoundObject>,
    /// Removed objects of which shards were listed.
    dead: BTreeSet<ObjectId>,
    /// The last object up to which catalog and listings were compared.
    seen_to: Option<ObjectId>,
    report: RefreshReport,
}

/// What the catalog says of an object that was found.
enum Known {
    /// A living process is putting it: it records it, or takes it away.
    Busy,
    /// A put that failed took it back, and deletes of it wait: what is there of it will go.
    TakenBack,
    /// Nothing.
    Unknown,
    /// That it is there, but not what it holds.
    Unread,
    /// That it is removed.
    Dead,
    /// That it is removed, as was heard here: its shards are for the owner to delete.
    LeftToOwner,
    /// That it lives: its manifest, its recorded places, and those whose deletes wait.
    Live(Box<Manifest>, Vec<ShardRecord>, BTreeSet<(u8, BackendId)>),
}

impl Refresh<'_> {
    async fn take_batch(&mut self, batch: Vec<FoundObject>, controls: &Controls) -> Result<()> {
        if let Some(last) = batch.last().map(|found| found.object) {
            let shown = batch.iter().map(|found| found.object).collect();
            self.note_absent(&shown, Some(last)).await?;
        }
        let objects = batch.iter().map(|found| found.object).collect::<Vec<_>>();
        let journals = self.store.look(|catalog| catalog.journals()).await?;
        let (busy, keys) = (being_put(self.store, &journals), Arc::clone(self.store.access()));
        let known = self
            .store
            .look(move |catalog| {
                objects.iter().map(|object| look_up(catalog, *object, &busy, &keys)).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        for (found, known) in batch.into_iter().zip(known) {
            match known {
                Known::Busy | Known::TakenBack | Known::LeftToOwner => {}
                Known::Unknown if !self.in_part => {
                    let needed = |manifest: &Manifest| manifest.geometry().write_quorum();
                    self.take_in(found, needed, controls).await?;
                }
                // It was whole once, or may have been: what can be read of it now counts.
                Known::Unknown | Known::Unread => {
                    self.take_in(found, |manifest| manifest.geometry().data_shards(), controls).await?;
                }
                Known::Dead => self.take_dead(found).await?,
                Known::Live(manifest, recorded, pending) => {
                    self.take_live(&found, &manifest, (&recorded, &pending)).await?;
                }
            }
        }
        Ok(())
    }

    /// Goes through the catalog's objects up to `last`, or to the end, and notes those that were not shown.
    async fn note_absent(&mut self, shown: &BTreeSet<ObjectId>, last: Option<ObjectId>) -> Result<()> {
        loop {
            let after = self.seen_to;
            let mut page = self.store.look(move |catalog| catalog.objects_after(after, BATCH_OBJECTS)).await?;
            page.retain(|object| last.is_none_or(|last| *object <= last));
            match page.last() {
                Some(end) => self.seen_to = Some(*end),
                None => {
                    self.seen_to = last.or(after);
                    return Ok(());
                }
            }
            self.absent.extend(page.into_iter().filter(|object| !shown.contains(object)));
        }
    }

    /// Those of which no recorded shard is there when asked for by name: what was put or moved meanwhile is.
    async fn still_absent(&self, absent: Vec<ObjectId>, controls: &Controls) -> Result<Vec<ObjectId>> {
        let mut vanished = Vec::new();
        for object in absent {
            controls.check_cancelled()?;
            let look = move |catalog: &Catalog| Ok((catalog.object_is_live(object)?, catalog.shards(object)?));
            let (is_live, recorded) = self.store.look(look).await?;
            let mut is_gone = is_live;
            for shard in recorded {
                let id = ShardId { object, index: shard.index };
                let absent = match self.sources.get(shard.backend) {
                    Some(source) => source.head(id).await.is_err_and(|error| error.kind == BackendErrorKind::NotFound),
                    None => false,
                };
                is_gone &= absent;
            }
            if is_gone {
                vanished.push(object);
            }
        }
        Ok(vanished)
    }

    /// A removal that vanished is over where nothing of what it names is left: its owner, or another machine of theirs, saw
    /// to that. On a machine that only hears of removals there is nothing more to ask.
    async fn end_vanished(&mut self) -> Result<()> {
        let vanished = std::mem::take(&mut self.report.vanished);
        let (hears, dead) = (self.store.access().keyring().is_none(), std::mem::take(&mut self.dead));
        let report = &self.report;
        let knows_all = [report.locked.len(), report.incomplete.len(), report.unreadable.len(), report.untrusted.len()];
        let knows_all = knows_all == [0; 4];
        let end = move |catalog: &mut Catalog| {
            let mut left = Vec::new();
            for object in vanished {
                let is_removal = catalog.object(object)?.is_some_and(|record| record.kind == ObjectKind::Removal);
                let is_over = match is_removal && hears {
                    true => catalog.end_heard(object).map(|()| true)?,
                    false => is_removal && catalog.end_elsewhere(object, &dead, knows_all)?,
                };
                if !is_over {
                    left.push(object);
                }
            }
            Ok(left)
        };
        self.report.vanished = self.store.catalog(end).await?;
        Ok(())
    }

    /// Records that nothing is left of what vanished; a removal said what it had to say.
    async fn record_lost(&self) -> Result<Vec<ObjectId>> {
        let (vanished, when_ns) = (self.report.vanished.clone(), self.store.now_ns());
        self.store
            .catalog(move |catalog| {
                let mut lost = Vec::new();
                for object in vanished {
                    let is_data = catalog.object(object)?.is_some_and(|record| record.kind == ObjectKind::Data);
                    if is_data && catalog.record_check(&nothing_left(catalog, object, when_ns)?)? {
                        lost.push(object);
                    }
                }
                Ok(lost)
            })
            .await
    }

    async fn take_in(
        &mut self,
        found: FoundObject,
        needed: impl Fn(&Manifest) -> usize,
        controls: &Controls,
    ) -> Result<()> {
        let read = match read_object(self.sources, self.store.access(), &found).await {
            Ok(read) => read,
            Err(error) => {
                self.report.untrusted.push(UntrustedObject::new(&found, &error));
                return Ok(());
            }
        };
        self.report.bytes_read += read.bytes_read;
        controls.bytes(read.bytes_read);
        let (id, count, needed) = (found.object, found.index_count(), needed(&read.manifest));
        let is_readable = count >= read.manifest.geometry().data_shards();
        let mut taken = Taken::new(read, &found, self.store.now_ns());
        taken.record.rest_may_be_on(&silent_places(self.store, &self.listed));
        let unread = match &taken.outcome {
            Ingested::Unreadable(error) if !taken.is_closed => Some(error),
            _ => None,
        };
        if unread.is_some_and(|error| error.kind() == ErrorKind::WrongKey) {
            self.report.locked.push(id);
            return Ok(());
        }
        if count < needed {
            self.report.incomplete.push(IncompleteObject { id, found: count, needed });
            if is_readable {
                self.begun.push(found);
            }
            return Ok(());
        }
        if let Some(error) = unread {
            let (state, problem) = (taken.record.state(), with_causes(error));
            self.report.unreadable.push(UnreadableObject { id, state, found: count, locked: false, problem });
            return Ok(());
        }
        let record = taken.record;
        match self.store.catalog(move |catalog| record.offer(catalog)).await? {
            Some(refusal) => self.report.untrusted.push(UntrustedObject::new(&found, &refusal)),
            None => self.report.objects += 1,
        }
        Ok(())
    }

    /// Where objects vanished, one that can be read may be what they were packed into: it was whole when they were deleted,
    /// and what is gone of it went since.
    async fn take_begun(&mut self, controls: &Controls) -> Result<()> {
        if self.report.vanished.is_empty() {
            return Ok(());
        }
        for found in std::mem::take(&mut self.begun) {
            self.report.incomplete.retain(|object| object.id != found.object);
            self.take_in(found, |manifest| manifest.geometry().data_shards(), controls).await?;
        }
        Ok(())
    }

    async fn take_dead(&mut self, found: FoundObject) -> Result<()> {
        self.report.removed_shards_found += found.shards.len() as u64;
        self.dead.insert(found.object);
        self.store
            .catalog(move |catalog| {
                let is_known = catalog.object(found.object)?.is_some();
                for shard in &found.shards {
                    if !is_known {
                        catalog.pend_removed(found.object, shard.index, shard.backend)?;
                        continue;
                    }
                    let (index, backend, bytes) = (shard.index, shard.backend, shard.bytes);
                    let state = ShardState::Ok;
                    let record = ShardRecord { index, backend, bytes, state, bad_blocks: 0, verified_ns: None };
                    // Of a dead object this records a delete that waits.
                    catalog.put_shard(found.object, &record)?;
                }
                Ok(())
            })
            .await
    }

    /// Records what was found and is not recorded, and forgets places that were listed without it.
    async fn take_live(
        &mut self,
        found: &FoundObject,
        manifest: &Manifest,
        (recorded, pending): (&[ShardRecord], &BTreeSet<(u8, BackendId)>),
    ) -> Result<()> {
        let is_found =
            |old: &ShardRecord| found.shards.iter().any(|new| (new.index, new.backend) == (old.index, old.backend));
        let standing = |old: &ShardRecord| matches!(old.state, ShardState::Ok | ShardState::Misplaced) && is_found(old);
        let mut news = Vec::new();
        for mut shard in shard_records(manifest, found) {
            let place = (shard.index, shard.backend);
            let known = recorded.iter().find(|old| (old.index, old.backend) == place);
            let is_news = known.is_none_or(|old| match old.state {
                ShardState::Missing => true,
                // One that was damaged before its place went away is looked at before it counts.
                ShardState::Unreachable => old.bad_blocks == 0,
                _ => false,
            });
            if !is_news || pending.contains(&place) {
                continue;
            }
            if shard.state != ShardState::Corrupt {
                let stands = recorded.iter().any(|old| old.index == shard.index && standing(old));
                shard.state = if stands { ShardState::Surplus } else { shard.state };
            }
            news.push(shard);
        }
        self.report.shards_found += news.len() as u64;
        let is_expected = |old: &ShardRecord| old.state == ShardState::Unreachable;
        let stands_in = |old: &ShardRecord| {
            let found_now = news.iter().any(|new| new.index == old.index && new.state == ShardState::Ok);
            found_now || is_expected(old) && recorded.iter().any(|other| other.index == old.index && standing(other))
        };
        let is_gone = |old: &&ShardRecord| self.listed.contains(&old.backend) && !is_found(old) && stands_in(old);
        let gone: Vec<ShardRecord> = recorded.iter().filter(is_gone).copied().collect();
        if news.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let object = found.object;
        self.store
            .catalog(move |catalog| {
                news.iter().try_for_each(|new| catalog.put_shard(object, new))?;
                gone.iter().try_for_each(|old| catalog.drop_shard(object, old.index, old.backend))
            })
            .await
    }
}

/// The objects that living processes are putting. What a repair or a drain is at is there already, and what the dead left
/// is what it is.
pub(in crate::ops) fn being_put(store: &Store, journals: &[JournalEntry]) -> BTreeSet<ObjectId> {
    let is_put = |entry: &&JournalEntry| entry.purpose == Purpose::Put && store.process_is_alive(entry.process);
    journals.iter().filter(is_put).map(|entry| entry.object).collect()
}

/// The backends that last and were not listed: what was not found may be there.
pub(in crate::ops) fn silent_places(store: &Store, listed: &BTreeSet<BackendId>) -> Vec<BackendId> {
    let silent = store.registry().iter().filter(|backend| !backend.volatile && !listed.contains(&backend.id));
    silent.map(|backend| backend.id).collect()
}

/// What is known of an object whose shards are not there.
fn nothing_left(catalog: &Catalog, object: ObjectId, when_ns: i64) -> catalog::Result<CheckRecord> {
    let state = ShardState::Missing;
    let gone = |shard: ShardRecord| ShardRecord { bytes: 0, state, bad_blocks: 0, verified_ns: None, ..shard };
    let shards = catalog.shards(object)?.into_iter().map(gone).collect();
    let (state, margin, backend_margin, full) = (ObjectState::Lost, None, None, false);
    Ok(CheckRecord { object, state, margin, backend_margin, shards, when_ns, full })
}

fn look_up(
    catalog: &Catalog,
    object: ObjectId,
    busy: &BTreeSet<ObjectId>,
    keys: &AccessKeys,
) -> catalog::Result<Known> {
    if busy.contains(&object) {
        return Ok(Known::Busy);
    }
    let hears = keys.keyring().is_none();
    if hears && catalog.is_removed(object)? {
        return Ok(Known::LeftToOwner);
    }
    let Some(record) = catalog.object(object)? else {
        // Of one that was gone everywhere only its removal is known: a place that was set back brings its shards again.
        if catalog.is_removed(object)? {
            return Ok(Known::Dead);
        }
        let is_to_go = catalog.pending_deletes_of(object)? > 0;
        return Ok(if is_to_go { Known::TakenBack } else { Known::Unknown });
    };
    if !catalog.object_is_live(object)? {
        // A removal that had gone from all backends and is there again has something to say still.
        let is_heard = hears && record.kind == ObjectKind::Removal;
        return Ok(if is_heard { Known::Unknown } else { Known::Dead });
    }
    let (Ok(manifest), false) = (record.manifest(&keys.store_id()), is_unread(catalog, object)?) else {
        return Ok(Known::Unread);
    };
    let pending = catalog.waiting_places(object)?.into_iter().collect();
    Ok(Known::Live(Box::new(manifest), catalog.shards(object)?, pending))
}
