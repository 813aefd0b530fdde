//! What a machine needs that adds files and cannot read: a public key to seal to, and a signer that may do nothing else.

use super::{CatalogKey, Certificate, Keyring, LimitedKeyError, PublicKey, RecipientKey, Role, Signer, context};
use crate::id::{Digest, StoreId, WriterId, read_hex};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Says what the file is.
pub const WRITE_KEY_SCHEMA: &str = "shard.write-key/1";
/// How many random bytes a writer's signer comes from, and how many its catalog key does.
pub const WRITER_SECRET_BYTES: usize = 32;

/// A key that opens nothing of the store: it seals to the store's public key, signs what it adds as a writer, and seals
/// this machine's own catalog.
#[derive(ZeroizeOnDrop)]
pub struct WriteKey {
    #[zeroize(skip)]
    recipient: RecipientKey,
    #[zeroize(skip)]
    certificate: Certificate,
    #[zeroize(skip)]
    settings: Option<String>,
    signer: [u8; WRITER_SECRET_BYTES],
    catalog: [u8; WRITER_SECRET_BYTES],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteKeyFile {
    schema: String,
    store: StoreId,
    key_id: Digest,
    key: String,
    signer: Zeroizing<String>,
    certificate: Certificate,
    catalog: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<String>,
    check: Digest,
}

impl WriteKey {
    /// For a machine that is to add files to the store of these keys, from random bytes for its signer and for its
    /// catalog; `settings` are the store's settings, for a start.
    pub fn of(
        keyring: &Keyring,
        (signer, catalog): ([u8; WRITER_SECRET_BYTES], [u8; WRITER_SECRET_BYTES]),
        settings: Option<String>,
    ) -> Self {
        let certified = signer_of(&signer).public_key();
        let certificate = Certificate::issue(&keyring.first().signer(), certified, Role::Writer);
        let recipient = keyring.current().recipient(keyring.store_id());
        Self { recipient, certificate, settings, signer, catalog }
    }

    /// The store that it adds to.
    pub fn store_id(&self) -> StoreId {
        self.recipient.store()
    }

    /// What this machine seals to.
    pub fn recipient(&self) -> &RecipientKey {
        &self.recipient
    }

    /// What signs what this machine adds, with the certificate that says that it may.
    pub fn signer(&self) -> Signer {
        signer_of(&self.signer).with_certificate(self.certificate)
    }

    /// What this machine is called in the ids that it gives.
    pub fn writer_id(&self) -> WriterId {
        signer_of(&self.signer).public_key().writer_id()
    }

    /// The store's settings as they were when the key was made.
    pub fn settings(&self) -> Option<&str> {
        self.settings.as_deref()
    }

    /// What seals this machine's catalog.
    pub fn catalog_key(&self) -> CatalogKey {
        CatalogKey::from_secret(self.store_id(), &self.catalog)
    }

    /// The text of its file.
    pub fn to_file(&self) -> Zeroizing<String> {
        let file = WriteKeyFile {
            schema: WRITE_KEY_SCHEMA.to_owned(),
            store: self.store_id(),
            key_id: self.recipient.key_id(),
            key: hex::encode(self.recipient.key_bytes()),
            signer: Zeroizing::new(hex::encode(self.signer)),
            certificate: self.certificate,
            catalog: Zeroizing::new(hex::encode(self.catalog)),
            settings: self.settings.clone(),
            check: self.check_value(),
        };
        Zeroizing::new(serde_json::to_string_pretty(&file).expect("strings always serialize") + "\n")
    }

    /// The key in the text of a file.
    pub(super) fn from_file(text: &[u8]) -> Result<Self, LimitedKeyError> {
        let malformed = LimitedKeyError::Malformed { schema: WRITE_KEY_SCHEMA };
        let file: WriteKeyFile = serde_json::from_slice(text).map_err(|_| malformed)?;
        if file.schema != WRITE_KEY_SCHEMA {
            return Err(malformed);
        }
        let public = hex::decode(&file.key).ok().filter(|bytes| hex::encode(bytes) == file.key).ok_or(malformed)?;
        let (mut signer, mut catalog) =
            (Zeroizing::new([0; WRITER_SECRET_BYTES]), Zeroizing::new([0; WRITER_SECRET_BYTES]));
        read_hex(&file.signer, signer.as_mut_slice()).map_err(|_| malformed)?;
        read_hex(&file.catalog, catalog.as_mut_slice()).map_err(|_| malformed)?;
        let key = Self {
            recipient: RecipientKey::from_parts(file.store, file.key_id, &public).ok_or(LimitedKeyError::Check)?,
            certificate: file.certificate,
            settings: file.settings,
            signer: *signer,
            catalog: *catalog,
        };
        verify_slices_are_equal(&key.check_value().0, &file.check.0).map_err(|_| LimitedKeyError::Check)?;
        match key.certificate.role_of(&key.public_key(), &key.store_id()) {
            Some(Role::Writer) => Ok(key),
            _ => Err(LimitedKeyError::Certificate),
        }
    }

    fn public_key(&self) -> PublicKey {
        signer_of(&self.signer).public_key()
    }

    fn check_value(&self) -> Digest {
        let Certificate { issuer, role, signature } = &self.certificate;
        let mut material = Zeroizing::new(Vec::new());
        for part in [
            self.store_id().as_bytes().as_slice(),
            self.recipient.key_id().as_bytes(),
            &self.recipient.key_bytes(),
            &self.signer,
            &issuer.0,
            &[role.code()],
            &signature.0,
            &self.catalog,
            self.settings.as_deref().unwrap_or_default().as_bytes(),
        ] {
            material.extend_from_slice(part);
        }
        Digest(blake3::derive_key(context::WRITE_CHECK, &material))
    }
}

fn signer_of(secret: &[u8; WRITER_SECRET_BYTES]) -> Signer {
    let mut seed = blake3::derive_key(context::WRITER_SIGNER, secret);
    let signer = Signer::from_seed(&seed);
    seed.zeroize();
    signer
}

impl fmt::Debug for WriteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteKey")
            .field("store", &self.store_id())
            .field("writer", &self.writer_id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LimitedKey, MasterKey};
    use super::*;

    fn keyring() -> Keyring {
        let keys = vec![MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32])];
        Keyring::from_keys(keys).expect("two keys")
    }

    fn key() -> WriteKey {
        WriteKey::of(&keyring(), ([7; 32], [8; 32]), Some("seal = \"recipient\"\n".to_owned()))
    }

    /// Everything that a key is.
    fn all_of(key: &WriteKey) -> (Digest, RecipientKey, PublicKey, Option<String>, Digest) {
        let catalog = key.catalog_key().check_value();
        (key.check_value(), key.recipient.clone(), key.public_key(), key.settings.clone(), catalog)
    }

    #[test]
    fn a_write_only_key_comes_back_from_its_file_and_no_flipped_bit_goes_unseen() {
        let text = key().to_file();
        assert!(matches!(LimitedKey::from_file(text.as_bytes()), Some(Ok(LimitedKey::Write(_)))));
        assert!(WriteKey::from_file(text.as_bytes()).is_ok_and(|read| all_of(&read) == all_of(&key())));
        for at in 0..text.len() * 8 {
            let mut flipped = text.as_bytes().to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            // White space carries nothing: the same key may come back, never another.
            if let Ok(other) = WriteKey::from_file(&flipped) {
                assert!(all_of(&other) == all_of(&key()), "bit {at}");
                assert!(text.as_bytes()[at / 8].is_ascii_whitespace(), "bit {at}");
            }
        }
    }

    #[test]
    fn a_write_only_key_is_certified_by_the_first_key_and_seals_to_the_one_in_use() {
        let (key, keyring) = (key(), keyring());
        let certificate = key.signer().certificate().expect("it has one");
        assert_eq!(certificate.issuer, keyring.first().signer().public_key());
        assert_eq!(certificate.role_of(&key.public_key(), &keyring.store_id()), Some(Role::Writer));
        assert_eq!(key.recipient().key_id(), keyring.current().key_id());
        let text = key.to_file();
        assert!(keyring.keys().iter().all(|master| !text.contains(&hex::encode(master.bytes))));
        assert!(!format!("{key:?}").contains(&hex::encode([7; 32])));
    }

    #[test]
    fn a_certificate_of_another_role_or_store_is_no_writers() {
        let refused = |certificate| {
            let mut forged = WriteKey::of(&keyring(), ([7; 32], [8; 32]), None);
            forged.certificate = certificate;
            WriteKey::from_file(forged.to_file().as_bytes()).err()
        };
        let certified = key().public_key();
        let stranger = MasterKey::from_bytes([3; 32]).signer();
        for certificate in [
            Certificate::issue(&keyring().first().signer(), certified, Role::Owner),
            Certificate::issue(&stranger, certified, Role::Writer),
            Certificate::issue(&keyring().first().signer(), stranger.public_key(), Role::Writer),
        ] {
            assert_eq!(refused(certificate), Some(LimitedKeyError::Certificate));
        }
        assert_eq!(refused(key().certificate), None);
    }
}
