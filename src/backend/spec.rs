//! What the settings say of one backend, and how that becomes a [`Backend`].

use super::{
    Backend, Error, ErrorKind, LocalBackend, LocalOptions, MemoryBackend, Result, RetryBackend, RetryOptions, Zone,
};
use crate::id::BackendId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use url::Url;

/// One `[[backend]]` of `config.toml`. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// What a person calls it.
    pub name: String,
    /// What its mark, the catalog and removal records call it.
    pub id: BackendId,
    /// Where it is: what [`BackendUrl::parse`] reads.
    pub url: String,
    /// What it fails together with; found from the place itself when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// The most bytes of shards it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// It takes no new shards.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// It takes no new shards, and those it has are to be moved away.
    #[serde(default, skip_serializing_if = "is_false")]
    pub draining: bool,
    /// The address of the server, where it is not the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The provider's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The profile in the provider's own shared credentials file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A file with the credentials, readable by its owner alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What of the process's surroundings a backend may use; only the command line reads the real ones.
#[derive(Clone, Default)]
pub struct Environment {
    /// Environment variables, credentials among them.
    pub variables: BTreeMap<String, String>,
    /// The home folder, where providers keep their shared files.
    pub home: Option<PathBuf>,
}

impl std::fmt::Debug for Environment {
    /// Without the values: there may be secrets among them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.variables.keys().collect();
        f.debug_struct("Environment").field("variables", &names).field("home", &self.home).finish()
    }
}

/// Which protocol a cloud backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudProtocol {
    /// `s3://bucket/prefix`.
    S3,
    /// `gs://bucket/prefix`.
    Gcs,
    /// `az://container/prefix`.
    Azure,
    /// `http://` or `https://`.
    WebDav,
}

/// A backend's address, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendUrl {
    /// `/path`, `file:///path`, or a path relative to the store's folder.
    Local(PathBuf),
    /// `memory:`.
    Memory,
    /// `s3://`, `gs://`, `az://`, `http://` or `https://`.
    Cloud {
        /// The protocol that the scheme says.
        protocol: CloudProtocol,
        /// The whole address, without user, password, query or fragment.
        url: Url,
    },
}

impl BackendUrl {
    /// Understands an address. What is wrong is said without showing the text where it may hold a secret.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for what is no address, an unknown scheme, or a URL with a user name, password, query or
    /// fragment: secrets do not belong into settings.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(scheme) = scheme_of(text) else {
            return match text {
                "" => Err(refused("an empty address", "a path or a URL is needed")),
                path => Ok(Self::Local(PathBuf::from(path))),
            };
        };
        let address = format!("a {scheme}: address");
        if text.contains(['?', '#']) && scheme != "file" || authority_of(text).contains('@') {
            let why = "a user name, password, query or fragment in a URL is refused: give a profile, a credentials file \
                       or environment variables";
            return Err(refused(&address, why));
        }
        if scheme == "memory" {
            return match text.split_once(':') {
                Some((_, "" | "//")) => Ok(Self::Memory),
                _ => Err(refused(&address, "nothing may stand after memory:")),
            };
        }
        let url = Url::parse(text).map_err(|why| Error::with_source(ErrorKind::Settings, reading(&address), why))?;
        let protocol = match scheme.as_str() {
            "file" => return local_path(&url),
            "s3" => CloudProtocol::S3,
            "gs" => CloudProtocol::Gcs,
            "az" => CloudProtocol::Azure,
            "http" | "https" => CloudProtocol::WebDav,
            _ => return Err(refused(&address, "known are paths, file:, memory:, s3:, gs:, az:, http: and https:")),
        };
        match url.host_str() {
            Some(host) if !host.is_empty() => Ok(Self::Cloud { protocol, url }),
            _ => Err(refused(&address, "a bucket, container or host is missing")),
        }
    }

    /// Whether what it holds is gone when the process ends.
    pub fn is_volatile(&self) -> bool {
        matches!(self, Self::Memory)
    }
}

fn reading(address: &str) -> String {
    format!("reading {address}")
}

fn refused(address: &str, why: &str) -> Error {
    Error::with_source(ErrorKind::Settings, reading(address), why)
}

/// What stands before the first colon, if it can be a scheme; `./a:b` is a path.
fn scheme_of(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once(':')?;
    let follows = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(follows);
    is_scheme.then(|| scheme.to_ascii_lowercase())
}

/// The part of a URL in which user and password stand, found without relying on the rest being well-formed. Some readers
/// of URLs take a backslash for a slash and pass over more slashes than two.
fn authority_of(text: &str) -> &str {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest).trim_start_matches(['/', '\\']);
    rest.split(['/', '\\']).next().unwrap_or_default()
}

fn local_path(url: &Url) -> Result<BackendUrl> {
    match url.to_file_path() {
        Ok(path) if url.query().is_none() && url.fragment().is_none() => Ok(BackendUrl::Local(path)),
        _ => Err(refused("a file: address", "it takes file:///path, with ? and # as %3F and %23")),
    }
}

impl BackendSpec {
    /// Its address, understood, with a relative path below the folder of the store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`], also where settings do not fit each other or the kind of place.
    pub fn resolve(&self, base_dir: &Path) -> Result<BackendUrl> {
        let wrong =
            |why: &str| Error::with_source(ErrorKind::Settings, format!("setting up backend {:?}", self.name), why);
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            return Err(wrong("a name takes at least one character, and no control characters"));
        }
        let url = BackendUrl::parse(&self.url).map_err(|error| self.named(error))?;
        if self.profile.is_some() && self.credentials_file.is_some() {
            return Err(wrong("a profile and a credentials file exclude each other"));
        }
        let for_clouds =
            [self.endpoint.is_some(), self.region.is_some(), self.profile.is_some(), self.credentials_file.is_some()];
        match url {
            BackendUrl::Local(_) | BackendUrl::Memory if for_clouds.contains(&true) => {
                Err(wrong("endpoint, region, profile and credentials file are for clouds"))
            }
            BackendUrl::Local(path) => Ok(BackendUrl::Local(base_dir.join(path))),
            other => Ok(other),
        }
    }

    /// Its zone: the one in the settings, or the one the place itself has. Blocks on the file system for a path.
    ///
    /// # Errors
    ///
    /// As [`Self::resolve`], and where the disk or the host cannot be found.
    pub fn find_zone(&self, base_dir: &Path) -> Result<Zone> {
        if let Some(zone) = &self.zone {
            return Ok(zone.clone());
        }
        match self.resolve(base_dir)? {
            BackendUrl::Memory => Ok(Zone::memory()),
            BackendUrl::Local(path) => Zone::of_path(&path),
            BackendUrl::Cloud { protocol, url } => self.zone_of_cloud(protocol, &url),
        }
    }

    fn zone_of_cloud(&self, protocol: CloudProtocol, url: &Url) -> Result<Zone> {
        if let Some(endpoint) = &self.endpoint {
            return match BackendUrl::parse(endpoint).map_err(|error| self.named(error))? {
                BackendUrl::Cloud { protocol: CloudProtocol::WebDav, url } => Zone::of_url(&url),
                _ => Err(self.named(refused("the endpoint", "it takes http://host or https://host"))),
            };
        }
        Ok(match protocol {
            CloudProtocol::S3 => Zone::of_s3_region(self.region.as_deref()),
            CloudProtocol::Gcs => Zone::of_host("storage.googleapis.com"),
            CloudProtocol::Azure => Zone::of_host("blob.core.windows.net"),
            CloudProtocol::WebDav => return Zone::of_url(url),
        })
    }

    fn named(&self, mut error: Error) -> Error {
        error.doing = format!("{} of backend {:?}", error.doing, self.name);
        error
    }
}

/// Opens the backend that a spec describes, patient with places that can be slow. Nothing is contacted yet.
///
/// # Errors
///
/// [`ErrorKind::Settings`] where the spec makes no sense; credentials that cannot be read, for clouds.
pub fn open(spec: &BackendSpec, environment: &Environment, base_dir: &Path) -> Result<Arc<dyn Backend>> {
    let url = spec.resolve(base_dir)?;
    let place: Arc<dyn Backend> = match url {
        BackendUrl::Memory => {
            let memory = spec.quota.map_or_else(MemoryBackend::new, MemoryBackend::with_quota);
            return Ok(Arc::new(memory));
        }
        BackendUrl::Local(root) => Arc::new(LocalBackend::open(root, LocalOptions { quota_bytes: spec.quota })),
        BackendUrl::Cloud { protocol, url } => open_cloud(spec, environment, (protocol, &url))?,
    };
    Ok(Arc::new(RetryBackend::new(place, spec.name.clone(), RetryOptions::default())))
}

/// The one place where clouds are opened.
fn open_cloud(
    spec: &BackendSpec,
    _environment: &Environment,
    cloud: (CloudProtocol, &Url),
) -> Result<Arc<dyn Backend>> {
    let (protocol, url) = cloud;
    let doing = format!("opening {url} for backend {:?}", spec.name);
    Err(Error::with_source(ErrorKind::Settings, doing, format!("{protocol:?} is not part of this build")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &str) -> BackendSpec {
        let text = format!(r#"{{"name":"one","id":"{}","url":{url:?}}}"#, "0".repeat(32));
        serde_json::from_str(&text).expect("a spec")
    }

    fn message(error: &Error) -> String {
        format!("{error} {:?}", error.source.as_ref().map(ToString::to_string))
    }

    #[test]
    fn addresses_are_understood() {
        let local = |path: &str| BackendUrl::Local(path.into());
        for (text, expected) in [
            ("/mnt/nas", local("/mnt/nas")),
            ("backends/1", local("backends/1")),
            ("./a:b", local("./a:b")),
            ("file:///mnt/my%20disk", local("/mnt/my disk")),
            ("/odd@name?#", local("/odd@name?#")),
            ("memory:", BackendUrl::Memory),
            ("memory://", BackendUrl::Memory),
        ] {
            assert_eq!(BackendUrl::parse(text).expect("an address"), expected, "{text}");
        }
        for (text, expected) in [
            ("s3://bucket/some/prefix", CloudProtocol::S3),
            ("S3://bucket", CloudProtocol::S3),
            ("gs://bucket/x", CloudProtocol::Gcs),
            ("az://container", CloudProtocol::Azure),
            ("http://host:8080/dav", CloudProtocol::WebDav),
            ("https://host/a@b", CloudProtocol::WebDav),
        ] {
            match BackendUrl::parse(text).expect("an address") {
                BackendUrl::Cloud { protocol, .. } => assert_eq!(protocol, expected, "{text}"),
                other => unreachable!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_address_is_refused_as_a_matter_of_settings() {
        for wrong in
            ["", "node://host:1", "node+ws://host:1", "ftp://host", "s3:///prefix", "s3:", "memory:x", "file:x?y"]
        {
            let error = BackendUrl::parse(wrong).expect_err(wrong);
            assert_eq!(error.kind, ErrorKind::Settings, "{wrong}");
        }
        let unknown = BackendUrl::parse("node://host:1").expect_err("unknown");
        assert!(message(&unknown).contains("node:"), "{unknown}");
    }

    #[test]
    fn a_url_with_a_secret_is_refused_and_the_secret_is_not_shown() {
        for text in [
            "s3://user:hunter2@bucket/x",
            "https://hunter2@host/",
            "https:/\\user:hunter2@host",
            "https:user:hunter2@host",
            "https://user:hunter2@ho st:99999999/",
            "ftp://user:hunter2@host",
            "https://host/?sig=hunter2",
            "az://container/#hunter2",
            "memory:hunter2@x",
            "file:///x?hunter2",
        ] {
            let error = spec(text).resolve(Path::new("/store")).expect_err(text);
            assert_eq!(error.kind, ErrorKind::Settings);
            assert!(!message(&error).contains("hunter2"), "{text}: {}", message(&error));
        }
        let endpoint = BackendSpec { endpoint: Some("https://user:hunter2@host".to_owned()), ..spec("s3://bucket") };
        let error = endpoint.find_zone(Path::new("/store")).expect_err("a secret");
        assert!(!message(&error).contains("hunter2"), "{}", message(&error));
        let variables = BTreeMap::from([("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())]);
        let environment = Environment { variables, home: None };
        assert!(!format!("{environment:?}").contains("hunter2"));
    }

    #[test]
    fn a_relative_path_lies_below_the_store() {
        let resolved = spec("backends/1").resolve(Path::new("/store")).expect("a path");
        assert_eq!(resolved, BackendUrl::Local("/store/backends/1".into()));
        let resolved = spec("/mnt/x").resolve(Path::new("/store")).expect("a path");
        assert_eq!(resolved, BackendUrl::Local("/mnt/x".into()));
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let cloud = || spec("s3://bucket");
        let both = BackendSpec { profile: Some("p".into()), credentials_file: Some("f".into()), ..cloud() };
        let nameless = BackendSpec { name: String::new(), ..cloud() };
        let region_of_a_path = BackendSpec { region: Some("r".into()), ..spec("/x") };
        for wrong in [both, nameless, region_of_a_path] {
            assert_eq!(wrong.resolve(Path::new("/")).expect_err("wrong").kind, ErrorKind::Settings, "{wrong:?}");
        }
        assert!(serde_json::from_str::<BackendSpec>(r#"{"name":"x","id":"00","url":"/x","color":"red"}"#).is_err());
    }

    #[test]
    fn a_spec_is_written_as_it_was_read_without_what_is_not_set() {
        let full = BackendSpec {
            zone: Some(Zone::new("cellar").expect("a zone")),
            quota: Some(5),
            read_only: true,
            region: Some("r".into()),
            ..spec("s3://bucket")
        };
        for spec in [spec("/x"), full] {
            let text = toml_edit::ser::to_string(&spec).expect("written");
            assert_eq!(toml_edit::de::from_str::<BackendSpec>(&text).expect("read"), spec);
        }
        assert_eq!(toml_edit::ser::to_string(&spec("/x")).expect("written").lines().count(), 3);
    }

    #[test]
    fn zones_are_found_by_themselves_unless_a_person_says_otherwise() {
        let zone = |spec: BackendSpec| spec.find_zone(Path::new("/")).expect("a zone").to_string();
        assert_eq!(zone(spec("memory:")), "memory");
        assert_eq!(zone(spec("s3://bucket")), "s3-aws");
        assert_eq!(zone(BackendSpec { region: Some("eu-west-1".into()), ..spec("s3://bucket") }), "s3-eu-west-1");
        let endpoint = BackendSpec { endpoint: Some("http://127.0.0.1:9000".into()), ..spec("s3://bucket") };
        assert_eq!(zone(endpoint), "host-127.0.0.1");
        assert_eq!(zone(spec("https://nas.example/dav")), "host-nas.example");
        assert_eq!(zone(BackendSpec { zone: Some(Zone::new("x").expect("a zone")), ..spec("memory:") }), "x");
    }

    #[tokio::test]
    async fn a_spec_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        for url in ["memory:", "."] {
            let spec = BackendSpec { quota: Some(7), ..spec(url) };
            let backend = open(&spec, &Environment::default(), folder.path()).expect("opened");
            assert_eq!(backend.stats().await.expect("stats").quota_bytes, Some(7), "{url}");
        }
    }
}
