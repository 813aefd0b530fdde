//! Reading the file of a public key that objects are sealed to.

use crate::crypto::{MAX_RECIPIENT_FILE_BYTES, RecipientKey};
use crate::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The public key in a file; [`ErrorKind::Invalid`] when it is none.
pub fn load_recipient(path: &Path) -> Result<RecipientKey> {
    let reading = |error| Error::local(format!("cannot read the recipient in {}", path.display()), error);
    let mut text = Vec::new();
    File::open(path).map_err(reading)?.take(MAX_RECIPIENT_FILE_BYTES).read_to_end(&mut text).map_err(reading)?;
    RecipientKey::from_file(&text).map_err(|error| {
        let doing = format!("{} cannot be sealed to", path.display());
        Error::new(ErrorKind::Invalid, doing)
            .with_source(error)
            .with_hint("`shard key recipient new` on the owner's machine makes such a file")
    })
}
