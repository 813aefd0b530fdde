//! Zones: what fails together. A disk, a host, a region, or whatever a person says.

use super::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use url::Url;

/// The longest name of a zone, in bytes.
pub const MAX_ZONE_BYTES: usize = 255;
/// Layers of mapped devices (encryption on a volume on an array) that are looked through.
const MAX_DEVICE_LAYERS: usize = 8;

/// The name of what fails together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

/// The text is empty, has control characters or is longer than [`MAX_ZONE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no zone: it takes 1 to {MAX_ZONE_BYTES} bytes without control characters")]
pub struct ZoneError {
    text: String,
}

impl Zone {
    /// From a person's word for it.
    pub fn new(text: impl Into<String>) -> Result<Self, ZoneError> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_ZONE_BYTES || text.chars().any(char::is_control) {
            return Err(ZoneError { text });
        }
        Ok(Self(text))
    }

    /// The zone of what is in memory.
    pub fn memory() -> Self {
        Self("memory".to_owned())
    }

    /// The zone of a host: `host-nas.local`.
    pub fn of_host(host: &str) -> Self {
        Self::cleaned("host", host)
    }

    /// The zone of the provider's own S3 service, which is a region: `s3-eu-central-1`; `s3-aws` when none is given.
    pub fn of_s3_region(region: Option<&str>) -> Self {
        Self::cleaned("s3", region.unwrap_or("aws"))
    }

    /// The zone of a server's URL: its host.
    pub fn of_url(url: &Url) -> Result<Self> {
        match url.host_str() {
            Some(host) => Ok(Self::of_host(host)),
            None => Err(Error::new(ErrorKind::Settings, format!("finding the host of a {}: URL", url.scheme()))),
        }
    }

    /// The zone of a path: the disk it is on, or the host whose file system is mounted there. Blocks on the file system.
    ///
    /// Of a path that is not there yet it is the zone of the nearest folder above. Partitions of one disk, encrypted or
    /// not, are one zone. Where the system does not say which disk it is, the device numbers are the name.
    pub fn of_path(path: &Path) -> Result<Self> {
        let doing = || format!("finding the disk of {}", path.display());
        let absolute = std::path::absolute(path).map_err(|source| Error::io(doing(), source))?;
        let there = absolute.ancestors().find_map(|above| above.canonicalize().ok()).unwrap_or(absolute);
        let stat = rustix::fs::stat(&there).map_err(|errno| Error::io(doing(), errno.into()))?;
        let device = stat.st_dev;
        if let Some(disk) = disk_name(device) {
            return Ok(Self::cleaned("disk", &disk));
        }
        let mounted = std::fs::read_to_string("/proc/self/mountinfo").ok();
        match mounted.and_then(|mounts| mount_source(&mounts, &there)) {
            Some(MountSource::Host(host)) => Ok(Self::of_host(&host)),
            Some(MountSource::Device(path)) => {
                let device_of_source = rustix::fs::stat(&path).map(|stat| stat.st_rdev).ok();
                let disk = device_of_source.and_then(disk_name).unwrap_or_else(|| numbers(device, "-"));
                Ok(Self::cleaned("disk", &disk))
            }
            None => Ok(Self::cleaned("disk", &numbers(device, "-"))),
        }
    }

    fn cleaned(kind: &str, name: &str) -> Self {
        let mut text = format!("{kind}-{}", name.replace(char::is_control, "_"));
        while text.len() > MAX_ZONE_BYTES {
            text.pop();
        }
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;

    fn try_from(text: String) -> Result<Self, ZoneError> {
        Self::new(text)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0
    }
}

fn numbers(device: rustix::fs::Dev, between: &str) -> String {
    format!("{}{between}{}", rustix::fs::major(device), rustix::fs::minor(device))
}

/// The disk of a block device, as Linux shows it under `/sys`; `None` where it does not.
fn disk_name(device: rustix::fs::Dev) -> Option<String> {
    let link = PathBuf::from("/sys/dev/block").join(numbers(device, ":"));
    disk_of(link.canonicalize().ok()?)
}

/// From a device's folder under `/sys` to its disk's name: up from a partition, down from a mapped device.
fn disk_of(mut folder: PathBuf) -> Option<String> {
    for _ in 0..MAX_DEVICE_LAYERS {
        if folder.join("partition").exists() {
            folder.pop();
        }
        match only_entry(&folder.join("slaves")) {
            Some(below) => folder = below.canonicalize().ok()?,
            None => break,
        }
    }
    // A mapped device over several disks keeps its own name.
    Some(folder.file_name()?.to_str()?.to_owned())
}

fn only_entry(folder: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(folder).ok()?;
    let first = entries.next()?.ok()?;
    entries.next().is_none().then(|| first.path())
}

/// What is mounted where a path is.
#[derive(Debug, PartialEq, Eq)]
enum MountSource {
    /// A file system over the network: `nas:/export`, `//nas/share`, `user@nas:/folder`.
    Host(String),
    /// A block device that the file system hides behind numbers of its own, as btrfs does.
    Device(PathBuf),
}

/// Finds the mount of a path in the text of `/proc/self/mountinfo` (see proc(5)).
fn mount_source(mounts: &str, path: &Path) -> Option<MountSource> {
    let mut found: Option<(PathBuf, &str)> = None;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(source)) = (before.split(' ').nth(4), after.split(' ').nth(1)) else { continue };
        let point = PathBuf::from(unescape(point));
        // Of mounts on one point the last is the one seen.
        let deeper = found.as_ref().is_none_or(|(best, _)| point.components().count() >= best.components().count());
        if deeper && path.starts_with(&point) {
            found = Some((point, source));
        }
    }
    let source = unescape(found?.1);
    if source.starts_with("/dev/") {
        return Some(MountSource::Device(source.into()));
    }
    let host = match source.strip_prefix("//") {
        Some(share) => share.split('/').next()?,
        None => source.split_once(":/")?.0,
    };
    let host = host.rsplit('@').next()?.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| MountSource::Host(host.to_owned()))
}

/// Space, tab, newline and backslash are octal there.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_short_printable_text() {
        for wrong in ["", "a\nb", &"x".repeat(256)] {
            assert!(Zone::new(wrong).is_err(), "{wrong:?}");
        }
        assert!(serde_json::from_str::<Zone>("\"\"").is_err());
        assert_eq!(Zone::new("cellar").expect("a zone").to_string(), "cellar");
    }

    #[test]
    fn two_folders_of_one_disk_are_one_zone_whether_they_are_there_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let zone = Zone::of_path(folder.path()).expect("a zone");
        assert!(zone.as_str().starts_with("disk-") || zone.as_str().starts_with("host-"), "{zone}");
        assert_eq!(Zone::of_path(&folder.path().join("not/yet/there")).expect("a zone"), zone);
    }

    #[test]
    fn a_partition_and_an_encrypted_volume_on_it_are_their_disk() {
        let sys = tempfile::tempdir().expect("a folder");
        let root = sys.path().canonicalize().expect("canonical");
        let (disk, partition, mapped) = (root.join("sda"), root.join("sda/sda2"), root.join("dm-0"));
        std::fs::create_dir_all(&partition).expect("folder");
        std::fs::create_dir_all(mapped.join("slaves")).expect("folder");
        std::fs::write(partition.join("partition"), "2").expect("write");
        std::os::unix::fs::symlink(&partition, mapped.join("slaves/sda2")).expect("link");
        for folder in [disk, partition, mapped.clone()] {
            assert_eq!(disk_of(folder).as_deref(), Some("sda"));
        }
        std::os::unix::fs::symlink(&root, mapped.join("slaves/sdb")).expect("link");
        assert_eq!(disk_of(mapped).as_deref(), Some("dm-0"), "over two disks it is neither");
    }

    #[test]
    fn a_network_mount_is_its_host_and_btrfs_its_device() {
        let mounts = "1 0 254:0 / / rw - ext4 /dev/vda rw\n\
            2 1 0:40 / /mnt/nas\\040one rw shared:1 - nfs4 nas.local:/export/x rw\n\
            3 1 0:41 / /mnt/share rw - cifs //filer/share rw\n\
            4 1 0:42 /home /home rw - btrfs /dev/sdb3 rw\n\
            5 1 0:43 / /mnt/ssh rw - fuse.sshfs someone@box:/data rw\n\
            6 1 0:44 / /run rw - tmpfs tmpfs rw\n";
        let host = |host: &str| Some(MountSource::Host(host.to_owned()));
        let device = |path: &str| Some(MountSource::Device(path.into()));
        assert_eq!(mount_source(mounts, Path::new("/mnt/nas one/deep")), host("nas.local"));
        assert_eq!(mount_source(mounts, Path::new("/mnt/share")), host("filer"));
        assert_eq!(mount_source(mounts, Path::new("/mnt/ssh/a")), host("box"));
        assert_eq!(mount_source(mounts, Path::new("/home/me")), device("/dev/sdb3"));
        assert_eq!(mount_source(mounts, Path::new("/homes")), device("/dev/vda"));
        assert_eq!(mount_source(mounts, Path::new("/run/x")), None);
        assert_eq!(mount_source("nonsense\n", Path::new("/")), None);
    }

    #[test]
    fn a_server_is_its_host_and_s3_itself_its_region() {
        let url = Url::parse("https://user.example:9000/path").expect("a URL");
        assert_eq!(Zone::of_url(&url).expect("a zone").as_str(), "host-user.example");
        assert_eq!(Zone::of_s3_region(Some("eu-central-1")).as_str(), "s3-eu-central-1");
        assert_eq!(Zone::of_s3_region(None).as_str(), "s3-aws");
    }
}
