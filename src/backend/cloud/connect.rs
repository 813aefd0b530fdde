//! From an address and settings to clients that speak to the place.

use super::credentials::{self, GoogleAccount, Login};
use super::inner_error::TellingConnector;
use super::place::{Place, Scheme, keeps_passwords, parse_endpoint};
use super::settings::{CloudSettings, Patience};
use super::unfinished::UnfinishedUploads;
use super::webdav::Dav;
use crate::backend::{Error, ErrorKind};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpConnector;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientOptions, HeaderMap, HeaderValue, ObjectStore, RetryConfig};
use reqwest::header::AUTHORIZATION;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The region of servers that have none.
const DEFAULT_REGION: &str = "us-east-1";
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The clients of one place.
pub(super) struct Clients {
    /// For everything but uploads.
    pub(super) store: Arc<dyn ObjectStore>,
    /// For uploads, which are waited for longer.
    pub(super) uploads: Arc<dyn ObjectStore>,
    /// Where interrupted uploads stay until they are aborted.
    pub(super) unfinished: Option<UnfinishedUploads>,
    /// Where shards are streamed and renamed into place.
    pub(super) dav: Option<Dav>,
}

/// Makes the clients of a place.
pub(super) fn connect(place: &Place, settings: &CloudSettings) -> Result<Clients, Error> {
    match place.scheme {
        Scheme::S3 => connect_s3(place, settings),
        Scheme::Google => connect_google(place, settings),
        Scheme::Azure => connect_azure(place, settings),
        Scheme::WebDav => connect_webdav(place, settings),
    }
}

fn connect_s3(place: &Place, settings: &CloudSettings) -> Result<Clients, Error> {
    let account = credentials::s3(settings).map_err(|error| error.for_place(&place.shown))?;
    let endpoint = settings.endpoint.as_ref().or(account.endpoint.as_ref());
    let endpoint = endpoint.map(|text| parse_endpoint(text)).transpose()?;
    let region = settings.region.clone().or(account.region).unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let base = match &endpoint {
        Some(endpoint) => endpoint.as_str().trim_end_matches('/').to_owned(),
        None => format!("https://s3.{region}.amazonaws.com"),
    };
    // The bucket stands in the path everywhere: certificates then hold for names with dots, and every server does it.
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&place.container)
        .with_region(&region)
        .with_endpoint(&base)
        .with_virtual_hosted_style_request(false)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_disable_bulk_delete(true)
        .with_http_connector(TellingConnector)
        .with_retry(retry_config(&settings.patience));
    for (key, value) in account.keys {
        builder = builder.with_config(key, value);
    }
    let allow_http = base.starts_with("http:");
    let build = |timeout: Duration| -> Result<AmazonS3, Error> {
        let options = client_options(&settings.patience, timeout).with_allow_http(allow_http);
        builder.clone().with_client_options(options).build().map_err(|_| unusable(place))
    };
    let store = Arc::new(build(settings.patience.request_timeout)?);
    let options = client_options(&settings.patience, settings.patience.request_timeout).with_allow_http(allow_http);
    let http = TellingConnector.connect(&options).map_err(|_| unusable(place))?;
    let bucket_url = Url::parse(&format!("{base}/{}", place.container)).map_err(|_| unusable(place))?;
    let unfinished = Some(UnfinishedUploads::new(Arc::clone(&store), http, bucket_url, region));
    Ok(Clients { store, uploads: Arc::new(build(settings.patience.upload_timeout)?), unfinished, dav: None })
}

fn connect_google(place: &Place, settings: &CloudSettings) -> Result<Clients, Error> {
    let account = credentials::google(settings).map_err(|error| error.for_place(&place.shown))?;
    let endpoint = settings.endpoint.as_deref().map(parse_endpoint).transpose()?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&place.container)
        .with_retry(retry_config(&settings.patience));
    builder = match account {
        GoogleAccount::ServiceAccount(key) => builder.with_service_account_key(key),
        GoogleAccount::ApplicationDefault(path) => builder.with_application_credentials(path.to_string_lossy()),
    };
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint.as_str().trim_end_matches('/'));
    }
    let allow_http = endpoint.is_some_and(|endpoint| endpoint.scheme() == "http");
    two_clients(settings, allow_http, |options| {
        let store = builder.clone().with_client_options(options).build().map_err(|_| unusable(place))?;
        Ok(Arc::new(store))
    })
}

fn connect_azure(place: &Place, settings: &CloudSettings) -> Result<Clients, Error> {
    let keys = credentials::azure(settings).map_err(|error| error.for_place(&place.shown))?;
    let endpoint = settings.endpoint.as_deref().map(parse_endpoint).transpose()?;
    let mut builder = MicrosoftAzureBuilder::new().with_retry(retry_config(&settings.patience));
    for (key, value) in keys {
        builder = builder.with_config(key, value);
    }
    builder = builder.with_container_name(&place.container);
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned());
    }
    let allow_http = endpoint.is_some_and(|endpoint| endpoint.scheme() == "http");
    two_clients(settings, allow_http, |options| {
        let store = builder.clone().with_client_options(options).build().map_err(|_| unusable(place))?;
        Ok(Arc::new(store))
    })
}

fn connect_webdav(place: &Place, settings: &CloudSettings) -> Result<Clients, Error> {
    if settings.endpoint.is_some() || settings.region.is_some() {
        let doing = format!("using {}: a WebDAV address has no endpoint and no region", place.shown);
        return Err(Error::new(ErrorKind::Settings, doing));
    }
    let login = credentials::webdav(settings).map_err(|error| error.for_place(&place.shown))?;
    let origin = Url::parse(&place.container).map_err(|_| unusable(place))?;
    if login.is_some() && !keeps_passwords(&origin) {
        let doing = format!("using {}: a password would travel in the clear: use https", place.shown);
        return Err(Error::new(ErrorKind::Settings, doing));
    }
    let headers = login_headers(login).ok_or_else(|| unusable(place))?;
    // Names in answers are counted from the server's root, so the store begins there and the prefix does the rest.
    let builder = HttpBuilder::new().with_url(origin.as_str()).with_retry(retry_config(&settings.patience));
    let clients = two_clients(settings, origin.scheme() == "http", |options| {
        let options = options.with_default_headers(headers.clone());
        Ok(Arc::new(builder.clone().with_client_options(options).build().map_err(|_| unusable(place))?))
    })?;
    let dav = Dav::new(place, headers, settings.patience).ok_or_else(|| unusable(place))?;
    Ok(Clients { dav: Some(dav), ..clients })
}

/// The same client twice: once with the patience for answers, once with that for uploads.
fn two_clients(
    settings: &CloudSettings,
    allow_http: bool,
    build: impl Fn(ClientOptions) -> Result<Arc<dyn ObjectStore>, Error>,
) -> Result<Clients, Error> {
    let patience = &settings.patience;
    let options = |timeout| client_options(patience, timeout).with_allow_http(allow_http);
    let store = build(options(patience.request_timeout))?;
    let uploads = build(options(patience.upload_timeout))?;
    Ok(Clients { store, uploads, unfinished: None, dav: None })
}

fn client_options(patience: &Patience, timeout: Duration) -> ClientOptions {
    ClientOptions::new().with_connect_timeout(patience.connect_timeout).with_timeout(timeout)
}

fn retry_config(patience: &Patience) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: patience.first_pause, max_backoff: LONGEST_PAUSE, base: 2.0 },
        max_retries: patience.max_retries,
        retry_timeout: patience.retry_timeout,
    }
}

/// The login as a header that is marked sensitive, so that no message shows it.
fn login_headers(login: Option<Login>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut value = match login {
        None => return Some(headers),
        Some(Login::Token(token)) => HeaderValue::from_str(&format!("Bearer {token}")).ok()?,
        Some(Login::Password { user, password }) => basic(&user, &password)?,
    };
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Some(headers)
}

/// `Basic` and base 64, as reqwest writes it into a request that is never sent.
fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let client = reqwest::Client::builder().tls_certs_only([]).build().ok()?;
    let request = client.get("http://localhost").basic_auth(user, Some(password)).build().ok()?;
    request.headers().get(AUTHORIZATION).cloned()
}

/// The builders' own words may quote a key, so they are not repeated.
fn unusable(place: &Place) -> Error {
    Error::new(ErrorKind::Settings, format!("using {}: the address or the credentials are malformed", place.shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> CloudSettings {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        CloudSettings { environment, ..CloudSettings::default() }
    }

    fn place(text: &str) -> Place {
        Place::parse(&Url::parse(text).expect("a URL")).expect("a place")
    }

    fn shown(address: &str, settings: &CloudSettings) -> String {
        connect(&place(address), settings).expect(address).store.to_string()
    }

    const AZURE: [(&str, &str); 2] =
        [("AZURE_STORAGE_ACCOUNT_NAME", "acc"), ("AZURE_STORAGE_ACCOUNT_KEY", "aHVzaC1odXNo")];
    const S3: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hush-hush")];

    #[test]
    fn each_scheme_makes_the_client_of_its_provider() {
        assert_eq!(shown("s3://bucket/x", &settings(&S3)), "AmazonS3(bucket)");
        let azure = shown("az://container/x", &settings(&AZURE));
        assert!(azure.contains("acc") && azure.contains("container"), "{azure}");
        assert_eq!(shown("https://nas.example/dav", &CloudSettings::default()), "HttpStore");
        let key = r#"{"type":"service_account","private_key":"x","private_key_id":"y","client_email":"z","disable_oauth":true}"#;
        let google = settings(&[("GOOGLE_SERVICE_ACCOUNT_KEY", key)]);
        assert_eq!(shown("gs://bucket/x", &google), "GoogleCloudStorage(bucket)");
    }

    #[test]
    fn a_bucket_stands_in_the_path_of_its_endpoint() {
        let local = CloudSettings { endpoint: Some("http://127.0.0.1:9/".to_owned()), ..settings(&S3) };
        let unfinished = connect(&place("s3://b.c/x"), &local).expect("clients").unfinished.expect("S3 has it");
        assert_eq!(unfinished.bucket_url(), "http://127.0.0.1:9/b.c");
        let abroad = CloudSettings { region: Some("eu-west-3".to_owned()), ..settings(&S3) };
        let unfinished = connect(&place("s3://b/x"), &abroad).expect("clients").unfinished.expect("S3 has it");
        assert_eq!(unfinished.bucket_url(), "https://s3.eu-west-3.amazonaws.com/b");
    }

    #[test]
    fn malformed_credentials_are_not_quoted() {
        let broken = settings(&[("AZURE_STORAGE_ACCOUNT_NAME", "acc"), ("AZURE_STORAGE_ACCOUNT_KEY", "hush hush!")]);
        let error = connect(&place("az://c"), &broken).err().expect("refused");
        assert!(error.kind == ErrorKind::Settings && !format!("{error:?}").contains("hush"), "{error:?}");
    }

    #[test]
    fn a_webdav_password_is_basic_and_hidden() {
        let login = Login::Password { user: "Aladdin".to_owned(), password: "open sesame".to_owned() };
        let headers = login_headers(Some(login)).expect("headers");
        assert_eq!(headers[AUTHORIZATION], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{headers:?}").contains("QWxh"));
    }

    #[test]
    fn a_webdav_password_does_not_travel_in_the_clear() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("login");
        std::fs::write(&path, "user=me\npassword=hush").expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        let settings = CloudSettings { credentials_file: Some(path), ..CloudSettings::default() };
        let error = connect(&place("http://nas.example/dav"), &settings).err().expect("refused");
        assert!(error.to_string().contains("https"), "{error}");
        assert!(connect(&place("https://nas.example/dav"), &settings).is_ok());
        assert!(connect(&place("http://127.0.0.1/dav"), &settings).is_ok());
    }
}
