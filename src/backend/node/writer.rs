//! A shard on its way to a node: a few pieces at once, so that the way there and back does not set the pace.

use super::super::ledger::Reservation;
use super::super::retry::WRITE_TIMEOUT;
use super::super::{Error, ErrorKind, Result, ShardWriter};
use super::exchange::{Exchange, broken, within};
use crate::peer::storage::{MAX_PIECE_BYTES, StorageAnswer};
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

/// Pieces that are sent before the node said that it took the first of them: 2 MiB, which is what a node lets be on its way on
/// one stream. At 100 ms there and back that is 20 MB/s for each shard.
const WINDOW_PIECES: usize = 8;
/// How long a node that no longer takes pieces has to say why.
const REASON_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may take to clear away what was given up; it does so without being waited for.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The writer callers hold. The stream is away while a call uses it, and stays away once one failed or was cancelled.
pub(super) struct NodeWriter {
    exchange: Option<Exchange>,
    /// Pieces that were sent and are not known to be taken.
    untaken_pieces: usize,
    /// This side's quota, and what the shard that is replaced had.
    reservation: Option<(Reservation, u64)>,
    written_bytes: u64,
    doing: String,
}

impl NodeWriter {
    pub(super) fn new(exchange: Exchange, reservation: Option<(Reservation, u64)>) -> Self {
        let doing = exchange.doing().to_owned();
        Self { exchange: Some(exchange), untaken_pieces: 0, reservation, written_bytes: 0, doing }
    }

    fn take(&mut self) -> Result<Exchange> {
        let after = || Error::with_source(ErrorKind::Failed, self.doing.as_str(), "an earlier write of it failed");
        self.exchange.take().ok_or_else(after)
    }
}

/// Sends a piece. A node that refuses an earlier one ends the stream: what it said is why this one cannot be sent.
async fn send(exchange: &mut Exchange, piece: &[u8], untaken: usize) -> Result<()> {
    let Err(cut) = exchange.send(piece).await else { return Ok(()) };
    let refusal = async {
        for _ in 0..untaken {
            exchange.ready().await?;
        }
        Ok(())
    };
    match timeout(REASON_TIMEOUT, refusal).await {
        Ok(Err(refusal)) => Err(refusal),
        Ok(Ok(())) | Err(_) => Err(cut),
    }
}

#[async_trait]
impl ShardWriter for NodeWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut exchange = self.take()?;
        if let Some((reservation, _)) = self.reservation.as_mut() {
            reservation.grow(bytes.len() as u64).map_err(|reached| reached.while_doing(self.doing.as_str()))?;
        }
        let mut untaken = self.untaken_pieces;
        let sending = async {
            for piece in bytes.chunks(MAX_PIECE_BYTES) {
                if untaken == WINDOW_PIECES {
                    exchange.ready().await?;
                    untaken -= 1;
                }
                send(&mut exchange, piece, untaken).await?;
                untaken += 1;
            }
            Ok((exchange, untaken))
        };
        let (exchange, untaken) = within(WRITE_TIMEOUT, &self.doing, sending).await?;
        self.untaken_pieces = untaken;
        self.written_bytes += bytes.len() as u64;
        self.exchange = Some(exchange);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        let mut exchange = self.take()?;
        let finishing = async {
            send(&mut exchange, &[], self.untaken_pieces).await?;
            for _ in 0..self.untaken_pieces {
                exchange.ready().await?;
            }
            exchange.answer().await
        };
        match within(WRITE_TIMEOUT, &self.doing, finishing).await? {
            StorageAnswer::Number(bytes) if bytes == self.written_bytes => {
                if let Some((reservation, replaced_bytes)) = self.reservation.take() {
                    reservation.settle(replaced_bytes);
                }
                Ok(bytes)
            }
            _ => Err(broken(&self.doing, "it did not keep as many bytes as were sent")),
        }
    }

    async fn abort(mut self: Box<Self>) {
        if let Ok(exchange) = self.take() {
            // What it leaves is cleared with the unfinished.
            let _ = timeout(ABORT_TIMEOUT, exchange.give_up()).await;
        }
    }
}
