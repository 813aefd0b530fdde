//! Where a cloud backend lies: its URL taken apart, with the names of the things below it.

use crate::backend::{Error, ErrorKind, MARK_NAME, shard_name};
use crate::id::ShardId;
use object_store::path::{Path, PathPart};
use std::net::IpAddr;
use url::Url;

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    S3,
    Google,
    Azure,
    WebDav,
}

/// A URL taken apart.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) scheme: Scheme,
    /// The bucket or container; for WebDAV the origin, `https://host:port`.
    pub(super) container: String,
    /// What comes before every name.
    pub(super) prefix: Path,
    /// The URL as messages show it; it holds no secret, since a URL with one is refused.
    pub(super) shown: String,
}

impl Place {
    /// Takes a URL apart; refuses user information, a query and a fragment without repeating them.
    pub(super) fn parse(url: &Url) -> Result<Self, Error> {
        let bare = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        let refuse = |why: &str| Error::new(ErrorKind::Settings, format!("using {bare}: {why}"));
        refuse_secrets(url).map_err(refuse)?;
        let scheme = match url.scheme() {
            "s3" => Scheme::S3,
            "gs" => Scheme::Google,
            "az" => Scheme::Azure,
            "http" | "https" => Scheme::WebDav,
            _ => return Err(refuse("not an address of an object store (s3, gs, az, http, https)")),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refuse("the address names no bucket, container or host"))?;
        if scheme != Scheme::WebDav && url.port().is_some() {
            return Err(refuse("a bucket has no port: name the server with an endpoint"));
        }
        let container = match scheme {
            Scheme::WebDav => url.origin().ascii_serialization(),
            _ => host.to_owned(),
        };
        let prefix = Path::from_url_path(url.path()).map_err(|_| refuse("the path has empty or dotted parts"))?;
        Ok(Self { scheme, container, prefix, shown: url.as_str().trim_end_matches('/').to_owned() })
    }

    /// Where a shard lies.
    pub(super) fn shard_path(&self, shard: ShardId) -> Path {
        self.below(&shard_name(shard))
    }

    /// Where the mark lies.
    pub(super) fn mark_path(&self) -> Path {
        self.below(MARK_NAME)
    }

    /// Below which all shards lie.
    pub(super) fn objects_path(&self) -> Path {
        self.below("objects")
    }

    /// The shard that lies at this path, if it is the path of one.
    pub(super) fn shard_at(&self, path: &Path) -> Option<ShardId> {
        let parts = path.prefix_match(&self.prefix)?;
        let name: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
        crate::backend::parse_shard_name(&name.join("/"))
    }

    /// What is being done to a shard, for messages.
    pub(super) fn doing(&self, verb: &str, shard: ShardId) -> String {
        format!("{verb} {} in {}", shard_name(shard), self.shown)
    }

    fn below(&self, name: &str) -> Path {
        self.prefix.parts().chain(name.split('/').map(PathPart::from)).collect()
    }
}

/// The server's address, checked; `http` is allowed only because the address says so.
pub(super) fn parse_endpoint(text: &str) -> Result<Url, Error> {
    let refuse = |why: &str| Error::new(ErrorKind::Settings, format!("using the endpoint: {why}"));
    let url = Url::parse(text).map_err(|_| refuse("it is not a URL such as https://s3.example.org"))?;
    refuse_secrets(&url).map_err(refuse)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refuse("it is not a URL such as https://s3.example.org"));
    }
    Ok(url)
}

/// Whether a password may travel to this address: over TLS, or without leaving the machine.
pub(super) fn keeps_passwords(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    url.scheme() == "https" || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn refuse_secrets(url: &Url) -> Result<(), &'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address must not carry a user name or password: use --profile or --credentials-file");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an address must not carry a query or fragment");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, Error> {
        Place::parse(&Url::parse(text).expect("a URL"))
    }

    #[test]
    fn an_address_becomes_bucket_and_prefix() {
        let expected = [
            ("s3://Bucket/a/b%20c/", Scheme::S3, "Bucket", "a/b c"),
            ("s3://bucket", Scheme::S3, "bucket", ""),
            ("gs://bucket/x", Scheme::Google, "bucket", "x"),
            ("az://container/x", Scheme::Azure, "container", "x"),
            ("http://127.0.0.1:81/dav/x", Scheme::WebDav, "http://127.0.0.1:81", "dav/x"),
            ("https://nas.example/dav", Scheme::WebDav, "https://nas.example", "dav"),
        ];
        for (text, scheme, container, prefix) in expected {
            let place = place(text).expect(text);
            assert_eq!((place.scheme, place.container.as_str(), place.prefix.as_ref()), (scheme, container, prefix));
            let shard: ShardId = "a0b102030405060708090a0b0c0d0e0f.12".parse().expect("a shard");
            assert_eq!(place.shard_at(&place.shard_path(shard)), Some(shard), "{text}");
            assert_eq!(place.shard_at(&place.mark_path()), None);
        }
    }

    #[test]
    fn an_address_with_a_secret_is_refused_without_repeating_it() {
        let secret = "Hu5h";
        for text in ["s3://me:Hu5h@bucket/x", "s3://Hu5h@bucket", "https://h/x?sig=Hu5h", "gs://b/#Hu5h"] {
            let error = place(text).expect_err(text);
            assert_eq!(error.kind, ErrorKind::Settings);
            assert!(!format!("{error:?} {error}").contains(secret), "{error}");
            let endpoint = text.replace("s3:", "http:").replace("gs:", "http:");
            assert!(!format!("{:?}", parse_endpoint(&endpoint).expect_err(text)).contains(secret));
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["s3:///x", "s3://bucket:80/x", "ftp://host/x", "s3://bucket/a//b", "file:///x"] {
            assert_eq!(place(text).expect_err(text).kind, ErrorKind::Settings);
        }
        for text in ["s3.example.org", "s3://x", ""] {
            assert_eq!(parse_endpoint(text).expect_err(text).kind, ErrorKind::Settings);
        }
    }

    #[test]
    fn a_password_travels_only_over_tls_or_loopback() {
        for (text, keeps) in
            [("https://h/", true), ("http://127.0.0.1:8/", true), ("http://[::1]/", true), ("http://h/", false)]
        {
            assert_eq!(keeps_passwords(&Url::parse(text).expect("a URL")), keeps, "{text}");
        }
    }
}
