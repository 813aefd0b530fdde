//! TLS as every session has it: version 1.3 alone, X25519MLKEM768 alone, certificates on both sides, one provider that is
//! named here and nothing that is resumed.

use super::certificate::{CertificateError, Credentials, PEER_NAME, shown_key};
use super::handshake::Channel;
use super::identity::NodeIdentity;
use super::seed::SeedRing;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;
use std::time::Duration;

/// The name that a client asks for; it is the same for all and not sent.
pub(super) const PEER_SERVER_NAME: &str = PEER_NAME;
/// What the key that binds a session to its channel is derived under.
pub(super) const EXPORTER_LABEL: &[u8] = b"EXPORTER-shard-peer-session-1";

/// The moment that certificates are compared with: 2026-11-21. It is no clock's.
const COMPARED_AT: Duration = Duration::from_secs(1_795_219_200);
/// The two transports do not take each other's sessions.
const ALPN_QUIC: &[u8] = b"shard-quic/1";
const ALPN_WEBSOCKET: &[u8] = b"shard-ws/1";

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What the library refuses.
    #[error("setting TLS up")]
    Rustls(#[from] rustls::Error),
    /// What checks the peers' certificates.
    #[error("setting up the check of certificates")]
    Verifier(#[from] VerifierBuilderError),
}

/// Which transport a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// UDP.
    Quic,
    /// TCP.
    WebSocket,
}

/// Both ends' configuration for one transport.
#[derive(Debug, Clone)]
pub struct Tls {
    /// For sessions that are begun here.
    pub client: Arc<ClientConfig>,
    /// For those that are taken.
    pub server: Arc<ServerConfig>,
}

impl Tls {
    /// For a node that accepts these seeds.
    pub fn new(identity: &NodeIdentity, seeds: &SeedRing, transport: TransportKind) -> Result<Self, TlsError> {
        let credentials = Credentials::new(identity, seeds)?;
        let mut roots = RootCertStore::empty();
        for authority in credentials.authorities {
            roots.add(authority)?;
        }
        let roots = Arc::new(roots);
        let alpn = match transport {
            TransportKind::Quic => ALPN_QUIC,
            TransportKind::WebSocket => ALPN_WEBSOCKET,
        };
        let key = PrivateKeyDer::from(identity.pkcs8());
        let client = client(Arc::clone(&roots), credentials.chain.clone(), key.clone_key(), alpn)?;
        let server = server(roots, credentials.chain, key, alpn)?;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// The same as TLS takes it.
pub(super) fn peer_name() -> ServerName<'static> {
    ServerName::try_from(PEER_NAME).expect("a name")
}

/// What a channel says of its other end, once TLS is through; `None` where the other end showed no Ed25519 key.
pub(super) fn channel(chain: &[CertificateDer<'_>], exporter: [u8; 32]) -> Option<Channel> {
    shown_key(chain).map(|peer_key| Channel { peer_key, exporter })
}

fn client(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<ClientConfig, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?;
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(OneMoment))
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // The name is the same for all: to send it in the clear would only tell what this is.
    config.enable_sni = false;
    Ok(config)
}

fn server(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<ServerConfig, TlsError> {
    // Without hints: the authorities' names are not told to who has not shown a certificate.
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).clear_root_hint_subjects().build()?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(OneMoment))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    // A resumed session would not show a certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

/// Certificates are valid at this moment or never, whatever the clock says.
#[derive(Debug)]
struct OneMoment;

impl TimeProvider for OneMoment {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(COMPARED_AT))
    }
}
