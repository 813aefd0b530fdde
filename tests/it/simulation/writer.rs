//! Shards on their way to simulated places.

use super::place::{SimulatedPlace, State};
use super::weather::Strike;
use async_trait::async_trait;
use bytes::Bytes;
use shard::backend::{Error, ErrorKind, Operation, Result, ShardWriter};
use shard::id::ShardId;

/// What a writer has in the end.
pub(super) struct Written {
    pub(super) shard: ShardId,
    pub(super) bytes: Bytes,
    pub(super) replaces: bool,
}

/// A shard on its way to a simulated place.
pub(super) struct SimulatedWriter {
    place: SimulatedPlace,
    shard: ShardId,
    replaces: bool,
    bytes: Vec<u8>,
    is_broken: bool,
}

impl SimulatedWriter {
    pub(super) fn new(place: &SimulatedPlace, shard: ShardId, replaces: bool) -> Self {
        Self { place: place.clone(), shard, replaces, bytes: Vec::new(), is_broken: false }
    }
}

impl Drop for SimulatedWriter {
    /// Whoever dies leaves what it had begun.
    fn drop(&mut self) {
        let mut state = self.place.world.state();
        if state.is_dead && !self.bytes.is_empty() {
            state.places[self.place.number].left.insert(self.shard);
        }
    }
}

#[async_trait]
impl ShardWriter for SimulatedWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let (number, shard) = (self.place.number, self.shard);
        let write = move |state: &mut State, _| match state.places[number].is_full {
            true => Err(Error::new(ErrorKind::NoSpace, format!("writing {shard}"))),
            false => Ok(()),
        };
        let outcome = self.place.call(Operation::Write, Some(shard), write).await;
        self.is_broken |= outcome.is_err();
        outcome?;
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        let (number, shard, replaces) = (self.place.number, self.shard, self.replaces);
        if self.is_broken {
            return Err(Error::new(ErrorKind::Failed, format!("finishing {shard} after a failed write")));
        }
        let written = Written { shard, bytes: std::mem::take(&mut self.bytes).into(), replaces };
        let finish = move |state: &mut State, strike: Strike| state.finish(number, written, strike.lie);
        self.place.call(Operation::Finish, Some(shard), finish).await
    }

    async fn abort(mut self: Box<Self>) {
        self.bytes.clear();
    }
}
