//! One run of a put: what all its files share, and the pack that is open.

use super::pack::Pack;
use super::reading::{Fingerprint, Links, Reading};
use super::{FailedFile, PutOptions, PutReport, PutSource, StoredFile};
use crate::crypto::RecipientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, ObjectKind};
use crate::id::{Geometry, ObjectId, RedundancyLevel, VersionId};
use crate::ops::Controls;
use crate::ops::writer::ReadableZone;
use crate::ops::writer::{
    ObjectOptions, ObjectWriter, StoredObject, Unused, WriteFailures, content_limit, new_object_shape, unused_backends,
};
use crate::store::Store;
use crate::stripe::Seal;
use crate::stripe::{Check, StripeShape};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncRead;

/// A file of at most this many bytes shares an object with others.
const SMALL_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// A shared object takes files until it has this many bytes.
const PACK_BYTES: u64 = 256 * 1024 * 1024;
/// A file's mode where it has none: a stream's.
const STREAM_MODE: u32 = 0o644;

/// What a put is doing.
pub(super) struct Session<'a> {
    pub(super) store: &'a Store,
    pub(super) controls: Controls,
    pub(super) shape: StripeShape,
    /// The geometry, where one was asked for: what is stored with another is stored again.
    pub(super) asked: Option<Geometry>,
    pub(super) pack: Option<Pack<'a>>,
    pub(super) report: PutReport,
    pub(super) seal: Seal,
    pub(super) recipient: Option<Arc<RecipientKey>>,
    readable_zone: ReadableZone,
    check: Check,
    failures: WriteFailures,
    is_single_file: bool,
    warned_of_margin: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(store: &'a Store, options: &PutOptions) -> Result<Self> {
        let level = options.level.unwrap_or(store.config().default_level);
        let seal = match &options.recipient {
            Some(_) => Seal::Recipient,
            None => options.seal.unwrap_or(store.config().seal),
        };
        let by_level = if level == RedundancyLevel::Paranoid { Check::Full } else { Check::Parity };
        Ok(Self {
            store,
            controls: options.controls.clone(),
            shape: new_object_shape(level.geometry(), seal)?,
            seal,
            recipient: options.recipient.clone(),
            readable_zone: options.readable_zone,
            asked: options.level.map(RedundancyLevel::geometry),
            pack: None,
            report: PutReport::default(),
            check: options.check.unwrap_or(by_level),
            failures: WriteFailures::default(),
            is_single_file: matches!(options.sources.as_slice(), [PutSource::File { .. }]),
            warned_of_margin: false,
        })
    }

    /// Stores what a source gives.
    pub(super) async fn put(&mut self, source: PutSource) -> Result<()> {
        match source {
            PutSource::File { path, name } => self.put_file(path, name).await,
            PutSource::Folder { path, name } => self.put_folder(path, name).await,
            PutSource::Reader { reader, name } => self.put_stream(reader, name).await,
        }
    }

    /// Stores one file that was named by itself.
    async fn put_file(&mut self, path: PathBuf, name: Option<FileName>) -> Result<()> {
        let name = match name {
            Some(name) => name,
            None => own_name(&path)?,
        };
        let reading = match Reading::open(path.clone(), Links::Follow).await {
            Ok(reading) => reading,
            Err(error) => return self.fail_file(&path, error),
        };
        let bytes = reading.seen().map(|seen| seen.bytes);
        self.controls.begin("storing", bytes, Some(1));
        if let Some(seen) = reading.seen()
            && self.skip_unchanged(vec![(path.clone(), name.clone(), seen)], Links::Follow).await?.is_empty()
        {
            self.controls.end();
            return Ok(());
        }
        let stored = self.store_file(&path, name, reading).await;
        self.controls.end();
        stored
    }

    /// Stores a stream.
    async fn put_stream(&mut self, reader: Box<dyn AsyncRead + Send + Unpin>, name: FileName) -> Result<()> {
        self.controls.begin("storing", None, Some(1));
        let now = Fingerprint::of_stream(self.store.now_ns(), STREAM_MODE);
        let mut reading = Reading::stream(reader, self.controls.cancel.clone());
        let stored = self.put_large(name, &mut reading, now).await;
        self.controls.end();
        stored
    }

    /// Stores an open file, in a pack or by itself. What is the file's fault is listed, or an error where it is the only one.
    pub(super) async fn store_file(&mut self, path: &Path, name: FileName, mut reading: Reading) -> Result<()> {
        let Some(seen) = reading.seen() else { return Ok(()) };
        let outcome = if seen.bytes <= self.small_limit() {
            self.put_small(name, &mut reading, seen).await
        } else {
            self.put_large(name, &mut reading, seen).await
        };
        match outcome {
            Err(error) if reading.has_failed() => self.fail_file(path, error),
            outcome => outcome,
        }
    }

    /// Lists a file that could not be stored; the error itself where nothing else was to be stored.
    pub(super) fn fail_file(&mut self, path: &Path, error: Error) -> Result<()> {
        if self.is_single_file {
            return Err(error);
        }
        self.list_failure(path, &error);
        Ok(())
    }

    /// Lists a file that could not be stored.
    pub(super) fn list_failure(&mut self, path: &Path, error: &(dyn std::error::Error + 'static)) {
        let error = in_words(error);
        self.report.failed.push(FailedFile { path: path.to_string_lossy().into_owned(), error });
    }

    /// Begins an object.
    pub(super) async fn begin_object(&self, file: Option<(FileName, VersionId)>) -> Result<ObjectWriter<'a>> {
        let options = ObjectOptions {
            kind: ObjectKind::Data,
            geometry: self.shape.geometry(),
            seal: self.seal,
            recipient: self.recipient.clone(),
            readable_zone: self.readable_zone,
            check: self.check,
            file,
            failures: self.failures.clone(),
            controls: self.controls.clone(),
        };
        ObjectWriter::begin(self.store, options).await
    }

    /// Takes an object into the report.
    pub(super) fn add_object(&mut self, object: StoredObject) -> ObjectId {
        let id = object.id;
        self.report.bytes_written += object.bytes_written();
        self.warn_of_margin(&object);
        self.report.objects.push(object);
        id
    }

    /// Remembers when stored files had last changed, for the next put to compare.
    pub(super) async fn remember_change_times(&self, times: Vec<(VersionId, i64)>) -> Result<()> {
        self.store.catalog(move |catalog| catalog.set_change_times(&times)).await
    }

    /// Takes a file into the report.
    pub(super) fn add_file(&mut self, file: StoredFile) {
        self.controls.items(1);
        self.report.files.push(file);
    }

    /// Ends what is open.
    pub(super) async fn close(mut self) -> Result<PutReport> {
        self.close_pack().await?;
        self.warn_of_unused();
        Ok(self.report)
    }

    /// Takes back what is open because of an error, and gives the error back.
    pub(super) async fn abandon_for(self, error: Error) -> Error {
        let mut error = match self.pack {
            Some(pack) => pack.abandon_for(error).await,
            None => error,
        };
        if error.kind == ErrorKind::Cancelled {
            error.doing = "cancelled; what was half-stored was taken back, what was stored before stays".to_owned();
        }
        error
    }

    /// The longest file that goes into a pack.
    pub(super) fn small_limit(&self) -> u64 {
        SMALL_FILE_BYTES.min(content_limit(self.shape))
    }

    /// How many bytes of files a pack takes.
    pub(super) fn pack_limit(&self) -> u64 {
        PACK_BYTES.min(content_limit(self.shape))
    }

    /// Names the backends that took nothing although they should, and what that means.
    fn warn_of_unused(&self) {
        let unused = unused_backends(self.store, &self.failures);
        if unused.is_empty() || self.report.objects.is_empty() {
            return;
        }
        let is_full = |(_, why): &(String, Unused)| *why == Unused::Full;
        let once = match (unused.iter().any(is_full), unused.iter().all(is_full)) {
            (true, true) => "once there is room",
            (true, false) => "once they are back, or there is room",
            (false, _) => "once they are back",
        };
        let unused: Vec<String> = unused.iter().map(|(name, why)| format!("{name} ({})", why.why())).collect();
        let unused = unused.join(", ");
        self.controls.warn(match self.report.is_degraded() {
            true => format!("not used: {unused}; with all backends less could be lost: `shard repair` {once}"),
            false => format!("not used: {unused}; the shards are as safe without"),
        });
    }

    /// Says once where the loss of a single zone would be too much.
    fn warn_of_margin(&mut self, object: &StoredObject) {
        if object.margin == Some(0) && !self.warned_of_margin {
            self.warned_of_margin = true;
            let backends = object.backend_margin.unwrap_or(0);
            self.controls.warn(format!(
                "the shards share so few zones that losing one could lose the data (margin 0, backend margin {backends})"
            ));
        }
    }
}

/// An error and what is underneath, in one line. Some say in their own words what is underneath: that is said once.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string) {
        if !words.last().is_some_and(|said| said.contains(&cause)) {
            words.push(cause);
        }
    }
    words.join(": ")
}

/// What a file or folder is called by itself.
pub(super) fn own_name(path: &Path) -> Result<FileName> {
    let unnamed = || {
        let doing = format!("{} has no name of its own that can be stored", path.display());
        Error::new(ErrorKind::Invalid, doing).with_hint("give it one with --name")
    };
    let own = match path.file_name() {
        Some(own) => own.to_owned(),
        // `.` and `..` have the name of what they stand for.
        None => {
            path.canonicalize().ok().and_then(|path| path.file_name().map(ToOwned::to_owned)).ok_or_else(unnamed)?
        }
    };
    Ok(FileName::new(own.to_str().ok_or_else(unnamed)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_said_already_is_not_said_again() {
        let refused = || std::io::Error::from_raw_os_error(13);
        let twice = walkdir::WalkDir::new("/not/there").into_iter().find_map(Result::err).expect("an error");
        assert_eq!(in_words(&twice).matches("os error").count(), 1, "{}", in_words(&twice));
        let once = Error::local("cannot read a", refused());
        assert_eq!(in_words(&once), format!("cannot read a: {}", refused()));
    }
}
