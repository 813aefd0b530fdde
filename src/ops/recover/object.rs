//! The bytes of one object, in order, from wherever its shards are: recorded places first, any other when they fall short.

use super::origin::Origin;
use crate::error::{ErrorKind, Result};
use crate::id::ObjectId;
use crate::ops::reader::{Damage, ObjectReader, ReadError};
use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use std::ops::Range;

/// One object that is being read.
pub(super) struct OpenObject<'a> {
    origin: &'a Origin<'a>,
    reader: ObjectReader,
    is_wide: bool,
    earlier: Tally,
}

/// What reading cost and met.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) damage: Vec<Damage>,
    pub(super) bytes_read: u64,
}

/// Some of an object's payload, on its way.
pub(super) struct Run<'s, 'a> {
    object: &'s mut OpenObject<'a>,
    stream: BoxStream<'static, Result<Bytes, ReadError>>,
    /// The part of the last bytes that was not taken yet.
    rest: Bytes,
    position: u64,
    end: u64,
}

/// Whether another object that holds the same bytes may give what this one could not.
pub(super) fn may_be_in_another(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Lost | ErrorKind::Unavailable | ErrorKind::Backend | ErrorKind::Damaged)
}

impl<'a> OpenObject<'a> {
    pub(super) async fn open(origin: &'a Origin<'a>, object: ObjectId) -> Result<Self> {
        let reader = origin.open(object).await?;
        Ok(Self { origin, reader, is_wide: false, earlier: Tally::default() })
    }

    /// How many payload bytes one stripe has.
    pub(super) fn stripe_bytes(&self) -> u64 {
        self.reader.manifest().layout().shape().capacity()
    }

    pub(super) fn run(&mut self, range: Range<u64>) -> Run<'_, 'a> {
        let stream = self.reader.payload(range.clone());
        Run { object: self, stream, rest: Bytes::new(), position: range.start, end: range.end }
    }

    /// What was read with it, all in all. As for `verify`, a shard of which there is a good copy in another recorded place is
    /// no damage; one that had to be looked for is.
    pub(super) fn into_tally(self) -> Tally {
        let mut tally = self.earlier;
        tally.damage.extend(self.reader.damage());
        tally.damage.retain(|damage| self.is_wide || !self.reader.is_made_up_for(damage));
        tally.bytes_read += self.reader.bytes_read();
        tally
    }

    /// Whether shards were found in other places than the recorded ones, and are read from now on.
    async fn widen(&mut self) -> bool {
        if std::mem::replace(&mut self.is_wide, true) {
            return false;
        }
        let Some(wider) = self.origin.open_wider(&self.reader).await else { return false };
        self.earlier.damage.extend(self.reader.damage());
        self.earlier.bytes_read += self.reader.bytes_read();
        self.reader = wider;
        true
    }
}

impl Run<'_, '_> {
    /// The next bytes before `until`, as many as there are in one piece; `None` when it is there.
    pub(super) async fn next(&mut self, until: u64) -> Result<Option<Bytes>> {
        let until = until.min(self.end);
        if self.position >= until {
            return Ok(None);
        }
        while self.rest.is_empty() {
            self.rest = self.read().await?;
        }
        let wanted = usize::try_from(until - self.position).unwrap_or(usize::MAX);
        let taken = self.rest.split_to(wanted.min(self.rest.len()));
        self.position += taken.len() as u64;
        Ok(Some(taken))
    }

    /// Passes over what is before `until`.
    pub(super) async fn skip_to(&mut self, until: u64) -> Result<()> {
        while self.next(until).await?.is_some() {}
        Ok(())
    }

    async fn read(&mut self) -> Result<Bytes> {
        loop {
            match self.stream.try_next().await {
                Ok(Some(bytes)) => return Ok(bytes),
                // The stream has exactly the range's bytes or ends with an error.
                Ok(None) => return Err(ReadError::Stopped.into()),
                Err(error) => {
                    let may_be_elsewhere = matches!(error.kind(), ErrorKind::Lost | ErrorKind::Unavailable);
                    if !(may_be_elsewhere && self.object.widen().await) {
                        return Err(error.into());
                    }
                    self.stream = self.object.reader.payload(self.position..self.end);
                }
            }
        }
    }
}
