//! Keys and payload that change in memory while an object is written: it is refused, and nothing of it stays.

use super::*;
use crate::backend::ListPage;
use crate::store::{InitOptions, OpenOptions};
use crate::stripe::Buffer;
use tempfile::TempDir;

async fn a_store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    Store::init(folder.path(), InitOptions::default()).await.expect("a store");
    let store = Store::open(folder.path(), OpenOptions::default()).await.expect("it opens");
    (folder, store)
}

fn options(seal: Seal, check: Check) -> ObjectOptions {
    let geometry = Geometry::new(3, 5).expect("a geometry");
    let readable_zone = ReadableZone::Allow;
    ObjectOptions { check, readable_zone, ..ObjectOptions::new(ObjectKind::Data, geometry, seal) }
}

async fn nothing_stays(store: &Store) {
    for backend in store.registry().iter() {
        let page = backend.backend.list(None).await.expect("a listing");
        assert_eq!(page, ListPage { shards: Vec::new(), next: None });
    }
    assert!(store.catalog(|catalog| catalog.journals()).await.expect("journals").is_empty());
}

#[tokio::test]
async fn a_bit_of_a_key_that_flips_while_an_object_is_written_is_noticed() {
    let (_folder, store) = a_store().await;
    for seal in [Seal::Key, Seal::Dispersed, Seal::Recipient] {
        for bit in (0..256).step_by(15) {
            let mut writer = ObjectWriter::begin(&store, options(seal, Check::Parity)).await.expect("begins");
            writer.append(b"what only a key opens").await.expect("taken");
            writer.sealing.flip_data_key(bit);
            let refused = writer.finish(Contents::default()).await.expect_err("no key opens it");
            assert_eq!(refused.kind, ErrorKind::Memory, "{seal:?} {bit}: {refused}");
        }
    }
    nothing_stays(&store).await;
    let mut writer = ObjectWriter::begin(&store, options(Seal::Key, Check::Parity)).await.expect("begins");
    writer.append(b"what only a key opens").await.expect("taken");
    writer.finish(Contents::default()).await.expect("nothing flipped");
}

#[tokio::test]
async fn a_bit_of_a_key_share_that_flips_while_an_object_is_written_is_noticed() {
    let (_folder, store) = a_store().await;
    for index in 0..5 {
        let mut writer = ObjectWriter::begin(&store, options(Seal::Dispersed, Check::Parity)).await.expect("begins");
        writer.append(b"what any three give back").await.expect("taken");
        writer.sealing.flip_share(index, 77);
        let refused = writer.finish(Contents::default()).await.expect_err("not every three give it back");
        assert_eq!(refused.kind, ErrorKind::Memory, "{index}: {refused}");
    }
    nothing_stays(&store).await;
}

/// Gives bytes in two parts; meanwhile a bit of the first flips where it lies.
struct Flips {
    parts: Vec<&'static [u8]>,
    bit: usize,
}

#[async_trait]
impl PayloadSource for Flips {
    async fn fill(&mut self, mut buffer: Buffer, range: Range<usize>) -> Result<(Buffer, usize)> {
        let part = self.parts.remove(0);
        buffer.as_mut_slice()[range.start..range.start + part.len()].copy_from_slice(part);
        if range.start > 0 {
            buffer.as_mut_slice()[self.bit / 8] ^= 1 << (self.bit % 8);
        }
        Ok((buffer, part.len()))
    }
}

async fn put_flipped(store: &Store, check: Check, bit: usize) -> Result<StoredObject> {
    let mut writer = ObjectWriter::begin(store, options(Seal::Key, check)).await?;
    let mut source = Flips { parts: vec![b"read and hashed", b" and then the rest"], bit };
    writer.append_from(&mut source, 15).await?;
    writer.append_from(&mut source, 100).await?;
    writer.finish(Contents::default()).await
}

#[tokio::test]
async fn a_bit_of_the_payload_that_flips_after_it_was_hashed_is_found_by_a_full_check_and_by_no_other() {
    let (_folder, store) = a_store().await;
    for bit in 0..15 * 8 {
        let refused = put_flipped(&store, Check::Full, bit).await.expect_err("it is not what was read");
        assert_eq!(refused.kind, ErrorKind::Memory, "{bit}: {refused}");
    }
    nothing_stays(&store).await;
    put_flipped(&store, Check::Parity, 3).await.expect("the parity of what was never read is right");
}
