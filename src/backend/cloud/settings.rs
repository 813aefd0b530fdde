//! What a person may set for one place in the cloud, and how long it is waited for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A server that takes longer than this to accept a connection is not there.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A request that carries little and its whole answer take at most this long.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// One part of 5 MiB gets through in this time on a line of 45 KiB/s, the slowest that is waited for.
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a request is tried again below the retries of the caller.
pub const MAX_RETRIES: usize = 3;
/// The first pause before a retry; the next are drawn between it and three times the last.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No retry begins later than this after the first attempt.
pub const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a place is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection: [`CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// For an answer to anything but an upload: [`REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
    /// For one part to be taken: [`UPLOAD_TIMEOUT`].
    pub upload_timeout: Duration,
    /// Retries after the first attempt: [`MAX_RETRIES`].
    pub max_retries: usize,
    /// Before the first retry: [`FIRST_PAUSE`].
    pub first_pause: Duration,
    /// When retries end, counted from the first attempt: [`RETRY_TIMEOUT`].
    pub retry_timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            upload_timeout: UPLOAD_TIMEOUT,
            max_retries: MAX_RETRIES,
            first_pause: FIRST_PAUSE,
            retry_timeout: RETRY_TIMEOUT,
        }
    }
}

/// What a person may set for one place in the cloud. Its `Debug` shows no value of the environment.
#[derive(Clone, Default)]
pub struct CloudSettings {
    /// The server, where it is not the provider's own: `https://s3.example.org`; for Azure the account's address.
    pub endpoint: Option<String>,
    /// The region; else the profile's, else `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// A profile of the provider's shared credentials file (S3 only).
    pub profile: Option<String>,
    /// A file with the credentials, which its owner alone can read.
    pub credentials_file: Option<PathBuf>,
    /// The most bytes of shards the place may hold.
    pub quota_bytes: Option<u64>,
    /// The environment variables credentials may be taken from when neither profile nor file is named.
    pub environment: BTreeMap<String, String>,
    /// The home directory, below which the providers keep their shared files.
    pub home: Option<PathBuf>,
    /// How long the place is waited for.
    pub patience: Patience,
}

impl CloudSettings {
    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).filter(|value| !value.is_empty()).cloned()
    }
}

impl fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudSettings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("credentials_file", &self.credentials_file)
            .field("quota_bytes", &self.quota_bytes)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .field("home", &self.home)
            .field("patience", &self.patience)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_names_variables_and_never_their_values() {
        let mut settings = CloudSettings::default();
        settings.environment.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "hush-hush".to_owned());
        let shown = format!("{settings:?}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("hush"), "{shown}");
    }
}
