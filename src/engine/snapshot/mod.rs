//! All records of a node at one moment as a stream of bytes, sealed: what a backup is.
//!
//! *What it is.* [`write`](write()) makes one of a state of the chamber; [`read`](read()) gives its records back, and fails
//! unless all of it is what was written, in its order, to the end.
//!
//! *What it knows.* The bytes.
//!
//! *What it does not know.* Where they are kept, what the records stand for.
//!
//! *Invariants.* A part opens under the node's key, at its number, in its snapshot alone; the last one says that it is the
//! last, so that a snapshot that was cut short is none. Lengths are checked before anything is made of them.
//!
//! ```text
//! header  116 B  magic 89 'S' 'H' 'S' 'N' 'P' 0D 0A · version 2 · zero 2 · part bytes 4 · node 32 · random 16 ·
//!                taken at 8 (ms since 1970) · records 8 · key check 32 · CRC-32C of what stands before 4
//! parts          length 4, of what is sealed, with bit 31 in the last · AES-256-GCM of part bytes of records, fewer in the
//!                last; key from node key and header, nonce from number and last
//! digest  32 B   BLAKE3 of all that stands before: tells without the key whether the bytes are those that were written
//!
//! record         purpose 1 · expires 1 · at 8 · key length 4 · value length 4 · key · value
//! ```
//!
//! All integers are little-endian.

mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;

use super::error::{Error, Result};
use crate::crypto::ChamberKey;
use crate::id::NodeId;
use crc_fast::{CrcAlgorithm, Digest as Crc};

const MAGIC: [u8; 8] = *b"\x89SHSNP\r\n";
/// The format that is written, and the newest that is read.
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 116;
/// How many bytes of records one part has: enough that tags and lengths weigh nothing.
const PART_BYTES: usize = 64 * 1024;
/// In a part's length, that it is the last.
const LAST: u32 = 1 << 31;
const DIGEST_BYTES: usize = 32;
/// What stands before a record's key and value.
const RECORD_HEAD_BYTES: usize = 18;

/// What a snapshot says of itself before any of it is opened; true only once a part was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) node: NodeId,
    pub(super) random: [u8; 16],
    pub(super) taken_ms: i64,
    pub(super) records: u64,
    pub(super) check: [u8; 32],
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&(PART_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(self.node.as_bytes());
        bytes.extend_from_slice(&self.random);
        bytes.extend_from_slice(&self.taken_ms.to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&self.check);
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        bytes.try_into().expect("the parts add up")
    }

    fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let mut fields = Fields(bytes);
        if fields.array() != MAGIC {
            return Err(Error::damaged("it does not begin as a snapshot does"));
        }
        let version = u16::from_le_bytes(fields.array());
        let (body, sum) = bytes.split_at(HEADER_BYTES - 4);
        if checksum(body).to_le_bytes() != sum {
            return Err(Error::damaged("its header is not what was written"));
        }
        if version != VERSION {
            return Err(Error::NewerSnapshot { found: version, known: VERSION });
        }
        let (zero, part_bytes) = (fields.array(), u32::from_le_bytes(fields.array()));
        if zero != [0; 2] || part_bytes as usize != PART_BYTES {
            return Err(Error::damaged("its header has what this format has not"));
        }
        Ok(Self {
            node: NodeId(fields.array()),
            random: fields.array(),
            taken_ms: i64::from_le_bytes(fields.array()),
            records: u64::from_le_bytes(fields.array()),
            check: fields.array(),
        })
    }

    /// Fails unless it is of this node and key.
    fn expect(&self, key: &ChamberKey) -> Result<()> {
        if self.node != key.node() {
            return Err(Error::OtherNode { found: self.node, own: key.node() });
        }
        if self.check != key.snapshot_check_value() { Err(Error::OtherKey) } else { Ok(()) }
    }
}

/// Fields one after another; there are as many as are asked for.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().expect("the lengths of the fields are constants");
        self.0 = rest;
        *field
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new(CrcAlgorithm::Crc32Iscsi);
    crc.update(bytes);
    crc.finalize() as u32
}
