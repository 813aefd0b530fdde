//! The payload and the index, from decoded stripes.

use super::off_reactor::compute;
use super::sealed::Opened;
use super::stripes::{StripeBlocks, Wanted};
use super::{ObjectReader, ReadError, Shared};
use crate::format::Index;
use crate::stripe::StripePayload;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use std::ops::Range;
use std::sync::Arc;

impl ObjectReader {
    /// The payload's bytes from `range.start` to `range.end`, in order and verified; [`ReadError::Range`] when the range
    /// is not inside the payload.
    pub fn payload(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes, ReadError>> {
        let layout = self.shared.layout();
        if range.start > range.end || range.end > layout.payload_bytes() {
            let (object, payload_bytes) = (self.manifest().object(), layout.payload_bytes());
            let error = ReadError::Range { object, start: range.start, end: range.end, payload_bytes };
            return stream::once(async { Err(error) }).boxed();
        }
        let stripes = layout.stripes_of(range.clone());
        let decoded = self.ahead(stripes, self.shared.data_shards(), move |shared, chunk| shared.decode_chunk(chunk));
        let parts = decoded.map_ok(move |(stripe_index, payload)| {
            let start = layout.payload_offset(stripe_index);
            let cut = payload.cut(range.start.saturating_sub(start), range.end.saturating_sub(start));
            stream::iter(cut.parts().to_vec().into_iter().map(Ok))
        });
        parts.try_flatten().boxed()
    }

    /// The object's index.
    pub async fn index(&self) -> Result<Index, ReadError> {
        let object = self.manifest().object();
        let sealed = self.sealed_part().await?;
        let index_offset = sealed.index_offset;
        // The sealed part was checked: an index is not longer than its limit.
        let mut bytes = Vec::with_capacity(sealed.index_bytes as usize);
        let mut parts = self.payload(sealed.index_offset..sealed.index_offset + sealed.index_bytes);
        while let Some(part) = parts.try_next().await? {
            bytes.extend_from_slice(&part);
        }
        let manifest = self.manifest().clone();
        let parse = move || {
            let index = Index::from_bytes(&bytes, index_offset)?;
            manifest.writer().map_or(Ok(()), |writer| index.check_writer(writer))?;
            index.check_writer_generation(manifest.writer_generation())?;
            index.check_removal(manifest.kind(), manifest.removes())?;
            index.check_catalog(manifest.kind())?;
            Ok(index)
        };
        compute(parse).await?.map_err(|source| ReadError::Index { object, source })
    }
}

impl Shared {
    async fn decode_chunk(self: Arc<Self>, stripes: Range<u64>) -> Result<Vec<(u64, StripePayload)>, ReadError> {
        // Before anything is read: what cannot be opened need not be.
        self.opened().await?;
        let chunk = Arc::clone(&self).read_chunk(stripes, Wanted::Enough).await?;
        let object = self.manifest.object();
        let open = move |stripe: StripeBlocks| {
            let cipher = self.opened.get().and_then(Opened::cipher);
            Ok((stripe.stripe_index, self.decoder.open(stripe.stripe_index, &stripe.blocks, cipher)?))
        };
        compute(move || chunk.into_iter().map(open).collect::<Result<Vec<_>, _>>())
            .await?
            .map_err(|source| ReadError::Decode { object, source })
    }
}
