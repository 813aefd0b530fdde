//! Who asks: credentials from a profile, from a file its owner alone can read, or from the environment variables that
//! the caller brings. A named profile or file is the only source looked at, so that two accounts never mix.

use super::CloudSettings;
use crate::backend::{Error, ErrorKind};
use configparser::ini::{Ini, IniDefault};
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A credentials file longer than this is not one, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The section of an INI file that keys before any section belong to.
const DEFAULT_SECTION: &str = "default";

/// Variables that let `object_store` fetch short-lived S3 credentials by itself (EKS, ECS, web identity).
const S3_ROLE_VARIABLES: [&str; 7] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
/// Of these, the ones any of which begins such a fetch.
const S3_ROLE_STARTERS: [&str; 3] =
    ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];

/// Why there are no credentials. Never holds one.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is too large for a credentials file ({bytes} bytes)", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{} can be read by others (mode {mode:03o}): run chmod 600 on it", path.display())]
    ReadableByOthers { path: PathBuf, mode: u32 },
    #[error("{} is not an INI file", path.display())]
    NotIni { path: PathBuf },
    #[error("{} is not a Google credentials file (JSON)", path.display())]
    NotGoogle { path: PathBuf },
    #[error("{} has no section [{section}]", path.display())]
    NoSection { path: PathBuf, section: String },
    #[error("[{section}] in {} has no {key}", path.display())]
    NoKey { path: PathBuf, section: String, key: &'static str },
    #[error("{} has several sections: name one with --profile", path.display())]
    ManySections { path: PathBuf },
    #[error("profiles exist for S3 only: use --credentials-file")]
    ProfileNotForThis,
    #[error("no credentials: use {uses}, or set {variables}")]
    Nowhere { uses: &'static str, variables: &'static str },
}

impl CredentialsError {
    /// The outward error for this place.
    pub(super) fn for_place(self, shown: &str) -> Error {
        let kind = match self {
            Self::ReadableByOthers { .. } => ErrorKind::Denied,
            _ => ErrorKind::Settings,
        };
        Error::with_source(kind, format!("finding the credentials of {shown}"), self)
    }
}

/// Who an S3 server is asked as, and what the profile says of where.
#[derive(Default)]
pub(super) struct S3Account {
    /// Settings of the client, among them the secrets.
    pub(super) keys: Vec<(AmazonS3ConfigKey, String)>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
}

impl fmt::Debug for S3Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Account").field("region", &self.region).field("endpoint", &self.endpoint).finish()
    }
}

/// Who Google is asked as.
pub(super) enum GoogleAccount {
    /// The text of a service account's key.
    ServiceAccount(String),
    /// A file of application default credentials.
    ApplicationDefault(PathBuf),
}

/// A user name and a password, or a token.
pub(super) enum Login {
    Password { user: String, password: String },
    Token(String),
}

/// The S3 account: profile, else file, else environment.
pub(super) fn s3(settings: &CloudSettings) -> Result<S3Account, CredentialsError> {
    if settings.credentials_file.is_some() || settings.profile.is_some() {
        return s3_from_files(settings);
    }
    let variable = |name: &str| settings.variable(name);
    let mut account = S3Account {
        region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
        endpoint: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
        ..S3Account::default()
    };
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        account.keys = s3_keys(id, secret, variable("AWS_SESSION_TOKEN"));
        return Ok(account);
    }
    if S3_ROLE_STARTERS.iter().any(|name| variable(name).is_some()) {
        let known = S3_ROLE_VARIABLES.iter().filter_map(|name| Some((name, variable(name)?)));
        account.keys = known.filter_map(|(name, value)| Some((s3_key(name)?, value))).collect();
        return Ok(account);
    }
    // As every AWS tool does: the profile named in the environment, else the default one where there is such a file.
    let named = variable("AWS_PROFILE");
    if named.is_some()
        || shared_file(settings, "AWS_SHARED_CREDENTIALS_FILE", "credentials").is_some_and(|f| f.exists())
    {
        let profile = named.unwrap_or_else(|| DEFAULT_SECTION.to_owned());
        return s3_from_files(&CloudSettings { profile: Some(profile), ..settings.clone() });
    }
    Err(CredentialsError::Nowhere {
        uses: "--profile or --credentials-file",
        variables: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    })
}

/// The Azure account, as settings of the client: file, else environment.
pub(super) fn azure(settings: &CloudSettings) -> Result<Vec<(AzureConfigKey, String)>, CredentialsError> {
    refuse_profile(settings)?;
    let Some(path) = &settings.credentials_file else { return azure_from_environment(settings) };
    let section = only_section(path, &read_ini(path, &read_private(path)?)?, None)?;
    let account = section.take(&["account_name", "account", "azure_storage_account_name"], "account_name")?;
    let mut keys = vec![(AzureConfigKey::AccountName, account)];
    if let Ok(token) = section.take(&["sas_token", "azure_storage_sas_token"], "sas_token") {
        keys.push((AzureConfigKey::SasKey, token));
    } else {
        let names = ["account_key", "key", "azure_storage_account_key"];
        keys.push((AzureConfigKey::AccessKey, section.take(&names, "account_key")?));
    }
    Ok(keys)
}

/// The Google account: file, else environment, else the file `gcloud` keeps in the home directory.
pub(super) fn google(settings: &CloudSettings) -> Result<GoogleAccount, CredentialsError> {
    refuse_profile(settings)?;
    if let Some(path) = &settings.credentials_file {
        return google_file(path, &read_private(path)?);
    }
    if let Some(key) = settings.variable("GOOGLE_SERVICE_ACCOUNT_KEY") {
        return Ok(GoogleAccount::ServiceAccount(key));
    }
    let named = ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"];
    let named = named.iter().find_map(|name| settings.variable(name)).map(PathBuf::from);
    let usual = || Some(settings.home.as_ref()?.join(".config/gcloud/application_default_credentials.json"));
    let found = named.or_else(|| usual().filter(|path| path.exists()));
    let path = found
        .ok_or(CredentialsError::Nowhere { uses: "--credentials-file", variables: "GOOGLE_APPLICATION_CREDENTIALS" })?;
    google_file(&path, &read_limited(&path)?)
}

/// The WebDAV login from the credentials file; without a file there is none.
pub(super) fn webdav(settings: &CloudSettings) -> Result<Option<Login>, CredentialsError> {
    refuse_profile(settings)?;
    let Some(path) = &settings.credentials_file else { return Ok(None) };
    let section = only_section(path, &read_ini(path, &read_private(path)?)?, None)?;
    if let Ok(token) = section.take(&["token", "bearer_token"], "token") {
        return Ok(Some(Login::Token(token)));
    }
    let user = section.take(&["user", "username"], "user")?;
    Ok(Some(Login::Password { user, password: section.take(&["password", "pass"], "password")? }))
}

fn s3_from_files(settings: &CloudSettings) -> Result<S3Account, CredentialsError> {
    let nowhere = CredentialsError::Nowhere { uses: "--credentials-file", variables: "AWS_SHARED_CREDENTIALS_FILE" };
    let section = match &settings.credentials_file {
        Some(path) => only_section(path, &read_ini(path, &read_private(path)?)?, settings.profile.as_deref())?,
        None => {
            let path = shared_file(settings, "AWS_SHARED_CREDENTIALS_FILE", "credentials").ok_or(nowhere)?;
            only_section(&path, &read_ini(&path, &read_limited(&path)?)?, settings.profile.as_deref())?
        }
    };
    let mut account = S3Account {
        keys: s3_keys(
            section.take(&["aws_access_key_id"], "aws_access_key_id")?,
            section.take(&["aws_secret_access_key"], "aws_secret_access_key")?,
            section.take(&["aws_session_token"], "aws_session_token").ok(),
        ),
        region: section.take(&["region"], "region").ok(),
        endpoint: section.take(&["endpoint_url"], "endpoint_url").ok(),
    };
    if let Some(config) = s3_config_section(settings)? {
        account.region = account.region.or_else(|| config.take(&["region"], "region").ok());
        account.endpoint = account.endpoint.or_else(|| config.take(&["endpoint_url"], "endpoint_url").ok());
    }
    account.region = account.region.or_else(|| settings.variable("AWS_REGION"));
    Ok(account)
}

/// The profile's section of `~/.aws/config`, which holds no secrets; absent is fine.
fn s3_config_section(settings: &CloudSettings) -> Result<Option<Section>, CredentialsError> {
    let Some(profile) = settings.profile.as_deref() else { return Ok(None) };
    let path = shared_file(settings, "AWS_CONFIG_FILE", "config").filter(|path| path.exists());
    let Some(path) = path else { return Ok(None) };
    let ini = read_ini(&path, &read_limited(&path)?)?;
    let named = if profile == DEFAULT_SECTION { DEFAULT_SECTION.to_owned() } else { format!("profile {profile}") };
    Ok(only_section(&path, &ini, Some(&named)).ok())
}

fn azure_from_environment(settings: &CloudSettings) -> Result<Vec<(AzureConfigKey, String)>, CredentialsError> {
    let mut keys = Vec::new();
    for (name, value) in
        settings.environment.iter().filter(|(name, value)| name.starts_with("AZURE_") && !value.is_empty())
    {
        let name = name.to_ascii_lowercase();
        let name = if name == "azure_storage_account" { "azure_storage_account_name" } else { &name };
        let name = if name == "azure_storage_key" { "azure_storage_account_key" } else { name };
        match name.parse() {
            // Where data lies and how the line is used is not the environment's to say.
            Ok(AzureConfigKey::Client(_) | AzureConfigKey::ContainerName | AzureConfigKey::SkipSignature) | Err(_) => {}
            Ok(key) => keys.push((key, value.clone())),
        }
    }
    if keys.iter().any(|(key, _)| *key == AzureConfigKey::AccountName) {
        return Ok(keys);
    }
    Err(CredentialsError::Nowhere {
        uses: "--credentials-file",
        variables: "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    })
}

fn google_file(path: &Path, text: &str) -> Result<GoogleAccount, CredentialsError> {
    let not_google = || CredentialsError::NotGoogle { path: path.to_owned() };
    let json: serde_json::Value = serde_json::from_str(text).map_err(|_| not_google())?;
    match json.get("type").and_then(serde_json::Value::as_str) {
        Some("service_account") | None if json.get("private_key").is_some() => {
            Ok(GoogleAccount::ServiceAccount(text.to_owned()))
        }
        Some("authorized_user") => Ok(GoogleAccount::ApplicationDefault(path.to_owned())),
        _ => Err(not_google()),
    }
}

fn refuse_profile(settings: &CloudSettings) -> Result<(), CredentialsError> {
    if settings.profile.is_some() { Err(CredentialsError::ProfileNotForThis) } else { Ok(()) }
}

fn s3_keys(id: String, secret: String, token: Option<String>) -> Vec<(AmazonS3ConfigKey, String)> {
    let token = token.map(|token| (AmazonS3ConfigKey::Token, token));
    [(AmazonS3ConfigKey::AccessKeyId, id), (AmazonS3ConfigKey::SecretAccessKey, secret)]
        .into_iter()
        .chain(token)
        .collect()
}

fn s3_key(variable: &str) -> Option<AmazonS3ConfigKey> {
    variable.to_ascii_lowercase().parse().ok()
}

fn shared_file(settings: &CloudSettings, variable: &str, name: &str) -> Option<PathBuf> {
    let named = settings.variable(variable).map(PathBuf::from);
    named.or_else(|| Some(settings.home.as_ref()?.join(".aws").join(name)))
}

/// Reads a file that only its owner may read.
fn read_private(path: &Path) -> Result<String, CredentialsError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let unreadable = |source| CredentialsError::Unreadable { path: path.to_owned(), source };
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CredentialsError::ReadableByOthers { path: path.to_owned(), mode });
        }
    }
    read_limited(path)
}

fn read_limited(path: &Path) -> Result<String, CredentialsError> {
    let unreadable = |source| CredentialsError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(CredentialsError::TooLarge { path: path.to_owned(), bytes });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Section names keep their case, keys do not; a value may hold `#`, `;` and `:`. The parser's own words are dropped,
/// because they may quote a line.
fn read_ini(path: &Path, text: &str) -> Result<Sections, CredentialsError> {
    let mut rules = IniDefault::default();
    (rules.case_sensitive, rules.enable_inline_comments, rules.delimiters) = (true, false, vec!['=']);
    let parsed = Ini::new_from_defaults(rules).read(text.to_owned());
    let parsed = parsed.map_err(|_| CredentialsError::NotIni { path: path.to_owned() })?;
    let lower = |(key, value): (String, Option<String>)| Some((key.to_ascii_lowercase(), value?));
    Ok(parsed.into_iter().map(|(name, keys)| (name, keys.into_iter().filter_map(lower).collect())).collect())
}

/// One section of a file, which knows where it came from.
struct Section {
    path: PathBuf,
    name: String,
    keys: BTreeMap<String, String>,
}

impl Section {
    /// The value of the first of these names that is there.
    fn take(&self, names: &[&str], key: &'static str) -> Result<String, CredentialsError> {
        let found = names.iter().find_map(|name| self.keys.get(*name)).filter(|value| !value.is_empty()).cloned();
        found.ok_or_else(|| CredentialsError::NoKey { path: self.path.clone(), section: self.name.clone(), key })
    }
}

/// The named section; without a name the default one, else the only one.
fn only_section(path: &Path, sections: &Sections, named: Option<&str>) -> Result<Section, CredentialsError> {
    let name = match named {
        Some(name) => name,
        None if sections.contains_key(DEFAULT_SECTION) || sections.is_empty() => DEFAULT_SECTION,
        None if sections.len() == 1 => sections.keys().next().map_or(DEFAULT_SECTION, String::as_str),
        None => return Err(CredentialsError::ManySections { path: path.to_owned() }),
    };
    let keys = sections.get(name).cloned();
    let keys = keys.ok_or_else(|| CredentialsError::NoSection { path: path.to_owned(), section: name.to_owned() })?;
    Ok(Section { path: path.to_owned(), name: name.to_owned(), keys })
}

#[cfg(test)]
mod tests;
