//! A success that holds an error is an error. S3 begins some answers before it knows how they end, and a listing that
//! holds an error would be read as one that is empty.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use reqwest::{Method, StatusCode};

/// Connects clients to which no error comes as a success.
#[derive(Debug)]
pub(super) struct TellingConnector;

#[derive(Debug)]
struct Telling(HttpClient);

impl HttpConnector for TellingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Telling(ReqwestConnector::default().connect(options)?)))
    }
}

#[async_trait]
impl HttpService for Telling {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_read = is_read(request.method(), request.uri().query().unwrap_or_default());
        let response = self.0.execute(request).await?;
        if is_read || response.status() != StatusCode::OK {
            return Ok(response);
        }
        // What answers these is at most a page of a listing, which is collected next anyway.
        let (mut parts, body) = response.into_parts();
        let body = body.bytes().await?;
        if is_error(&body) {
            parts.status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

/// Whether what comes back is an object's own bytes, which may be anything.
fn is_read(method: &Method, query: &str) -> bool {
    let lists = query.split('&').any(|part| part.starts_with("list-type=") || part.starts_with("uploads"));
    method == Method::HEAD || method == Method::GET && !lists
}

fn is_error(body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    let declared = body.strip_prefix(b"<?xml").and_then(|rest| {
        let end = rest.windows(2).position(|window| window == b"?>")?;
        Some(rest[end + 2..].trim_ascii_start())
    });
    let root = declared.unwrap_or(body);
    root.starts_with(b"<Error>") || root.starts_with(b"<Error ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_root_and_an_object_may_be_anything() {
        for error in ["<Error><Code>X</Code></Error>", "\n <?xml version=\"1.0\"?>\n<Error xmlns=\"x\"/>", "<Error>"] {
            assert!(is_error(error.as_bytes()), "{error}");
        }
        for other in ["", "<ListBucketResult><Error>", "<?xml version=\"1.0\"?><Errors>", "<?xml <Error>", "x<Error>"] {
            assert!(!is_error(other.as_bytes()), "{other}");
        }
        assert!(is_read(&Method::GET, "") && is_read(&Method::HEAD, "") && is_read(&Method::GET, "x-id=GetObject"));
        assert!(!is_read(&Method::GET, "list-type=2&prefix=a") && !is_read(&Method::GET, "uploads=&prefix=a"));
        assert!(!is_read(&Method::PUT, "") && !is_read(&Method::DELETE, "") && !is_read(&Method::POST, "uploadId=1"));
    }
}
