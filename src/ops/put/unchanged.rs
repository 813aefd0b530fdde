//! Which files are stored already as they are: by length, times and mode, and by their bytes where times say nothing.

use super::StoredFile;
use super::reading::{Fingerprint, Links, Reading, SAYS_NOTHING};
use super::session::Session;
use crate::catalog::{self, Catalog, ObjectState};
use crate::error::Result;
use crate::format::{FileName, Whole};
use crate::id::{Geometry, ObjectId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file that may have to be stored.
pub(super) type Candidate = (PathBuf, FileName, Fingerprint);

/// How a file is to the newest version of its name.
enum Standing {
    Changed,
    Unchanged(StoredFile, ObjectState),
    /// It looks the same, and looked so young when it was stored that it may have changed since all the same.
    Doubtful(StoredFile, ObjectState),
}

/// Objects that were looked up: whether they can be counted on, their geometry and state.
type Known = BTreeMap<ObjectId, Option<(Geometry, ObjectState)>>;

impl Session<'_> {
    /// Takes what is stored already, unchanged, into the report, and gives back the rest.
    pub(super) async fn skip_unchanged(&mut self, files: Vec<Candidate>, links: Links) -> Result<Vec<Candidate>> {
        let asked = self.asked;
        let look = move |catalog: &Catalog| {
            let mut objects = Known::default();
            let stand = |file: Candidate| Ok((standing(catalog, &mut objects, (&file.1, file.2), asked)?, file));
            files.into_iter().map(stand).collect::<catalog::Result<Vec<_>>>()
        };
        let mut changed = Vec::new();
        for (standing, file) in self.store.look(look).await? {
            match standing {
                Standing::Changed => changed.push(file),
                Standing::Unchanged(stored, state) => self.add_unchanged(stored, state),
                Standing::Doubtful(stored, state) => match self.is_unchanged(&file.0, links, &stored).await? {
                    true => self.add_unchanged(stored, state),
                    false => changed.push(file),
                },
            }
        }
        Ok(changed)
    }

    fn add_unchanged(&mut self, stored: StoredFile, state: ObjectState) {
        self.report.unchanged_state = self.report.unchanged_state.max(Some(state));
        self.add_file(stored);
    }

    /// Whether a file has the bytes that are stored of it. What cannot be read is for whoever stores it to tell.
    async fn is_unchanged(&mut self, path: &Path, links: Links, stored: &StoredFile) -> Result<bool> {
        self.controls.check_cancelled()?;
        let Ok(mut reading) = Reading::open(path.to_owned(), links).await else { return Ok(false) };
        let hash = reading.hash_all(&self.controls).await;
        self.report.bytes_read += reading.bytes();
        self.controls.check_cancelled()?;
        if !hash.is_ok_and(|hash| (hash, reading.bytes()) == (stored.blake3, stored.size)) {
            return Ok(false);
        }
        let time = reading.seen().and_then(|seen| seen.change_time()).filter(|time| *time != SAYS_NOTHING);
        self.remember_change_times(time.map(|time| (stored.version, time)).into_iter().collect()).await?;
        Ok(true)
    }
}

/// Compares with the newest version of a file: length, time and mode, and whether its objects are not lost.
fn standing(
    catalog: &Catalog,
    known: &mut Known,
    (name, seen): (&FileName, Fingerprint),
    asked: Option<Geometry>,
) -> catalog::Result<Standing> {
    let Some(newest) = catalog.heads(name)?.into_iter().next() else { return Ok(Standing::Changed) };
    let is_same =
        |whole: &Whole| (whole.total_bytes, whole.mtime_ns, whole.mode) == (seen.bytes, seen.mtime_ns, seen.mode);
    let Some(whole) = newest.whole.filter(is_same) else { return Ok(Standing::Changed) };
    // A time of last change that is not known, after a rebuild or from another machine, decides nothing.
    let changed = catalog.change_time(newest.id)?;
    if changed.is_some_and(|known| known != SAYS_NOTHING && Some(known) != seen.ctime_ns) {
        return Ok(Standing::Changed);
    }
    let objects = catalog.objects_of_version(newest.id)?;
    let mut worst = ObjectState::Healthy;
    for object in &objects {
        let sound = match known.get(object) {
            Some(sound) => *sound,
            None => *known.entry(*object).or_insert(sound_geometry(catalog, *object)?),
        };
        match sound {
            Some((geometry, state)) if asked.is_none_or(|asked| asked == geometry) => worst = worst.max(state),
            _ => return Ok(Standing::Changed),
        }
    }
    let (version, size, blake3) = (newest.id, whole.total_bytes, whole.blake3);
    let stored = StoredFile { name: name.clone(), version, objects, size, blake3, skipped: true };
    Ok(match changed {
        Some(SAYS_NOTHING) => Standing::Doubtful(stored, worst),
        _ => Standing::Unchanged(stored, worst),
    })
}

/// The geometry and the state of an object that is not lost.
fn sound_geometry(catalog: &Catalog, object: ObjectId) -> catalog::Result<Option<(Geometry, ObjectState)>> {
    let state = catalog.health(object)?.map(|health| health.state).filter(|state| *state != ObjectState::Lost);
    let geometry = catalog.object(object)?.map(|object| object.geometry);
    Ok(geometry.zip(state))
}
