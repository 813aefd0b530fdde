//! A request, and by which right it is made.

use super::super::grant::{GRANT_BYTES, NodeGrant};
use super::super::wire::{Fields, WireError};
use super::{STORAGE_VERSION, StorageRequest};

/// Stands where the kind of a request does, when a grant comes before it.
const GRANTED: u8 = 0xff;

/// The first frame of a stream of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageCall {
    /// By which the request is about another's shards; without one it is about those of whoever asks.
    pub grant: Option<NodeGrant>,
    /// What is asked.
    pub request: StorageRequest,
}

impl StorageCall {
    /// The bytes of the call: a request without a grant is the request alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.grant {
            None => self.request.to_bytes(),
            Some(grant) => {
                [&[STORAGE_VERSION, GRANTED], grant.to_bytes().as_slice(), &self.request.to_bytes()].concat()
            }
        }
    }

    /// Reads them again. Whether the grant holds is another question.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let Some(rest) = bytes.strip_prefix(&[STORAGE_VERSION, GRANTED]) else {
            return Ok(Self { grant: None, request: StorageRequest::parse(bytes)? });
        };
        let grant = NodeGrant::parse(&Fields::new(rest).array::<GRANT_BYTES>()?)?;
        Ok(Self { grant: Some(grant), request: StorageRequest::parse(&rest[GRANT_BYTES..])? })
    }
}
