//! Where a node listens: `node://host:port`, or `node+ws://host:port` through what lets no UDP pass.

use super::tls::TransportKind;
use std::fmt;
use std::str::FromStr;
use url::Url;

/// The port of a node when none is named.
pub const DEFAULT_PORT: u16 = 7440;

const QUIC_SCHEME: &str = "node";
const WEBSOCKET_SCHEME: &str = "node+ws";
/// A longer text is no address.
const MAX_ADDRESS_BYTES: usize = 512;

/// Why a text is no address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no address of a node: {why}; write node://HOST:PORT or node+ws://HOST:PORT")]
pub struct AddressError {
    why: &'static str,
}

/// The address of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddress {
    is_websocket: bool,
    host: String,
    port: u16,
}

impl PeerAddress {
    /// How it is reached.
    pub fn transport(&self) -> TransportKind {
        if self.is_websocket { TransportKind::WebSocket } else { TransportKind::Quic }
    }

    /// The name or the number of the host, without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    /// What is not understood is refused, and not repeated: it may hold a password.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |why| AddressError { why };
        if text.len() > MAX_ADDRESS_BYTES {
            return Err(wrong("it is too long"));
        }
        let url = Url::parse(text).map_err(|_| wrong("it is no URL"))?;
        let is_websocket = match url.scheme() {
            QUIC_SCHEME => false,
            WEBSOCKET_SCHEME => true,
            _ => return Err(wrong("it has another scheme")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it has a name or a password in it"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("something follows the port"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(wrong("it names no host"))?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if !host.chars().all(is_plain) {
            return Err(wrong("its host has characters that no host has"));
        }
        let port = url.port().unwrap_or(DEFAULT_PORT);
        if port == 0 {
            return Err(wrong("its port is 0"));
        }
        Ok(Self { is_websocket, host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_websocket { WEBSOCKET_SCHEME } else { QUIC_SCHEME };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_names_transport_host_and_port() {
        let read = |text: &str| text.parse::<PeerAddress>();
        let address = read("node+ws://[::1]:99").expect("an address");
        assert_eq!((address.transport(), address.host(), address.port()), (TransportKind::WebSocket, "::1", 99));
        let address = read("node://Friend.local").expect("an address");
        assert_eq!((address.transport(), address.host(), address.port()), (TransportKind::Quic, "friend.local", 7440));
        assert_eq!(address.to_string(), "node://friend.local:7440");
        for wrong in [
            "",
            "friend:7440",
            "http://friend",
            "node:friend",
            "node://",
            "node://me@friend",
            "node://me:hunter2@friend",
            "node://friend/x",
            "node://friend?x",
            "node://friend#x",
            "node://friend:0",
            "node://friend:70000",
            "node://fr%20iend",
            "node://:7440",
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_that_reads_back_or_an_error(text in "(node|node\\+ws|x)?(://)?[ -~]{0,40}") {
            if let Ok(address) = text.parse::<PeerAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
