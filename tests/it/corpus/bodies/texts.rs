//! Parsers of what people write: settings, names and addresses.

use super::format::stays_below;
use shard::backend::{BackendUrl, Zone, parse_shard_name, shard_name};
use shard::format::{FileName, MAX_NAME_BYTES};
use shard::id::{BackendId, Digest, NodeId, ObjectId, RedundancyLevel, ShardId, StoreId, VersionId};
use shard::store::config::{Config, Error, edit};
use shard::vault::VaultName;
use std::fmt::{Debug, Display};
use std::path::Path;
use std::str::FromStr;

pub(crate) fn config(bytes: &[u8]) -> bool {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder");
    }
    FOLDER.with(|folder| settings_in(&folder.path().join("config.toml"), bytes))
}

/// What is read can be changed, and what it says besides stays.
fn settings_in(path: &Path, bytes: &[u8]) -> bool {
    std::fs::write(path, bytes).expect("written");
    let Ok(read) = Config::load(path) else { return false };
    let level = if read.default_level == RedundancyLevel::Minimal {
        RedundancyLevel::Paranoid
    } else {
        RedundancyLevel::Minimal
    };
    let changed = edit(path, |config: &mut Config| {
        config.default_level = level;
        Ok::<_, Error>(())
    });
    match changed {
        Ok(()) => {
            let again = Config::load(path).expect("what is written is read");
            assert_eq!(again, Config { default_level: level, ..read });
        }
        Err(error) => assert!(matches!(error, Error::Content { .. }), "{error}"),
    }
    true
}

pub(crate) fn words(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let name = FileName::new(text);
    if let Ok(name) = &name {
        assert!(name.as_str() == text && text.len() <= MAX_NAME_BYTES && stays_below(&name.to_path()));
        assert!(text.ends_with(name.last_part()) && !name.last_part().contains('/'));
    }
    if let Some(shard) = parse_shard_name(text) {
        assert_eq!(shard_name(shard), text, "a shard has one name");
    }
    if let Ok(name) = VaultName::new(text) {
        assert!(stays_below(Path::new(&name.file_name())) && !text.contains('/'));
        assert_eq!(VaultName::of_file(&name.file_name()), Some(name));
    }
    if let Ok(BackendUrl::Cloud(url)) = BackendUrl::parse(text, Path::new("/base")) {
        assert!(url.username().is_empty() && url.password().is_none(), "no secret comes in an address");
        let _zone_or_why_not = Zone::of_url(&url);
    }
    reads_back::<ShardId>(text);
    reads_back::<ObjectId>(text);
    reads_back::<VersionId>(text);
    reads_back::<BackendId>(text);
    reads_back::<StoreId>(text);
    reads_back::<NodeId>(text);
    reads_back::<Digest>(text);
    reads_back::<RedundancyLevel>(text);
    reads_back::<Zone>(text);
    name.is_ok()
}

fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string().parse::<T>().ok(), Some(read), "what is shown is read");
    }
}
