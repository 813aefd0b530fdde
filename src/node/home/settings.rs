//! `node.toml`: where a node listens, and how much it takes.

use super::file::{self, Readers};
use crate::error::{Error, ErrorKind, Result};
use crate::peer::DEFAULT_PORT;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// A longer file holds no settings.
const MAX_BYTES: u64 = 64 * 1024;
/// What is left free on the disk where nothing else is said: 1 GiB.
const DEFAULT_RESERVE_BYTES: u64 = 1024 * 1024 * 1024;
/// Numbers in the file are signed.
const MOST: u64 = i64::MAX as u64;

/// How a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSettings {
    /// Where it listens over UDP.
    pub listen: SocketAddr,
    /// Where it listens over WebSocket, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ws_listen: Option<SocketAddr>,
    /// How many bytes one peer may keep here; without it there is no limit but the reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// How many shards one peer may keep here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_shards: Option<u64>,
    /// How much of the disk stays free.
    pub reserve_bytes: u64,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DEFAULT_PORT),
            ws_listen: None,
            quota_bytes: None,
            quota_shards: None,
            reserve_bytes: DEFAULT_RESERVE_BYTES,
        }
    }
}

/// The settings in a file; `None` where there is none.
pub(super) fn load(path: &Path) -> Result<Option<NodeSettings>> {
    let Some(bytes) = file::read(path, MAX_BYTES, Readers::Anyone)? else { return Ok(None) };
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Invalid, format!("the settings in {} make no sense", path.display()))
            .with_source(error)
            .with_hint("correct the file, or remove it: without it there are the settings of a new node")
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| wrong(error.into()))?;
    toml_edit::de::from_str(text).map(Some).map_err(|error| wrong(in_words(text, &error).into()))
}

/// In one line, with the number of the line that it is about.
fn in_words(text: &str, error: &toml_edit::de::Error) -> String {
    let what = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ").replace(char::is_control, " ");
    let before = error.span().and_then(|span| text.as_bytes().get(..span.start));
    match before {
        Some(before) => format!("line {}: {what}", 1 + before.iter().filter(|byte| **byte == b'\n').count()),
        None => what,
    }
}

/// Keeps them.
pub(super) fn save(path: &Path, settings: &NodeSettings) -> Result<()> {
    let numbers = [settings.quota_bytes, settings.quota_shards, Some(settings.reserve_bytes)];
    if let Some(number) = numbers.into_iter().flatten().find(|number| *number > MOST) {
        return Err(Error::new(ErrorKind::Invalid, format!("{number} is more than the {MOST} that it may be")));
    }
    let text = toml_edit::ser::to_string(settings)
        .map_err(|error| Error::new(ErrorKind::Invalid, "these settings cannot be written").with_source(error))?;
    file::replace(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back_and_nonsense_is_told_with_a_hint() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("node.toml");
        assert_eq!(load(&path).expect("none"), None);
        let settings = NodeSettings {
            ws_listen: Some("[::1]:7441".parse().expect("an address")),
            quota_bytes: Some(5),
            ..NodeSettings::default()
        };
        save(&path, &settings).expect("kept");
        assert_eq!(load(&path).expect("read"), Some(settings.clone()));
        save(&path, &NodeSettings { quota_bytes: Some(u64::MAX), ..settings }).expect_err("it is too large");
        for wrong in ["listen = 5", "lisen = \"127.0.0.1:1\"", "reserve_bytes = -1", "=", "\u{0}"] {
            std::fs::write(&path, wrong).expect("written");
            let error = load(&path).expect_err(wrong);
            assert!(error.kind == ErrorKind::Invalid && error.hint.is_some(), "{wrong}");
            let why = error.source.expect("a reason").to_string();
            assert!(!why.chars().any(char::is_control), "{why:?}");
        }
        std::fs::write(&path, "# mine\nreserve_bytes = 1\nlisen = \"x\"\n").expect("written");
        let why = load(&path).expect_err("a word too many").source.expect("a reason").to_string();
        assert!(why.starts_with("line 3: ") && why.contains("lisen"), "{why}");
        std::fs::write(&path, "# nothing but a word\n").expect("written");
        assert_eq!(load(&path).expect("read"), Some(NodeSettings::default()));
    }
}
