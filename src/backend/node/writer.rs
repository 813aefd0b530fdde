//! A shard on its way to a node: each piece is taken before the next is sent.

use super::super::ledger::Reservation;
use super::super::retry::WRITE_TIMEOUT;
use super::super::{Error, ErrorKind, Result, ShardWriter};
use super::exchange::{Exchange, broken, within};
use crate::peer::storage::{MAX_PIECE_BYTES, StorageAnswer};
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

/// How long a node may take to clear away what was given up; it does so without being waited for.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The writer callers hold. The stream is away while a call uses it, and stays away once one failed or was cancelled.
pub(super) struct NodeWriter {
    exchange: Option<Exchange>,
    /// This side's quota, and what the shard that is replaced had.
    reservation: Option<(Reservation, u64)>,
    written_bytes: u64,
    doing: String,
}

impl NodeWriter {
    pub(super) fn new(exchange: Exchange, reservation: Option<(Reservation, u64)>) -> Self {
        let doing = exchange.doing().to_owned();
        Self { exchange: Some(exchange), reservation, written_bytes: 0, doing }
    }

    fn take(&mut self) -> Result<Exchange> {
        let after = || Error::with_source(ErrorKind::Failed, self.doing.as_str(), "an earlier write of it failed");
        self.exchange.take().ok_or_else(after)
    }
}

#[async_trait]
impl ShardWriter for NodeWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut exchange = self.take()?;
        if let Some((reservation, _)) = self.reservation.as_mut() {
            reservation.grow(bytes.len() as u64).map_err(|reached| reached.while_doing(self.doing.as_str()))?;
        }
        let sending = async {
            for piece in bytes.chunks(MAX_PIECE_BYTES) {
                exchange.send(piece).await?;
                exchange.ready().await?;
            }
            Ok(exchange)
        };
        let exchange = within(WRITE_TIMEOUT, &self.doing, sending).await?;
        self.written_bytes += bytes.len() as u64;
        self.exchange = Some(exchange);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        let mut exchange = self.take()?;
        let finishing = async {
            exchange.send(&[]).await?;
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
