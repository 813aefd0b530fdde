//! What takes a file's verified bytes, in order, and hashes them on the way.

use super::new_file::{Attributes, NewFile};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Whole};
use crate::id::Digest;
use crate::ops::reader::compute;
use bytes::Bytes;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A stream that takes one file.
pub(super) enum Stream {
    Writer(Box<dyn AsyncWrite + Send + Unpin>),
    /// A device or pipe that has a path.
    Device(File, PathBuf),
}

/// Takes bytes.
pub(super) enum Sink<'a> {
    NewFile(NewFile),
    Stream(&'a mut Stream),
}

/// A sink and the hash of what it took.
pub(super) struct HashingSink<'a> {
    sink: Sink<'a>,
    hasher: blake3::Hasher,
    bytes: u64,
}

/// Whether what was recovered is all of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Part,
}

/// What a whole file gets beside its bytes; a part of a file gets nothing.
pub(super) fn attributes(whole: &Whole, extent: Extent) -> Option<Attributes> {
    (extent == Extent::Whole).then_some(Attributes { mode: whole.mode, mtime_ns: whole.mtime_ns })
}

impl<'a> HashingSink<'a> {
    pub(super) fn new(sink: Sink<'a>) -> Self {
        Self { sink, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) async fn write(mut self, part: Bytes) -> Result<Self> {
        self.bytes += part.len() as u64;
        let (mut hasher, hashed) = (self.hasher, part.clone());
        self.sink = match self.sink {
            Sink::NewFile(mut file) => {
                let work = move || {
                    hasher.update(&hashed);
                    file.write(&hashed).map(|()| (hasher, file))
                };
                let (hasher, file) = compute(work).await??;
                return Ok(Self { sink: Sink::NewFile(file), hasher, bytes: self.bytes });
            }
            Sink::Stream(stream) => {
                stream.write(part).await?;
                Sink::Stream(stream)
            }
        };
        let work = move || {
            hasher.update(&hashed);
            hasher
        };
        self.hasher = compute(work).await?;
        Ok(self)
    }

    /// Compares the hash, and gives the file its name. What a stream has had, it has had.
    pub(super) async fn finish(self, name: &FileName, whole: &Whole, extent: Extent) -> Result<()> {
        if extent == Extent::Whole {
            check_hash(name, whole, &self.hasher)?;
        }
        match self.sink {
            Sink::NewFile(file) => {
                let attributes = attributes(whole, extent);
                compute(move || file.finish(attributes.as_ref())).await?
            }
            Sink::Stream(stream) => stream.flush().await,
        }
    }
}

/// Each block was right, so this finds what went wrong before there were blocks.
pub(super) fn check_hash(name: &FileName, whole: &Whole, hasher: &blake3::Hasher) -> Result<()> {
    let found = Digest(hasher.finalize().into());
    if found == whole.blake3 {
        return Ok(());
    }
    let doing = format!("{:?} was stored damaged: its bytes hash to {found}, not {}", name.as_str(), whole.blake3);
    Err(Error::new(ErrorKind::Damaged, doing))
}

impl Stream {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        match self {
            Self::Writer(writer) => {
                writer.write_all(&part).await.map_err(|error| Error::local("cannot write the output", error))
            }
            Self::Device(file, path) => {
                let failed = |error| Error::local(format!("cannot write {}", path.display()), error);
                let mut handle = file.try_clone().map_err(failed)?;
                compute(move || handle.write_all(&part)).await?.map_err(failed)
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        match self {
            Self::Writer(writer) => {
                writer.flush().await.map_err(|error| Error::local("cannot write the output", error))
            }
            Self::Device(..) => Ok(()),
        }
    }

    /// What a report calls it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Writer(_) => "-".to_owned(),
            Self::Device(_, path) => path.display().to_string(),
        }
    }
}
