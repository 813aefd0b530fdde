//! Writing to WebDAV: a shard is streamed to a name of its own and moved into place.
//!
//! WebDAV has no uploads in parts, a plain PUT may leave half a file under its final name, and `object_store` wants the
//! whole in memory first. So the bytes go out as they come, and `MOVE` makes them visible at once.

use super::fault::{Cause, WireFault};
use super::place::Place;
use super::settings::Patience;
use crate::backend::{Error, ErrorKind, Result, shard_name};
use crate::id::ShardId;
use bytes::Bytes;
use futures_util::stream;
use object_store::HeaderMap;
use object_store::path::Path;
use reqwest::{Body, Client, Method, Response};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

/// What stands between a shard's name and the random end of its temporary name.
const UNFINISHED: &str = ".unfinished-";
/// Chunks on their way between the writer and the wire; each is at most one block.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Random bytes in a temporary name, so that two writers of one shard do not meet.
const NAME_BYTES: usize = 8;

/// What speaks WebDAV's own verbs.
#[derive(Debug, Clone)]
pub(super) struct Dav {
    http: Client,
    origin: Url,
    shown: String,
    patience: Patience,
}

/// Whether what is there may be replaced by a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overwrite {
    Refuse,
    Allow,
}

impl Dav {
    /// Speaks to a place with these headers; nothing where the TLS settings are unusable.
    pub(super) fn new(place: &Place, headers: HeaderMap, patience: Patience) -> Option<Self> {
        let http = Client::builder().default_headers(headers).connect_timeout(patience.connect_timeout).build().ok()?;
        Some(Self { http, origin: Url::parse(&place.container).ok()?, shown: place.shown.clone(), patience })
    }

    /// Makes the folder of a file, and those above it that are missing.
    pub(super) async fn make_folder_of(&self, path: &Path) -> Result<()> {
        let mut missing: Vec<Path> = Vec::new();
        let mut folder = path.parent();
        while let Some(next) = folder.filter(|folder| !folder.is_root()) {
            match self.make_folder(&next).await? {
                FolderMade::There => break,
                FolderMade::ParentMissing => {
                    folder = next.parent();
                    missing.push(next);
                }
            }
        }
        for next in missing.iter().rev() {
            if self.make_folder(next).await? == FolderMade::ParentMissing {
                return Err(Error::new(ErrorKind::Failed, format!("making the folder {next} in {}", self.shown)));
            }
        }
        Ok(())
    }

    async fn make_folder(&self, folder: &Path) -> Result<FolderMade> {
        let doing = format!("making the folder {folder} in {}", self.shown);
        let request = self.http.request(method(b"MKCOL"), self.url(folder)).timeout(self.patience.request_timeout);
        let response = request.send().await.map_err(|error| Cause::of_request(error).doing(&doing))?;
        match response.status().as_u16() {
            // 405: it is there. 301: so it is, with a slash at its end.
            200..=299 | 301 | 405 => Ok(FolderMade::There),
            404 | 409 => Ok(FolderMade::ParentMissing),
            _ => Err(refused(response, self.patience.request_timeout).await.doing(&doing)),
        }
    }

    /// Begins to stream to a temporary name beside the shard's.
    pub(super) fn begin(&self, path: &Path, doing: &str) -> Result<DavUpload> {
        let mut random = [0; NAME_BYTES];
        let unnamed = |error: getrandom::Error| Error::with_source(ErrorKind::Failed, doing, error.to_string());
        getrandom::fill(&mut random).map_err(unnamed)?;
        let temporary = Path::from(format!("{path}{UNFINISHED}{}", hex::encode(random)));
        let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
        let chunks = stream::unfold(receiver, async |mut receiver| {
            Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
        });
        let request = self.http.put(self.url(&temporary)).body(Body::wrap_stream(chunks));
        let patience = self.patience.request_timeout;
        let put = tokio::spawn(async move {
            let response = request.send().await.map_err(Cause::of_request)?;
            if response.status().is_success() { Ok(()) } else { Err(refused(response, patience).await) }
        });
        Ok(DavUpload { dav: self.clone(), temporary, sender: Some(sender), put, running: true })
    }

    /// Moves a file into place.
    async fn rename(&self, from: &Path, to: &Path, overwrite: Overwrite) -> std::result::Result<(), Cause> {
        let request = self.http.request(method(b"MOVE"), self.url(from));
        let request = request.header("Destination", self.url(to).as_str());
        let request = request.header("Overwrite", if overwrite == Overwrite::Allow { "T" } else { "F" });
        let response = request.timeout(self.patience.request_timeout).send().await.map_err(Cause::of_request)?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refused(response, self.patience.request_timeout).await)
    }

    /// Whether this file name is what an interrupted write of the shard left.
    pub(super) fn is_unfinished(file_name: &str, shard: ShardId) -> bool {
        let name = shard_name(shard);
        let own = name.rsplit('/').next().unwrap_or_default();
        file_name.strip_prefix(own).is_some_and(|end| end.starts_with(UNFINISHED))
    }

    fn url(&self, path: &Path) -> Url {
        let mut url = self.origin.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path.parts().map(|part| part.as_ref().to_owned()));
        }
        url
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FolderMade {
    There,
    ParentMissing,
}

/// One file on its way.
#[derive(Debug)]
pub(super) struct DavUpload {
    dav: Dav,
    temporary: Path,
    sender: Option<mpsc::Sender<Bytes>>,
    put: JoinHandle<std::result::Result<(), Cause>>,
    /// Whether `put` has not been seen to end.
    running: bool,
}

impl DavUpload {
    /// Hands a chunk to the wire; fails when the server takes none for the patience of a request.
    pub(super) async fn send(&mut self, bytes: Bytes, doing: &str) -> Result<()> {
        let Some(sender) = self.sender.as_ref().filter(|_| !bytes.is_empty()) else { return Ok(()) };
        match timeout(self.dav.patience.request_timeout, sender.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            // The request ended before its body did: its own end says why.
            Ok(Err(_closed)) => {
                Err(self.ended(self.dav.patience.request_timeout).await.err().unwrap_or(Cause::Broken).doing(doing))
            }
            Err(_elapsed) => Err(silent("the server takes no more bytes").doing(doing)),
        }
    }

    /// Waits until the server has everything under the temporary name.
    pub(super) async fn sent(&mut self, doing: &str) -> Result<&Path> {
        self.ended(self.dav.patience.upload_timeout).await.map_err(|cause| match cause.kind() {
            // Not the shard, but the folder or the method is refused here.
            ErrorKind::NotFound | ErrorKind::AlreadyExists => Error::with_source(ErrorKind::Failed, doing, cause),
            _ => cause.doing(doing),
        })?;
        Ok(&self.temporary)
    }

    /// Makes it visible under its final name.
    pub(super) async fn place(&self, path: &Path, overwrite: Overwrite, doing: &str) -> Result<()> {
        self.dav.rename(&self.temporary, path, overwrite).await.map_err(|cause| match cause {
            Cause::Answer { status: 412, .. } => cause.doing(doing),
            cause if cause.kind() == ErrorKind::NotFound || cause.kind() == ErrorKind::AlreadyExists => {
                Error::with_source(ErrorKind::Failed, doing, cause)
            }
            cause => cause.doing(doing),
        })
    }

    /// Ends the request and gives the temporary name, to be deleted. The body is ended, not broken off: what a server
    /// keeps of a broken one may come to light only after the delete.
    pub(super) async fn cancel(&mut self) -> &Path {
        if self.running && self.ended(self.dav.patience.request_timeout).await.is_err() {
            self.put.abort();
        }
        &self.temporary
    }

    async fn ended(&mut self, patience: Duration) -> std::result::Result<(), Cause> {
        self.sender = None;
        if !self.running {
            return Err(Cause::Broken);
        }
        match timeout(patience, &mut self.put).await {
            Err(_elapsed) => Err(silent("the server does not acknowledge what it was sent")),
            Ok(ended) => {
                self.running = false;
                ended.unwrap_or(Err(Cause::Broken))
            }
        }
    }
}

async fn refused(response: Response, patience: Duration) -> Cause {
    let status = response.status().as_u16();
    // A long page would only be thrown away; WebDAV says what matters in the status.
    let body = match response.content_length() {
        Some(0..=4096) => timeout(patience, response.text()).await.ok().and_then(std::result::Result::ok),
        _ => None,
    };
    Cause::answer(status, &body.unwrap_or_default())
}

fn silent(text: &str) -> Cause {
    Cause::Wire { kind: WireFault::Silent, text: text.to_owned() }
}

fn method(name: &'static [u8]) -> Method {
    Method::from_bytes(name).expect("the verbs of WebDAV are made of letters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_write_left_is_known_by_its_name() {
        let shard: ShardId = "a0b102030405060708090a0b0c0d0e0f.1".parse().expect("a shard");
        let other: ShardId = "a0b102030405060708090a0b0c0d0e0f.12".parse().expect("a shard");
        let left = format!("{shard}.shard{UNFINISHED}00ff");
        assert!(Dav::is_unfinished(&left, shard) && !Dav::is_unfinished(&left, other));
        assert!(!Dav::is_unfinished(&format!("{shard}.shard"), shard));
    }
}
