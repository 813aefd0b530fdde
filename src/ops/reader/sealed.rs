//! What opens an object: its sealed part, and the key of its stripes in it; found once, when it is first needed.

use super::{ObjectReader, ReadError, Shared};
use crate::crypto::StripeCipher;
use crate::format::{PartOpener, SealedPart};

/// What opens an object.
#[derive(Debug)]
pub(super) struct Opened {
    part: SealedPart,
    cipher: Option<StripeCipher>,
}

impl Opened {
    /// What opens its stripes; `None` where they are not sealed.
    pub(super) fn cipher(&self) -> Option<&StripeCipher> {
        self.cipher.as_ref()
    }
}

impl ObjectReader {
    /// Where the index is and when the object was made. [`ReadError::Manifest`] where what would open it is not here.
    pub async fn sealed_part(&self) -> Result<&SealedPart, ReadError> {
        Ok(&self.shared.opened().await?.part)
    }
}

impl Shared {
    pub(super) async fn opened(&self) -> Result<&Opened, ReadError> {
        self.opened.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<Opened, ReadError> {
        let object = self.manifest.object();
        let opener = self.keys.as_deref().map_or(PartOpener::Nobody, PartOpener::Keys);
        let part = self.manifest.sealed_part(opener).map_err(|source| ReadError::Manifest { object, source })?;
        Ok(Opened { cipher: self.manifest.stripe_cipher(&part), part })
    }
}
