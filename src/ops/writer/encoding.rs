//! Encodes stripes off the reactor, several at once, and gives them back in order.

use crate::crypto::TAG_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Digest, Geometry};
use crate::stripe::{EncodeError, EncodedStripe, FilledStripe, StripeEncoder};
use std::collections::VecDeque;
use tokio::task::JoinHandle;

/// How many stripes are encoded while another is filled: one for each of a small machine's cores, and memory stays small.
const STRIPES_AT_ONCE: usize = 2;

/// Stripes on their way through the encoder, and the leaves of those that came out.
#[derive(Debug)]
pub(super) struct Encoding {
    encoder: StripeEncoder,
    running: VecDeque<JoinHandle<Result<EncodedStripe, EncodeError>>>,
    leaves: Vec<Vec<Digest>>,
}

impl Encoding {
    /// Nothing yet.
    pub(super) fn new(encoder: StripeEncoder, geometry: Geometry) -> Self {
        let leaves = geometry.shard_indexes().map(|_| Vec::new()).collect();
        Self { encoder, running: VecDeque::new(), leaves }
    }

    /// Begins a stripe.
    pub(super) fn push(&mut self, stripe: FilledStripe) {
        let encoder = self.encoder.clone();
        self.running.push_back(tokio::task::spawn_blocking(move || encoder.encode(stripe)));
    }

    /// The oldest stripe, waiting for it only where too many are under way.
    pub(super) async fn next_ready(&mut self) -> Result<Option<EncodedStripe>> {
        if self.running.len() > STRIPES_AT_ONCE { self.drain().await } else { Ok(None) }
    }

    /// The oldest stripe; `None` when there is none.
    pub(super) async fn drain(&mut self) -> Result<Option<EncodedStripe>> {
        let Some(oldest) = self.running.pop_front() else { return Ok(None) };
        let stopped = |error| Error::new(ErrorKind::Memory, "encoding stopped in the middle").with_source(error);
        let stripe = oldest.await.map_err(stopped)?.map_err(encoding_failed)?;
        self.leaves.iter_mut().zip(stripe.leaves()).for_each(|(leaves, leaf)| leaves.push(*leaf));
        Ok(Some(stripe))
    }

    /// What tells the key that stripes were sealed with from any other.
    pub(super) fn key_fingerprint(&self) -> Option<[u8; TAG_BYTES]> {
        self.encoder.key_fingerprint()
    }

    /// The leaves of every shard, in the order of the shards.
    pub(super) fn into_leaves(self) -> Vec<Vec<Digest>> {
        self.leaves
    }
}

fn encoding_failed(error: EncodeError) -> Error {
    let kind = match error {
        EncodeError::Parity { .. } | EncodeError::Changed { .. } => ErrorKind::Memory,
        EncodeError::PayloadBytes { .. } | EncodeError::Key { .. } | EncodeError::Codec(_) => ErrorKind::Invalid,
    };
    Error::new(kind, "a stripe could not be encoded").with_source(error)
}
