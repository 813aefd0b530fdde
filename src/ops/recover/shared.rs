//! The files that share one object: its stripes are read once, small files are written several at a time.

use super::folder::{Existing, Folder};
use super::group::{Span, place, spans};
use super::new_file::NewFile;
use super::object::{OpenObject, Run, may_be_in_another};
use super::origin::Origin;
use super::outcome::Outcome;
use super::plan::PlannedFile;
use super::session::Request;
use super::sink::{Extent, HashingSink, Sink, attributes, check_hash};
use super::target::Files;
use crate::error::Result;
use crate::id::ObjectId;
use crate::ops::reader::compute;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::Arc;

/// A file up to this many bytes is written in one go beside others; larger ones are written as they are read.
const SMALL_FILE_BYTES: u64 = 1024 * 1024;
/// So many groups of small files are written at once: what takes time is waiting for the disk to say that it has them.
const GROUPS_IN_FLIGHT: usize = 8;
/// A group has at most so many small files, and hardly more than so many bytes: to hand each over on its own takes as long
/// as to write it.
const GROUP_FILES: usize = 16;
const GROUP_BYTES: usize = 512 * 1024;
/// For so many files at once it is looked whether something is there already.
const LOOKS_AT_ONCE: usize = 256;

/// A small file with its bytes, and where they go.
struct SmallFile {
    file: PlannedFile,
    output: String,
    folder: Arc<Folder>,
    name: OsString,
    bytes: Vec<u8>,
}

/// Small files that are being written one after another, and where.
type Group = BoxFuture<'static, Result<Vec<(PlannedFile, String, Result<()>)>>>;

/// Recovers the files that share one object.
pub(super) struct SharedObject<'s> {
    request: &'s Request,
    outcome: &'s mut Outcome,
    files: &'s mut Files,
    gathered: Vec<SmallFile>,
    in_flight: FuturesUnordered<Group>,
    /// What this object does not give and another one may.
    elsewhere: Vec<PlannedFile>,
}

impl<'s> SharedObject<'s> {
    pub(super) fn new(request: &'s Request, outcome: &'s mut Outcome, files: &'s mut Files) -> Self {
        Self {
            request,
            outcome,
            files,
            gathered: Vec::new(),
            in_flight: FuturesUnordered::new(),
            elsewhere: Vec::new(),
        }
    }

    /// Gives back those that this object does not give, and another one may.
    pub(super) async fn recover(
        mut self,
        origin: &Origin<'_>,
        object: ObjectId,
        sharing: Vec<PlannedFile>,
    ) -> Result<Vec<PlannedFile>> {
        let wanted = self.without_existing(sharing).await?;
        if wanted.is_empty() {
            return Ok(self.elsewhere);
        }
        let mut open = match OpenObject::open(origin, object).await {
            Ok(open) => open,
            Err(error) => {
                let has_copy = |file: &PlannedFile| may_be_in_another(error.kind) && !file.copies.is_empty();
                let (elsewhere, failed): (Vec<_>, Vec<_>) = wanted.into_iter().partition(has_copy);
                if !failed.is_empty() {
                    self.outcome.all_failed(&failed, error)?;
                }
                return Ok(elsewhere);
            }
        };
        let gap = open.stripe_bytes();
        let mut done = Ok(());
        for span in spans(wanted, gap) {
            done = self.span(&mut open, span).await;
            if done.is_err() {
                break;
            }
        }
        let done = done.and(self.drain().await);
        self.outcome.take(open.into_tally());
        done.map(|()| self.elsewhere)
    }

    /// Leaves out what is not to be replaced before anything is read for it.
    async fn without_existing(&mut self, sharing: Vec<PlannedFile>) -> Result<Vec<PlannedFile>> {
        let mut wanted = Vec::with_capacity(sharing.len());
        let mut sharing = sharing.into_iter().peekable();
        while sharing.peek().is_some() {
            let mut looks = Vec::with_capacity(LOOKS_AT_ONCE);
            for file in sharing.by_ref().take(LOOKS_AT_ONCE) {
                let place = match file.check_pieces() {
                    Ok(()) => self.place(&file).await,
                    Err(error) => Err(error),
                };
                looks.push((file, place));
            }
            let existing = self.request.existing;
            let look = move |(file, place): (PlannedFile, Result<(Arc<Folder>, OsString)>)| {
                (file, place.and_then(|(folder, name)| folder.refuse_existing(&name, existing)))
            };
            let looked: Vec<_> = compute(move || looks.into_iter().map(look).collect()).await?;
            for (file, outcome) in looked {
                match outcome {
                    Ok(()) => wanted.push(file),
                    Err(error) => self.outcome.failed(&file, error)?,
                }
            }
        }
        Ok(wanted)
    }

    async fn place(&mut self, file: &PlannedFile) -> Result<(Arc<Folder>, OsString)> {
        if self.files.is_full() {
            self.drain().await?;
            self.files.sync().await?;
        }
        let relative = self.files.relative(file)?;
        self.files.take(&relative, file)?;
        self.files.place(&relative).await
    }

    async fn span(&mut self, open: &mut OpenObject<'_>, span: Span) -> Result<()> {
        let mut files = VecDeque::from(span.files);
        while let Some(first) = files.front() {
            let mut run = open.run(place(first).start..span.range.end);
            while let Some(file) = files.pop_front() {
                if let Err(error) = self.file(&mut run, &file).await {
                    match may_be_in_another(error.kind) && !file.copies.is_empty() {
                        true => self.elsewhere.push(file),
                        false => self.outcome.failed(&file, error)?,
                    }
                    // Where the run stands is not known: the next file begins another.
                    break;
                }
            }
        }
        Ok(())
    }

    /// One file from its object's payload to its place; a small one may still be on its way when this returns.
    async fn file(&mut self, run: &mut Run<'_, '_>, file: &PlannedFile) -> Result<()> {
        let range = place(file);
        run.skip_to(range.start).await?;
        let (folder, name) = self.place(file).await?;
        let output = folder.path_of(&name).display().to_string();
        let (existing, given) = (self.request.existing, attributes(&file.whole, Extent::Whole));
        if range.end - range.start <= SMALL_FILE_BYTES {
            let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
            while let Some(part) = run.next(range.end).await? {
                bytes.extend_from_slice(&part);
            }
            return self.gather(SmallFile { file: file.clone(), output, folder, name, bytes }).await;
        }
        let new = compute(move || NewFile::create(folder, &name, existing, given.as_ref())).await??;
        let mut sink = HashingSink::new(Sink::NewFile(new));
        while let Some(part) = run.next(range.end).await? {
            self.request.controls.bytes(part.len() as u64);
            sink = sink.write(part).await?;
        }
        let bytes = sink.bytes();
        sink.finish(&file.name, &file.whole, Extent::Whole).await?;
        self.request.controls.items(1);
        self.outcome.recovered(file, output, (Extent::Whole, bytes));
        Ok(())
    }

    async fn gather(&mut self, file: SmallFile) -> Result<()> {
        self.gathered.push(file);
        let bytes: usize = self.gathered.iter().map(|file| file.bytes.len()).sum();
        if self.gathered.len() < GROUP_FILES && bytes < GROUP_BYTES {
            return Ok(());
        }
        if self.in_flight.len() >= GROUPS_IN_FLIGHT {
            self.settle_one().await?;
        }
        self.start();
        Ok(())
    }

    /// Begins to write what was gathered.
    fn start(&mut self) {
        let (files, existing) = (std::mem::take(&mut self.gathered), self.request.existing);
        let write = move |small: SmallFile| {
            let outcome = small.write(existing);
            (small.file, small.output, outcome)
        };
        let written = compute(move || files.into_iter().map(write).collect());
        self.in_flight.push(Box::pin(async { Ok(written.await?) }));
    }

    async fn settle_one(&mut self) -> Result<()> {
        let Some(group) = self.in_flight.next().await else { return Ok(()) };
        for (file, output, outcome) in group? {
            match outcome {
                Ok(()) => {
                    let bytes = file.whole.total_bytes;
                    self.request.controls.bytes(bytes);
                    self.request.controls.items(1);
                    self.outcome.recovered(&file, output, (Extent::Whole, bytes));
                }
                Err(error) => self.outcome.failed(&file, error)?,
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<()> {
        if !self.gathered.is_empty() {
            self.start();
        }
        while !self.in_flight.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }
}

impl SmallFile {
    fn write(&self, existing: Existing) -> Result<()> {
        let whole = &self.file.whole;
        let given = attributes(whole, Extent::Whole);
        let mut hasher = blake3::Hasher::new();
        check_hash(&self.file.name, whole, hasher.update(&self.bytes))?;
        let mut new = NewFile::create(Arc::clone(&self.folder), &self.name, existing, given.as_ref())?;
        new.write(&self.bytes)?;
        new.finish(given.as_ref())
    }
}
