//! Pins in a file: one line for each address, `node://host:port` and the node's public key in hex.

use super::turn;
use crate::crypto::PublicKey;
use crate::peer::{PeerAddress, PinError, Pins, compare};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The file in a store's folder.
pub const PINS_NAME: &str = "pins";
/// A longer file is no list of pins.
const MAX_PINS_BYTES: u64 = 1024 * 1024;

/// Pins of one store. Several processes may use one file at the same time.
#[derive(Debug)]
pub(super) struct FilePins {
    path: PathBuf,
    /// Within this process; a lock beside the file keeps other processes out.
    turn: Mutex<()>,
}

impl FilePins {
    /// In a store's folder.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join(PINS_NAME), turn: Mutex::new(()) }
    }

    fn check_in_file(&self, address: &PeerAddress, key: &PublicKey) -> Result<Result<(), PinError>, io::Error> {
        // A pin that is there is met without a lock: others put whole files in the place of this one.
        match compare(self.read()?.get(address).copied(), address, key) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(self.beside("lock"))?;
        turn::take(&lock)?;
        let mut pins = self.read()?;
        let first = match compare(pins.get(address).copied(), address, key) {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        pins.insert(address.clone(), first);
        self.replace(&pins)?;
        Ok(Ok(()))
    }

    fn read(&self) -> io::Result<BTreeMap<PeerAddress, PublicKey>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(MAX_PINS_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_PINS_BYTES {
            return Err(self.damaged("it is too long"));
        }
        // Whoever skipped what it cannot read would take a stranger for a node that it never met.
        text.lines().map(|line| pin(line).ok_or_else(|| self.damaged("a line is no address with a key"))).collect()
    }

    /// After a crash there are the old pins or the new.
    fn replace(&self, pins: &BTreeMap<PeerAddress, PublicKey>) -> io::Result<()> {
        let temporary = self.beside("new");
        let _ = fs::remove_file(&temporary);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        for (address, key) in pins {
            writeln!(file, "{address} {}", hex::encode(key.0))?;
        }
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    fn beside(&self, what: &str) -> PathBuf {
        self.path.with_extension(what)
    }

    fn damaged(&self, why: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {why}", self.path.display()))
    }
}

fn pin(line: &str) -> Option<(PeerAddress, PublicKey)> {
    let (address, key) = line.split_once(' ')?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(key, &mut bytes).ok()?;
    Some((address.parse().ok()?, PublicKey(bytes)))
}

impl Pins for FilePins {
    fn check(&self, address: &PeerAddress, key: &PublicKey) -> Result<(), PinError> {
        let kept = self.check_in_file(address, key);
        kept.unwrap_or_else(|error| Err(PinError::Kept { address: address.clone(), source: error.into() }))
    }
}
