//! A bucket as the tests of whole stores use it: what the program is told of it, and a way to look behind its back.

use crate::desk::Desk;
use crate::s3_server::{BUCKET, KEY_ID, S3Server, SECRET};
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt};
use std::os::unix::fs::PermissionsExt;
use tokio::runtime::Runtime;

/// What signs where a server has no regions.
const REGION: &str = "us-east-1";

/// A prefix of a bucket that nobody else uses, at a server that is there.
pub(crate) struct Bucket {
    endpoint: String,
    name: String,
    key_id: String,
    secret: String,
    /// Everything of this test lies below it.
    prefix: String,
    client: AmazonS3,
    runtime: Runtime,
}

impl Bucket {
    /// Of a server in the test process.
    pub(crate) fn of(server: &S3Server) -> Self {
        Self::at(server.endpoint(), BUCKET, KEY_ID, SECRET)
    }

    /// Of the server that the environment names; `None` where it names none.
    pub(crate) fn external() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (key_id, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
        Some(Self::at(variable("SHARD_TEST_S3_ENDPOINT")?, &variable("SHARD_TEST_S3_BUCKET")?, &key_id, &secret))
    }

    fn at(endpoint: String, name: &str, key_id: &str, secret: &str) -> Self {
        let client = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_region(REGION)
            .with_bucket_name(name)
            .with_access_key_id(key_id)
            .with_secret_access_key(secret)
            .with_disable_bulk_delete(true)
            .build();
        Self {
            endpoint,
            name: name.to_owned(),
            key_id: key_id.to_owned(),
            secret: secret.to_owned(),
            prefix: hex::encode(getrandom::u64().expect("randomness").to_be_bytes()),
            client: client.expect("a client"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        }
    }

    /// The address of a place in it.
    pub(crate) fn url(&self, place: &str) -> String {
        format!("s3://{}/{}/{place}", self.name, self.prefix)
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// A desk whose environment has the account, and the server for addresses that come without one.
    pub(crate) fn desk(&self) -> Desk {
        let mut desk = Desk::new();
        desk.set("AWS_ACCESS_KEY_ID", &self.key_id);
        desk.set("AWS_SECRET_ACCESS_KEY", &self.secret);
        desk.set("AWS_ENDPOINT_URL", &self.endpoint);
        desk
    }

    /// The account as a file that its owner alone can read, for `--credentials-file`.
    pub(crate) fn credentials_file(&self, desk: &Desk) -> String {
        let text = format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", self.key_id, self.secret);
        let path = desk.file("account", text.as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Makes a place in it a backend with a zone of its own; what `more` says is added.
    pub(crate) fn add(&self, desk: &Desk, place: &str, more: &[&str]) {
        let (url, zone) = (self.url(place), format!("zone-{place}"));
        let words = ["backend", "add", place, &url, "--endpoint", &self.endpoint, "--zone", &zone];
        desk.expect(0, &[&words, more].concat());
    }

    /// The names of all that is below a place, marks left out; the empty place is the whole prefix.
    pub(crate) fn objects(&self, place: &str) -> Vec<Path> {
        let below = Path::from(format!("{}/{place}", self.prefix));
        let listed = self.client.list(Some(&below)).map_ok(|object| object.location).try_collect::<Vec<_>>();
        let mut names = self.runtime.block_on(listed).expect("a listing");
        names.retain(|name| name.filename() != Some("shard.mark"));
        names
    }

    pub(crate) fn read(&self, name: &Path) -> Bytes {
        self.runtime.block_on(async { self.client.get(name).await?.bytes().await }).expect("an object")
    }

    pub(crate) fn write(&self, name: &Path, bytes: Vec<u8>) {
        self.runtime.block_on(self.client.put(name, bytes.into())).expect("written");
    }

    /// Deletes all that is below a place, but for its mark.
    pub(crate) fn lose(&self, place: &str) -> usize {
        let names = self.objects(place);
        for name in &names {
            self.runtime.block_on(self.client.delete(name)).expect("deleted");
        }
        names.len()
    }

    /// How often the server names an upload below the prefix that nobody finished.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        let uri = format!("{}/{}?uploads=&prefix={}", self.endpoint, self.name, self.prefix);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = uri.parse().expect("an address");
        let listing = self.runtime.block_on(async {
            let credential = self.client.credentials().get_credential().await.expect("an account");
            let signer = AwsAuthorizer::new(&credential, "s3", REGION);
            signer.try_authorize(&mut request, None).expect("signed");
            let options = ClientOptions::new().with_allow_http(true);
            let http = ReqwestConnector::default().connect(&options).expect("a client");
            http.execute(request).await.expect("an answer").into_body().bytes().await.expect("a body")
        });
        let listing = String::from_utf8(listing.to_vec()).expect("UTF-8");
        assert!(listing.contains("ListMultipartUploadsResult"), "{listing}");
        listing.matches("<UploadId>").count()
    }

    /// Begins an upload, sees it named, and ends it: a server that names none would make the count above say nothing.
    pub(crate) fn names_an_unfinished_upload(&self) {
        let name = Path::from(format!("{}/begun", self.prefix));
        let id = self.runtime.block_on(self.client.create_multipart(&name)).expect("begun");
        assert_eq!(self.unfinished_uploads(), 1);
        self.runtime.block_on(self.client.abort_multipart(&name, &id)).expect("ended");
        assert_eq!(self.unfinished_uploads(), 0);
    }

    /// Takes away everything that lies below the prefix, the marks too.
    pub(crate) fn clean_up(&self) {
        self.lose("");
        for name in self.marks() {
            self.runtime.block_on(self.client.delete(&name)).expect("deleted");
        }
    }

    fn marks(&self) -> Vec<Path> {
        let below = Path::from(self.prefix.as_str());
        let listed = self.client.list(Some(&below)).map_ok(|object| object.location).try_collect();
        self.runtime.block_on(listed).expect("a listing")
    }
}
