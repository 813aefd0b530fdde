//! Ed25519 (RFC 8032): what signs manifests and what checks them.

use super::Certificate;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Stands before the signed bytes, so that a signature over a manifest is a signature over nothing else.
const MANIFEST_PREFIX: &[u8] = b"shard manifest v1\n";

/// An Ed25519 public key; lower-case hex as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// Signs manifests, with the certificate that it needs where it is not a store's first.
pub struct Signer {
    key_pair: Ed25519KeyPair,
    public_key: PublicKey,
    certificate: Option<Certificate>,
}

impl Signer {
    /// The signer that this seed gives, always the same.
    pub(super) fn from_seed(seed: &[u8; 32]) -> Self {
        let key_pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are an Ed25519 seed");
        let public_key = key_pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        Self { key_pair, public_key: PublicKey(public_key), certificate: None }
    }

    /// The same signer, vouched for by the store's first.
    pub(super) fn with_certificate(self, certificate: Certificate) -> Self {
        Self { certificate: Some(certificate), ..self }
    }

    /// What vouches for it; `None` where the store id pins it.
    pub fn certificate(&self) -> Option<Certificate> {
        self.certificate
    }

    /// What checks its signatures.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Signs the exact bytes of a manifest's public part.
    pub fn sign_manifest(&self, public_part: &[u8]) -> Signature {
        self.sign(MANIFEST_PREFIX, public_part)
    }

    /// Signs a message; the prefix says what it is, so that a signature is good for one purpose alone.
    pub(super) fn sign(&self, prefix: &[u8], message: &[u8]) -> Signature {
        let signature = self.key_pair.sign(&[prefix, message].concat());
        Signature(signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes"))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Whether the signature is this key's over these exact bytes of a public part.
    pub fn verifies_manifest(&self, public_part: &[u8], signature: &Signature) -> bool {
        self.verifies(MANIFEST_PREFIX, public_part, signature)
    }

    /// Whether the signature is this key's over a message of the purpose that the prefix says.
    pub(crate) fn verifies(&self, prefix: &[u8], message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&[prefix, message].concat(), &signature.0).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::id::Digest::deserialize(deserializer).map(|digest| Self(digest.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        crate::id::read_hex(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_every_bit_and_only_its_own_key() {
        let signer = Signer::from_seed(&[1; 32]);
        let signature = signer.sign_manifest(b"public part");
        assert!(signer.public_key().verifies_manifest(b"public part", &signature));
        assert!(!Signer::from_seed(&[2; 32]).public_key().verifies_manifest(b"public part", &signature));
        assert!(!signer.public_key().verifies_manifest(b"public parT", &signature));
        for bit in 0..512 {
            let mut flipped = signature;
            flipped.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!signer.public_key().verifies_manifest(b"public part", &flipped), "bit {bit}");
        }
    }

    /// RFC 8032 §7.1, tests 1 and 2: the public key that the secret seed gives, and its signature.
    #[test]
    fn ed25519_gives_the_vectors_of_rfc_8032() {
        let cases = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                &b""[..],
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f059\
                 5bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4\
                 302aeeb00d291612bb0c00",
            ),
        ];
        for (seed, public_key, message, signature) in cases {
            let seed = hex::decode(seed).expect("hex");
            let signer = Signer::from_seed(seed.as_slice().try_into().expect("32 bytes"));
            assert_eq!(hex::encode(signer.public_key().0), public_key);
            assert_eq!(hex::encode(signer.sign(b"", message).0), signature);
        }
    }
}
