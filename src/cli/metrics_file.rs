//! The file that metrics are written to: whoever collects them sees the old one or the new one, whole.

use super::failure::{Failure, FailureKind};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// So many links are followed from one to the next, as the kernel does.
const MAX_LINKS: usize = 40;

/// A place where a file of metrics may be put.
#[derive(Debug)]
pub(crate) struct MetricsFile(PathBuf);

impl MetricsFile {
    /// Where a path leads: a link is followed, so that what it points to is replaced. Only a file, or nothing, is: a
    /// rename over a device or a pipe would take it away from everyone.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Self::failure(path, &error);
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                let what = if metadata.is_dir() { "a folder" } else { "no regular file" };
                let message = format!("{} is {what}, and metrics replace a file", path.display());
                return Err(
                    Failure::new(FailureKind::Refused, message).hint("name a file, or one that is not there yet")
                );
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(_) | Err(_) => {}
        }
        let mut place = path.to_owned();
        for _ in 0..MAX_LINKS {
            match fs::read_link(&place) {
                Ok(to) => place = place.parent().unwrap_or(Path::new("")).join(to),
                Err(_) => return Ok(Self(place)),
            }
        }
        Err(failed(io::Error::other("one link leads to another, and so on")))
    }

    /// Puts these bytes there.
    pub(crate) fn replace(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = self.0.with_file_name(name);
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &self.0));
        written.map_err(|error| {
            // What is left has a name of its own and harms nobody.
            let _ = fs::remove_file(&temporary);
            Self::failure(&self.0, &error)
        })
    }

    fn failure(path: &Path, error: &io::Error) -> Failure {
        let message = format!("cannot write the metrics to {}", path.display());
        Failure::new(FailureKind::Output, message).because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};

    #[test]
    fn devices_folders_and_pipes_stay_what_they_are() {
        let dir = tempfile::tempdir().expect("a folder");
        let link = dir.path().join("link");
        symlink("/dev/null", &link).expect("linked");
        for wrong in [Path::new("/dev/null"), &link, dir.path()] {
            let failure = MetricsFile::at(wrong).expect_err("refused");
            assert!(failure.kind == FailureKind::Refused && failure.hint.is_some(), "{failure:?}");
        }
        assert!(fs::metadata("/dev/null").expect("it is there").file_type().is_char_device());
    }

    #[test]
    fn what_a_link_leads_to_is_replaced_whether_it_is_there_or_not() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("real")).expect("a folder");
        symlink("real/metrics", dir.path().join("second")).expect("linked");
        symlink("second", dir.path().join("first")).expect("linked");
        for text in ["one", "two"] {
            let file = MetricsFile::at(&dir.path().join("first")).expect("a place");
            file.replace(text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(dir.path().join("real/metrics")).expect("there"), text);
        }
        assert!(dir.path().join("first").is_symlink() && dir.path().join("second").is_symlink());
        assert_eq!(fs::read_dir(dir.path().join("real")).expect("a folder").count(), 1);
        symlink("round", dir.path().join("round")).expect("linked");
        assert!(MetricsFile::at(&dir.path().join("round")).is_err());
    }
}
