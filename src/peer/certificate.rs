//! Certificates: a node's key, vouched for by an authority whose key follows from the group's seed.
//!
//! They say nothing but that: no names, no times. While a group changes its seed, a node shows a second certificate, in
//! which the authority of the other seed vouches for the first: whoever accepts either seed accepts the node.

use super::identity::{NodeIdentity, key_in_spki};
use super::seed::{GroupSeed, SeedRing};
use crate::crypto::PublicKey;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

/// The one name that every node's certificate has; it is not sent in the clear.
pub(super) const PEER_NAME: &str = "peer.shard.invalid";

/// Certificates are compared with one fixed moment between these years, never with a clock: a node with a wrong one is
/// admitted all the same, and what ends a membership is a change of seed.
const FIRST_YEAR: i32 = 2000;
const LAST_YEAR: i32 = 4000;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("making a node's certificate")]
pub struct CertificateError(#[from] rcgen::Error);

/// What a node shows, and what it trusts.
pub(super) struct Credentials {
    /// The node's certificate first, then one for each further seed.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The authorities of all seeds.
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

/// The authority that a seed gives, always the same.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn of(seed: &GroupSeed) -> Result<Self, CertificateError> {
        let identity = NodeIdentity::of_key(*seed.authority_seed());
        let mut params = empty_params(&format!("shard group {}", hex::encode(&identity.id().0[..8])), vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self { params, key: key_pair(&identity)? })
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    fn own_certificate(&self) -> Result<CertificateDer<'static>, CertificateError> {
        Ok(self.params.self_signed(&self.key)?.into())
    }

    fn vouched_for_by(&self, other: &Self) -> Result<CertificateDer<'static>, CertificateError> {
        Ok(self.params.signed_by(&self.key, &other.issuer())?.into())
    }
}

impl Credentials {
    /// For a node with these seeds.
    pub(super) fn new(identity: &NodeIdentity, seeds: &SeedRing) -> Result<Self, CertificateError> {
        let authorities = seeds.seeds().iter().map(Authority::of).collect::<Result<Vec<_>, _>>()?;
        let (first, others) = authorities.split_first().expect("a ring has a seed");
        let mut params = empty_params("shard node", vec![PEER_NAME.to_owned()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let mut chain = vec![params.signed_by(&key_pair(identity)?, &first.issuer())?.into()];
        for other in others {
            chain.push(first.vouched_for_by(other)?);
        }
        let authorities = authorities.iter().map(Authority::own_certificate).collect::<Result<_, _>>()?;
        Ok(Self { chain, authorities })
    }
}

/// The key in the certificate that a peer showed; `None` where it is not an Ed25519 key.
pub(super) fn shown_key(chain: &[CertificateDer<'_>]) -> Option<PublicKey> {
    let certificate = ParsedCertificate::try_from(chain.first()?).ok()?;
    key_in_spki(&certificate.subject_public_key_info())
}

fn empty_params(name: &str, names: Vec<String>) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = date_time_ymd(LAST_YEAR, 1, 1);
    Ok(params)
}

fn key_pair(identity: &NodeIdentity) -> Result<KeyPair, CertificateError> {
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&identity.pkcs8(), &PKCS_ED25519)?)
}
