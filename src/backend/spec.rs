//! What the settings say of a backend, and the backend that comes of it.

use super::cloud::{CloudBackend, CloudSettings};
use super::node::{NodeAccess, NodeBackend};
use super::retry::{RetryBackend, RetryOptions};
use super::{Backend, Error, ErrorKind, LocalBackend, LocalOptions, MemoryBackend, Result, Zone};
use crate::id::BackendId;
use crate::peer::PeerAddress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// One write or finish in the cloud. Every request in it has a deadline of its own, and waiting for the upload budget is
/// waiting for such requests of others; this is only there so that nothing waits for ever.
const CLOUD_WRITE_TIMEOUT: Duration = Duration::from_secs(3600);

/// A backend as the settings describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// What people call it; used once in a store.
    pub name: String,
    /// What its mark and the catalog call it.
    pub id: BackendId,
    /// Where it is: a path, or a URL. A relative path is relative to the store.
    pub url: String,
    /// What fails together with it, when a person knows better than what is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The most bytes it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// It is read from and never written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// It is being emptied and takes no new shards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The address of a server that is not the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The provider's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The profile in the provider's shared credentials file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A file with the credentials, readable by its owner alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

impl BackendSpec {
    /// With nothing but a name, an id and an address.
    pub fn new(name: impl Into<String>, id: BackendId, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            id,
            url: url.into(),
            zone: None,
            quota: None,
            read_only: false,
            draining: false,
            endpoint: None,
            region: None,
            profile: None,
            credentials_file: None,
        }
    }
}

/// Where credentials are looked up: variables, the home folder and the way to nodes, brought by whoever may read them.
#[derive(Clone, Default)]
pub struct Environment {
    /// Environment variables of the cloud providers.
    pub variables: BTreeMap<String, String>,
    /// The person's home folder.
    pub home: Option<PathBuf>,
    /// How nodes are called.
    pub nodes: NodeAccess,
}

impl std::fmt::Debug for Environment {
    /// Names of variables only: values are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("variables", &self.variables.keys()).field("home", &self.home).finish()
    }
}

/// Where a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendUrl {
    /// A folder.
    Folder(PathBuf),
    /// This process's memory.
    Memory,
    /// An object store or a WebDAV server.
    Cloud(Url),
    /// A node of the group.
    Node(PeerAddress),
}

impl BackendUrl {
    /// Reads `/path`, `file:///path`, `memory:`, `s3://…`, `gs://…`, `az://…`, `http(s)://…`, `node://…` or `node+ws://…`;
    /// anything without a scheme is a path, and a relative one is below `base_dir`.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Settings, "the address of a backend is empty"));
        }
        let Some((scheme, _)) = text.split_once("://") else { return Ok(Self::Folder(base_dir.join(text))) };
        let unreadable = |error| Error::with_source(ErrorKind::Settings, "the address of a backend is no URL", error);
        let url = Url::parse(text).map_err(unreadable)?;
        if !url.username().is_empty() || url.password().is_some() {
            let doing = "the URL of a backend holds a user name or password, which belong in a credentials file";
            return Err(Error::new(ErrorKind::Settings, doing));
        }
        match scheme {
            "file" => url.to_file_path().map(Self::Folder).map_err(|()| {
                Error::new(
                    ErrorKind::Settings,
                    format!("{text} is no path: file:// takes an absolute path, as file:///mnt/nas"),
                )
            }),
            "s3" | "gs" | "az" | "http" | "https" => Ok(Self::Cloud(url)),
            "node" | "node+ws" => text.parse().map(Self::Node).map_err(|error| {
                Error::with_source(ErrorKind::Settings, "the address of a backend is no node's", error)
            }),
            _ => {
                let known = "file, s3, gs, az, http, https, node, node+ws";
                let doing = format!("{text} is no place for shards: {scheme}:// is none of {known}");
                Err(Error::new(ErrorKind::Settings, doing))
            }
        }
    }
}

/// The zone of a backend: what a person said, else what is found.
pub fn zone_of(spec: &BackendSpec, base_dir: &Path) -> Result<Zone> {
    if let Some(zone) = &spec.zone {
        let wrong =
            |error| Error::with_source(ErrorKind::Settings, format!("reading the zone of {}", spec.name), error);
        return Zone::new(zone.clone()).map_err(wrong);
    }
    match (BackendUrl::parse(&spec.url, base_dir)?, &spec.endpoint) {
        (BackendUrl::Folder(path), _) => Zone::of_path(&path),
        (BackendUrl::Memory, _) => Ok(Zone::memory()),
        (BackendUrl::Node(address), _) => Ok(Zone::of_host(address.host())),
        (BackendUrl::Cloud(_), Some(endpoint)) => {
            let wrong =
                |error| Error::with_source(ErrorKind::Settings, format!("reading the endpoint {endpoint}"), error);
            Zone::of_url(&Url::parse(endpoint).map_err(wrong)?)
        }
        (BackendUrl::Cloud(url), None) if url.scheme() == "s3" => Ok(Zone::of_s3_region(spec.region.as_deref())),
        (BackendUrl::Cloud(url), None) => Zone::of_url(&url),
    }
}

/// The backend that the settings describe, patient with places that can be slow. Nothing is contacted yet.
pub fn open(spec: &BackendSpec, environment: &Environment, base_dir: &Path) -> Result<Arc<dyn Backend>> {
    let place: Arc<dyn Backend> = match BackendUrl::parse(&spec.url, base_dir)? {
        BackendUrl::Memory => {
            let memory = spec.quota.map_or_else(MemoryBackend::new, MemoryBackend::with_quota);
            return Ok(Arc::new(memory));
        }
        BackendUrl::Folder(path) => Arc::new(LocalBackend::open(path, LocalOptions { quota_bytes: spec.quota })),
        BackendUrl::Node(address) => Arc::new(NodeBackend::open(address, environment.nodes.clone(), spec.quota)),
        BackendUrl::Cloud(url) => {
            let place = Arc::new(CloudBackend::open(&url, &cloud_settings(spec, environment))?);
            return Ok(Arc::new(RetryBackend::new(place, spec.name.clone(), cloud_patience())));
        }
    };
    Ok(Arc::new(RetryBackend::new(place, spec.name.clone(), RetryOptions::default())))
}

fn cloud_patience() -> RetryOptions {
    RetryOptions { write_timeout: CLOUD_WRITE_TIMEOUT, ..RetryOptions::default() }
}

fn cloud_settings(spec: &BackendSpec, environment: &Environment) -> CloudSettings {
    CloudSettings {
        endpoint: spec.endpoint.clone(),
        region: spec.region.clone(),
        profile: spec.profile.clone(),
        credentials_file: spec.credentials_file.clone(),
        quota_bytes: spec.quota,
        environment: environment.variables.clone(),
        home: environment.home.clone(),
        ..CloudSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cloud::{PART_BYTES, REQUEST_TIMEOUT, RETRY_TIMEOUT, UPLOAD_BUDGET_BYTES, UPLOAD_TIMEOUT};
    use crate::id::MAX_TOTAL_SHARDS;

    #[test]
    fn a_finish_in_the_cloud_has_the_time_that_all_its_requests_have() {
        let part = UPLOAD_TIMEOUT + RETRY_TIMEOUT;
        let small_request = REQUEST_TIMEOUT + RETRY_TIMEOUT;
        // The budget lets so many parts through at once; the shards of the widest object wait for one another.
        let at_once = UPLOAD_BUDGET_BYTES / PART_BYTES;
        let turns = u32::try_from(MAX_TOTAL_SHARDS.div_ceil(at_once)).expect("few");
        let longest = part * (2 + turns) + small_request * 4;
        assert!(cloud_patience().write_timeout >= longest, "{longest:?}");
    }

    #[test]
    fn addresses_are_told_apart() {
        let base = Path::new("/store");
        let parse = |text| BackendUrl::parse(text, base);
        assert_eq!(parse("/mnt/nas").expect("a path"), BackendUrl::Folder("/mnt/nas".into()));
        assert_eq!(parse("backends/1").expect("a path"), BackendUrl::Folder("/store/backends/1".into()));
        assert_eq!(parse("file:///mnt/a%20b").expect("a path"), BackendUrl::Folder("/mnt/a b".into()));
        assert_eq!(parse("memory:").expect("memory"), BackendUrl::Memory);
        assert!(matches!(parse("s3://bucket/prefix"), Ok(BackendUrl::Cloud(_))));
        for address in ["node://friend:7440", "node+ws://friend:443"] {
            assert_eq!(parse(address).expect("a node"), BackendUrl::Node(address.parse().expect("an address")));
        }
        for wrong in ["", "file://host/x", "ftp://host/x", "node://friend/x", "node://me@friend", "s3://"] {
            assert!(parse(wrong).is_err() || wrong == "s3://", "{wrong}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let error = BackendUrl::parse("https://me:hunter2@host/x", Path::new("/")).expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Settings);
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_zone_that_a_person_names_is_taken() {
        let mut spec = BackendSpec::new("a", BackendId([0; 16]), "s3://bucket");
        spec.endpoint = Some("http://NAS.local:9000".to_owned());
        assert_eq!(zone_of(&spec, Path::new("/")).expect("a zone").as_str(), "host-nas.local");
        let node = BackendSpec::new("b", BackendId([0; 16]), "node+ws://Friend.local:443");
        assert_eq!(zone_of(&node, Path::new("/")).expect("a zone").as_str(), "host-friend.local");
        spec.zone = Some("cellar".to_owned());
        assert_eq!(zone_of(&spec, Path::new("/")).expect("a zone").as_str(), "cellar");
    }
}
