//! Where the seeds of a group are: in a file that a variable named, else in the store's folder.

use super::super::{Error, ErrorKind, Result};
use crate::peer::{MAX_SEED_FILE_BYTES, SeedRing};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The file in a store's folder.
pub const SEEDS_NAME: &str = "seeds";
/// The folder of a node that runs beside the store, which has the seeds of the same group.
const NODE_FOLDER: &str = "node";

/// Reads the seeds, which must be there. Blocks on the file system.
pub(super) fn read(seed_file: Option<&Path>, folder: Option<&Path>) -> Result<SeedRing> {
    find(seed_file, folder)?.ok_or_else(|| missing(path(seed_file, folder).as_deref()))
}

/// Reads the seeds; `None` where no file was named and none is in the folder. Blocks on the file system.
pub(super) fn find(seed_file: Option<&Path>, folder: Option<&Path>) -> Result<Option<SeedRing>> {
    match path(seed_file, folder) {
        Some(path) => load(&path, seed_file.is_some()),
        None => Ok(None),
    }
}

/// The file that was named, else the store's own, else that of a node that runs beside the store.
fn path(seed_file: Option<&Path>, folder: Option<&Path>) -> Option<PathBuf> {
    let in_folder = || {
        let own = folder?.join(SEEDS_NAME);
        let of_node = folder?.join(NODE_FOLDER).join(SEEDS_NAME);
        Some(if own.symlink_metadata().is_err() && of_node.symlink_metadata().is_ok() { of_node } else { own })
    };
    seed_file.map(Path::to_owned).or_else(in_folder)
}

fn load(path: &Path, must_be_there: bool) -> Result<Option<SeedRing>> {
    let doing = || format!("reading the group's seed in {}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_be_there => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(Some(path))),
        Err(error) => return Err(Error::with_source(ErrorKind::Denied, doing(), error)),
    };
    let failed = |error| Error::with_source(ErrorKind::Failed, doing(), error);
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!("it can be read by others (mode {:03o}): chmod 600 {}", mode & 0o777, path.display());
        return Err(Error::with_source(ErrorKind::Denied, doing(), why));
    }
    // Room at once for all of it, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_SEED_FILE_BYTES + 1));
    file.take(MAX_SEED_FILE_BYTES as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() > MAX_SEED_FILE_BYTES {
        let why = format!("it has more than the {MAX_SEED_FILE_BYTES} bytes that seeds have");
        return Err(Error::with_source(ErrorKind::Denied, doing(), why));
    }
    let text =
        std::str::from_utf8(&text).map_err(|_| Error::with_source(ErrorKind::Denied, doing(), "it is no text"))?;
    SeedRing::parse(text).map(Some).map_err(|error| Error::with_source(ErrorKind::Denied, doing(), error))
}

fn missing(path: Option<&Path>) -> Error {
    let why = match path {
        Some(path) => format!(
            "there is no {}: `shard node seed add FILE` takes the seed in, or name a file with it in SHARD_SEED_FILE",
            path.display()
        ),
        None => "name a file with it in SHARD_SEED_FILE".to_owned(),
    };
    Error::with_source(ErrorKind::Denied, "looking for the seed that the group of nodes shares", why)
}
