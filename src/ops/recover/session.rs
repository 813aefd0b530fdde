//! One recovering from beginning to end.

use super::group::Groups;
use super::new_file::NewFile;
use super::object::{OpenObject, may_be_in_another};
use super::origin::Origin;
use super::outcome::Outcome;
use super::plan::{self, Asked, PlannedFile};
use super::report::{FailedRecovery, RecoverReport};
use super::shared::SharedObject;
use super::sink::{Extent, HashingSink, Sink, attributes};
use super::target::{Files, Target};
use super::{Existing, RecoverOptions, RecoverOutput, RecoverWhat};
use crate::catalog::PieceRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::id::VersionId;
use crate::ops::Controls;
use crate::ops::reader::{ReadError, compute};
use std::ops::{Range, RangeInclusive};
use std::time::Instant;

/// The options without the output.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) what: RecoverWhat,
    pub(super) version: Option<VersionId>,
    pub(super) range: Option<RangeInclusive<u64>>,
    pub(super) existing: Existing,
    pub(super) controls: Controls,
}

/// One recovering.
pub(super) struct Session<'a> {
    origin: Origin<'a>,
    request: Request,
    begun: Instant,
    outcome: Outcome,
}

impl<'a> Session<'a> {
    /// A session, and the output that its [`Self::run`] takes.
    pub(super) fn new(origin: Origin<'a>, options: RecoverOptions) -> Result<(Self, RecoverOutput)> {
        let RecoverOptions { what, version, range, output, existing, controls } = options;
        if matches!(&what, RecoverWhat::Names(names) if names.is_empty()) {
            return Err(Error::new(ErrorKind::Invalid, "nothing was named that could be recovered"));
        }
        if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
            let doing = format!("the range {}-{} ends before it begins", range.start(), range.end());
            return Err(Error::new(ErrorKind::Invalid, doing));
        }
        let request = Request { what, version, range, existing, controls };
        Ok((Self { origin, request, begun: Instant::now(), outcome: Outcome::default() }, output))
    }

    /// Bytes that were read before there was a session.
    pub(super) fn add_bytes_read(&mut self, bytes: u64) {
        self.outcome.report.bytes_read += bytes;
    }

    pub(super) async fn run(mut self, output: RecoverOutput) -> Result<RecoverReport> {
        let asked = plan::ask(&self.origin, &self.request).await?;
        let asked = self.found(asked)?;
        let mut target = Target::open((output, &self.request), &asked).await?;
        self.begin(&asked)?;
        // What is in them may belong to a folder; a file that was named is there, whatever else is not.
        if asked.iter().any(|asked| matches!(asked, Asked::Folder { .. })) {
            self.outcome.report.unread = self.origin.unread().await?;
            self.outcome.report.untrusted = self.origin.untrusted();
        }
        let (mut alone, mut folders) = (Vec::new(), Vec::new());
        for asked in asked {
            match asked {
                Asked::File(file) => alone.push(*file),
                Asked::Folder { prefix, .. } => folders.push(prefix),
            }
        }
        match &mut target {
            Target::Stream(stream) => {
                for file in alone {
                    self.pour(&file, stream.name(), HashingSink::new(Sink::Stream(stream))).await?;
                }
            }
            Target::Files(files) => {
                files.refuse_collisions(&alone)?;
                self.batch(alone, files).await?;
                for prefix in folders {
                    self.folder(&prefix, files).await?;
                }
                if self.outcome.report.failed.is_empty() {
                    files.keep_folders();
                }
            }
        }
        self.request.controls.end();
        let elapsed_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(self.outcome.into_report(&self.origin, elapsed_ms))
    }

    /// What there is of what was asked for. One name that is not there is an error, among several it is a line.
    fn found(&mut self, asked: Vec<(String, Result<Asked>)>) -> Result<Vec<Asked>> {
        let several = asked.len() > 1;
        let mut found = Vec::new();
        for (name, outcome) in asked {
            match outcome {
                Ok(asked) => found.push(asked),
                Err(error) if several => {
                    self.outcome.report.failed.push(FailedRecovery::new(FileName::new(name)?, None, &error));
                }
                Err(error) => return Err(error),
            }
        }
        self.outcome.is_alone = !several && matches!(found.as_slice(), [Asked::File(_)]);
        Ok(found)
    }

    fn begin(&self, asked: &[Asked]) -> Result<()> {
        let (mut files, mut bytes) = (0u64, 0u64);
        for asked in asked {
            let (more_files, more_bytes) = match asked {
                Asked::File(file) => {
                    let range = self.range_of(file)?;
                    (1, range.end - range.start)
                }
                Asked::Folder { files, bytes, .. } => (*files, *bytes),
            };
            files += more_files;
            bytes = bytes.saturating_add(more_bytes);
        }
        self.request.controls.begin("recovering", Some(bytes), Some(files));
        Ok(())
    }

    /// The bytes of this file that are wanted.
    fn range_of(&self, file: &PlannedFile) -> Result<Range<u64>> {
        let total_bytes = file.whole.total_bytes;
        let Some(range) = &self.request.range else { return Ok(0..total_bytes) };
        if *range.end() < total_bytes {
            return Ok(*range.start()..*range.end() + 1);
        }
        let (start, end, name) = (range.start(), range.end(), file.name.as_str());
        let doing = format!("{name:?} has {total_bytes} bytes: the range {start}-{end} ends after it");
        let last = total_bytes.checked_sub(1).map(|last| format!("its last byte is {last}"));
        Err(Error::new(ErrorKind::Invalid, doing).with_hint(last.unwrap_or_else(|| "it is empty".to_owned())))
    }

    fn extent(&self) -> Extent {
        if self.request.range.is_some() { Extent::Part } else { Extent::Whole }
    }

    /// All files of a folder, a page of names at a time.
    async fn folder(&mut self, prefix: &str, files: &mut Files) -> Result<()> {
        let mut after = None;
        loop {
            let page = plan::page(&self.origin, prefix, after.take()).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            self.batch(page, files).await?;
        }
    }

    /// Files whose objects are each opened once.
    async fn batch(&mut self, batch: Vec<PlannedFile>, files: &mut Files) -> Result<()> {
        batch.iter().for_each(|file| self.warn_of_heads(file));
        let groups = if self.request.range.is_some() { Groups::each(batch) } else { Groups::of(batch) };
        self.one_by_one(groups.single, files).await?;
        for (object, sharing) in groups.sharing {
            let shared = SharedObject::new(&self.request, &mut self.outcome, files);
            let elsewhere = shared.recover(&self.origin, object, sharing).await?;
            self.one_by_one(elsewhere, files).await?;
        }
        files.sync().await
    }

    /// Files that are each read on their own; nothing else is on its way into the folders.
    async fn one_by_one(&mut self, batch: Vec<PlannedFile>, files: &mut Files) -> Result<()> {
        for file in batch {
            if files.is_full() {
                files.sync().await?;
            }
            if let Err(error) = self.write_file(&file, files).await {
                self.outcome.failed(&file, error)?;
            }
        }
        Ok(())
    }

    fn warn_of_heads(&self, file: &PlannedFile) {
        if file.heads > 1 && self.request.version.is_none() {
            let (name, heads) = (file.name.as_str(), file.heads);
            self.request.controls.warn(format!(
                "{name:?} has {heads} newest versions, put by machines that did not know of each other; {} was taken",
                file.version
            ));
        }
    }

    /// One file, to its place.
    async fn write_file(&mut self, file: &PlannedFile, files: &mut Files) -> Result<()> {
        let relative = files.relative(file)?;
        files.take(&relative, file)?;
        let (folder, name) = files.place(&relative).await?;
        let output = folder.path_of(&name).display().to_string();
        let (existing, attributes) = (self.request.existing, attributes(&file.whole, self.extent()));
        let new = compute(move || NewFile::create(folder, &name, existing, attributes.as_ref())).await??;
        self.pour(file, output, HashingSink::new(Sink::NewFile(new))).await
    }

    /// The wanted bytes of one file, object by object, into a sink.
    async fn pour(&mut self, file: &PlannedFile, output: String, mut sink: HashingSink<'_>) -> Result<()> {
        file.check_pieces()?;
        let (range, extent) = (self.range_of(file)?, self.extent());
        for (piece, part) in file.parts(range) {
            sink = self.pour_piece((file, piece), part, sink).await?;
        }
        let bytes = sink.bytes();
        sink.finish(&file.name, &file.whole, extent).await?;
        self.outcome.recovered(file, output, (extent, bytes));
        self.request.controls.items(1);
        Ok(())
    }

    /// A part of a piece, from the first of the objects that have it, and where that falls short, on from the next.
    async fn pour_piece<'s>(
        &mut self,
        (file, piece): (&PlannedFile, &PieceRecord),
        mut part: Range<u64>,
        mut sink: HashingSink<'s>,
    ) -> Result<HashingSink<'s>> {
        let mut failure: Option<Error> = None;
        for copy in file.copies_of(piece) {
            let wanted = copy.offset + part.start..copy.offset + part.end;
            let error = match OpenObject::open(&self.origin, copy.object).await {
                Err(error) => error,
                Ok(mut object) => {
                    let poured = pour_part(&mut object, wanted, sink, &self.request.controls).await;
                    self.outcome.take(object.into_tally());
                    let poured = poured?;
                    let Some(error) = poured.shortfall else { return Ok(poured.sink) };
                    sink = poured.sink;
                    part.start += poured.bytes;
                    error
                }
            };
            if !may_be_in_another(error.kind) {
                return Err(error);
            }
            // What cannot be read now may come back: that is the better news of the two.
            let is_better = failure.as_ref().is_none_or(|_| error.kind == ErrorKind::Unavailable);
            failure = if is_better { Some(error) } else { failure };
        }
        Err(failure.unwrap_or_else(|| ReadError::Stopped.into()))
    }
}

/// What became of reading a part of a piece.
struct Poured<'s> {
    sink: HashingSink<'s>,
    /// How many bytes the sink took.
    bytes: u64,
    /// Why it was not all.
    shortfall: Option<Error>,
}

async fn pour_part<'s>(
    object: &mut OpenObject<'_>,
    part: Range<u64>,
    mut sink: HashingSink<'s>,
    controls: &Controls,
) -> Result<Poured<'s>> {
    let (mut run, mut taken) = (object.run(part.clone()), 0);
    loop {
        match run.next(part.end).await {
            Ok(None) => return Ok(Poured { sink, bytes: taken, shortfall: None }),
            Err(error) => return Ok(Poured { sink, bytes: taken, shortfall: Some(error) }),
            Ok(Some(bytes)) => {
                let count = bytes.len() as u64;
                sink = sink.write(bytes).await?;
                controls.bytes(count);
                taken += count;
            }
        }
    }
}
