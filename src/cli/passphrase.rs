//! Where a passphrase comes from: a file, a variable, or a person at the terminal; never the command line.

use shard::crypto::Passphrase;
use shard::store::{PASSPHRASE_HINT, PassphraseSource};
use shard::{Error, ErrorKind};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Far more than a passphrase may have, so that one that is too long is told so.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What to do where a passphrase is to be changed and nobody is there to type the new one.
pub(crate) const NEW_PASSPHRASE_HINT: &str =
    "run it in a terminal, or set SHARD_NEW_PASSPHRASE_FILE to a file with the new passphrase";

/// The variables that give a passphrase; the file comes before the text.
#[derive(Clone, Default)]
pub(crate) struct PassphraseVariables {
    file: Option<PathBuf>,
    text: Option<Zeroizing<Vec<u8>>>,
}

impl PassphraseVariables {
    /// From the values of the two variables; empty ones count as absent.
    pub(crate) fn new(file: Option<OsString>, text: Option<OsString>) -> Self {
        let given = |value: &OsString| !value.is_empty();
        Self {
            file: file.filter(given).map(PathBuf::from),
            text: text.filter(given).map(|text| Zeroizing::new(text.into_vec())),
        }
    }

    /// Whether they give nothing.
    pub(crate) fn are_unset(&self) -> bool {
        self.file.is_none() && self.text.is_none()
    }

    /// What they give, where they give something.
    fn passphrase(&self) -> Option<shard::Result<Passphrase>> {
        match (&self.file, &self.text) {
            (Some(file), _) => Some(from_file(file)),
            (None, Some(text)) => Some(checked(text.clone())),
            (None, None) => None,
        }
    }
}

/// Gives the passphrase of a store, from its variables or from the person at the terminal.
pub(crate) fn source(variables: PassphraseVariables) -> PassphraseSource {
    Arc::new(move || variables.passphrase().unwrap_or_else(|| ask("passphrase of the key: ", PASSPHRASE_HINT)))
}

/// A new passphrase, from variables or typed twice; the hint says how it is given where there is nobody to type.
pub(crate) fn new_passphrase(variables: &PassphraseVariables, hint: &str) -> shard::Result<Passphrase> {
    if let Some(given) = variables.passphrase() {
        return given;
    }
    let first = ask("new passphrase: ", hint)?;
    if first != ask("once more: ", hint)? {
        return Err(Error::new(ErrorKind::Invalid, "the two are not the same; nothing was changed"));
    }
    Ok(first)
}

fn checked(bytes: Zeroizing<Vec<u8>>) -> shard::Result<Passphrase> {
    let refused = |error| Error::new(ErrorKind::WrongKey, "the passphrase cannot be used").with_source(error);
    Passphrase::new(bytes).map_err(refused)
}

/// The first line of a file that its owner alone can read.
fn from_file(path: &Path) -> shard::Result<Passphrase> {
    let doing = || format!("cannot read the passphrase in {}", path.display());
    let reading = |error| Error::new(ErrorKind::WrongKey, doing()).with_source(error);
    let file = File::open(path).map_err(reading)?;
    let mode = file.metadata().map_err(reading)?.permissions().mode();
    if mode & 0o077 != 0 {
        let doing = format!("the passphrase in {} can be read by others (mode {:03o})", path.display(), mode & 0o777);
        return Err(Error::new(ErrorKind::Refused, doing).with_hint(format!("chmod 600 {}", path.display())));
    }
    // Room at once for all of it, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(reading)?;
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let end = if end > 0 && text[end - 1] == b'\r' { end - 1 } else { end };
    text.truncate(end);
    checked(text)
}

fn ask(prompt: &str, hint: &str) -> shard::Result<Passphrase> {
    checked(ask_text(prompt, hint)?)
}

fn ask_text(prompt: &str, hint: &str) -> shard::Result<Zeroizing<Vec<u8>>> {
    // A person who sees what is asked: cron and pipes have nobody there, whatever terminal the session once had.
    if !io::stderr().is_terminal() {
        let doing = "a passphrase is needed, and there is nobody to ask";
        return Err(Error::new(ErrorKind::WrongKey, doing).with_hint(hint));
    }
    match rpassword::prompt_password(prompt) {
        Ok(text) => Ok(Zeroizing::new(text.into_bytes())),
        Err(error) => {
            let doing = "cannot ask for the passphrase at the terminal";
            Err(Error::new(ErrorKind::WrongKey, doing).with_source(error).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn variables(file: Option<&Path>, text: &str) -> PassphraseVariables {
        PassphraseVariables::new(file.map(|path| path.as_os_str().to_owned()), Some(text.into()))
    }

    #[test]
    fn the_first_line_of_a_file_comes_before_the_variable() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("passphrase");
        fs::write(&path, "horse\r\nsecond line\n").expect("written");
        let refused = variables(Some(&path), "other").passphrase().expect("given").expect_err("readable by others");
        assert_eq!(refused.kind, ErrorKind::Refused);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        assert!(variables(Some(&path), "other").passphrase().expect("given").is_ok());
        fs::write(&path, "\n").expect("written");
        let empty = variables(Some(&path), "other").passphrase().expect("given").expect_err("empty");
        assert_eq!(empty.kind, ErrorKind::WrongKey);
        assert!(variables(None, "other").passphrase().expect("given").is_ok());
        assert!(variables(None, "").passphrase().is_none());
    }
}
