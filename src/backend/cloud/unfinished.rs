//! Multipart uploads that nobody finished: found by name and aborted.
//!
//! An S3 server keeps the parts of an upload, and bills them, until it is completed or aborted; a killed process does
//! neither, and `object_store` cannot list such uploads, so the request is signed here.

use super::fault::{Cause, says_no_container};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use serde::Deserialize;
use std::sync::Arc;
use url::Url;

/// A part on its way when its upload was aborted may bring the upload back, so it is looked for again this often.
const MAX_ROUNDS: usize = 10;
/// A listing longer than this is not read, in bytes: a page holds at most 1000 uploads of about 1 KiB.
const MAX_LISTING_BYTES: usize = 4 * 1024 * 1024;

/// The interrupted uploads of one bucket.
#[derive(Debug)]
pub(super) struct UnfinishedUploads {
    store: Arc<AmazonS3>,
    http: HttpClient,
    bucket_url: Url,
    region: String,
}

/// `ListMultipartUploadsResult`, as far as it matters.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Listing {
    #[serde(rename = "Upload", default)]
    uploads: Vec<Upload>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
}

impl UnfinishedUploads {
    /// Of the bucket at this address, asked for with the credentials of `store`.
    pub(super) fn new(store: Arc<AmazonS3>, http: HttpClient, bucket_url: Url, region: String) -> Self {
        Self { store, http, bucket_url, region }
    }

    /// Aborts the uploads of exactly this name until none is listed. Does nothing at a server that cannot list them.
    pub(super) async fn clear(&self, path: &Path) -> Result<(), Cause> {
        for _ in 0..MAX_ROUNDS {
            let uploads = match self.list(path).await {
                Err(Cause::Answer { status: 405 | 501, .. }) => return Ok(()),
                listed => listed?,
            };
            if uploads.is_empty() {
                return Ok(());
            }
            for upload in uploads {
                self.abort(path, &upload.upload_id).await?;
            }
        }
        Err(Cause::Lingering { rounds: MAX_ROUNDS })
    }

    async fn abort(&self, path: &Path, upload_id: &String) -> Result<(), Cause> {
        let Err(error) = self.store.abort_multipart(path, upload_id).await else { return Ok(()) };
        match Cause::of(&error) {
            // Gone already: completed or aborted by someone else.
            cause @ Cause::Answer { status: 404, .. } if !says_no_container(&cause) => Ok(()),
            cause => Err(cause),
        }
    }

    /// The uploads of exactly this name, at most one page of them.
    async fn list(&self, path: &Path) -> Result<Vec<Upload>, Cause> {
        let other = |text: &str| Cause::Other { text: text.to_owned() };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        let uri = listing_url(&self.bucket_url, path.as_ref()).as_str().parse();
        *request.uri_mut() = uri.map_err(|_| other("the address of the bucket is malformed"))?;
        let credential = self.store.credentials().get_credential().await.map_err(|error| Cause::of(&error))?;
        let signer = AwsAuthorizer::new(&credential, "s3", &self.region);
        signer.try_authorize(&mut request, None).map_err(|error| Cause::of(&error))?;
        let response = self.http.execute(request).await.map_err(|error| Cause::wire(&error))?;
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await.map_err(|error| Cause::wire(&error))?;
        let body = String::from_utf8_lossy(body.get(..MAX_LISTING_BYTES).unwrap_or(&body));
        if status != 200 {
            return Err(Cause::answer(status, &body));
        }
        let listing: Listing =
            quick_xml::de::from_str(&body).map_err(|_| other("the list of unfinished uploads is malformed"))?;
        Ok(listing.uploads.into_iter().filter(|upload| upload.key == path.as_ref()).collect())
    }

    #[cfg(test)]
    pub(super) fn bucket_url(&self) -> &str {
        self.bucket_url.as_str()
    }
}

/// `?uploads&prefix=NAME`. A space is `%20`, since only that is the same to every server and to the signature.
fn listing_url(bucket_url: &Url, name: &str) -> Url {
    let mut url = bucket_url.clone();
    let query = url::form_urlencoded::Serializer::new("uploads=".to_owned()).append_pair("prefix", name).finish();
    url.set_query(Some(&query.replace('+', "%20")));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_with_none_one_and_many_uploads() {
        let page = |uploads: &str| {
            format!(
                r#"<?xml version="1.0" encoding="UTF-8"?><ListMultipartUploadsResult
                xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>b</Bucket><KeyMarker/><MaxUploads>1000</MaxUploads>
                <IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"#
            )
        };
        let upload =
            "<Upload><Key>a/b.shard</Key><UploadId>id&amp;1</UploadId><Initiator><ID>x</ID></Initiator></Upload>";
        let read = |text: &str| quick_xml::de::from_str::<Listing>(text).expect("a listing").uploads;
        assert_eq!(read(&page("")), []);
        let one = || Upload { key: "a/b.shard".to_owned(), upload_id: "id&1".to_owned() };
        assert_eq!(read(&page(upload)), [one()]);
        assert_eq!(read(&page(&upload.repeat(2))), [one(), one()]);
        assert!(quick_xml::de::from_str::<Listing>("<html><body>").is_err());
    }

    #[test]
    fn a_listing_is_asked_for_by_its_exact_name() {
        let bucket = Url::parse("http://127.0.0.1:9/bucket").expect("a URL");
        let url = listing_url(&bucket, "a b/c+d.shard");
        assert_eq!(url.as_str(), "http://127.0.0.1:9/bucket?uploads=&prefix=a%20b%2Fc%2Bd.shard");
    }
}
