//! The one place that reads the environment and knows the home folder.

use super::failure::{Failure, FailureKind};
use super::passphrase::PassphraseVariables;
use etcetera::BaseStrategy;
use shard::codec::Engine;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Names the store's folder.
const STORE_VARIABLE: &str = "SHARD_STORE";
/// The store's folder below the place for data.
const STORE_FOLDER: &str = "shard";
/// Name a file with the passphrase of the key, or hold it.
const PASSPHRASE_VARIABLES: [&str; 2] = ["SHARD_PASSPHRASE_FILE", "SHARD_PASSPHRASE"];
/// The same for the passphrase that is to come in its place.
const NEW_PASSPHRASE_VARIABLES: [&str; 2] = ["SHARD_NEW_PASSPHRASE_FILE", "SHARD_NEW_PASSPHRASE"];
/// Names a file with the seed of a group of nodes.
const SEED_FILE_VARIABLE: &str = "SHARD_SEED_FILE";
/// Names the engine that blocks are coded with.
const CODEC_VARIABLE: &str = "SHARD_CODEC";
/// Where a service manager wants to be told how things stand.
const NOTIFY_VARIABLE: &str = "NOTIFY_SOCKET";
/// What the variables with a provider's credentials and settings begin with.
const CLOUD_PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// What the process was given by those who started it, taken once.
#[derive(Clone)]
pub(crate) struct Environment {
    store_variable: Option<PathBuf>,
    codec_variable: Option<OsString>,
    /// The socket of a service manager.
    pub(crate) notify_socket: Option<OsString>,
    data_folder: Option<PathBuf>,
    /// The home folder, where there is one.
    pub(crate) home: Option<PathBuf>,
    /// The folder for temporary files.
    pub(crate) temporary: PathBuf,
    /// A file with the seed of a group of nodes, where the variable names one.
    pub(crate) seed_file: Option<PathBuf>,
    /// The variables of cloud providers.
    pub(crate) cloud: BTreeMap<String, String>,
    /// What gives the passphrase of the key.
    pub(crate) passphrase: PassphraseVariables,
    /// What gives the passphrase that is to come in its place.
    pub(crate) new_passphrase: PassphraseVariables,
}

impl Environment {
    /// The environment of this process.
    pub(crate) fn capture() -> Self {
        let strategy = etcetera::base_strategy::Xdg::new().ok();
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            store_variable: variable(STORE_VARIABLE).map(PathBuf::from),
            codec_variable: variable(CODEC_VARIABLE),
            notify_socket: variable(NOTIFY_VARIABLE),
            data_folder: strategy.as_ref().map(BaseStrategy::data_dir),
            home: strategy.as_ref().map(|strategy| strategy.home_dir().to_owned()),
            temporary: std::env::temp_dir(),
            seed_file: variable(SEED_FILE_VARIABLE).map(PathBuf::from),
            cloud: cloud_variables(std::env::vars_os()),
            passphrase: passphrase_variables(PASSPHRASE_VARIABLES),
            new_passphrase: passphrase_variables(NEW_PASSPHRASE_VARIABLES),
        }
    }

    /// Makes the engine that the variable names the default of this process; without it nothing is changed.
    pub(crate) fn choose_codec_engine(&self) -> Result<(), Failure> {
        let Some(name) = &self.codec_variable else { return Ok(()) };
        let chosen = name.to_string_lossy().parse::<Engine>().and_then(Engine::use_by_default);
        chosen.map_err(|error| {
            let names: Vec<_> = Engine::available().into_iter().map(Engine::name).collect();
            let failure =
                Failure::new(FailureKind::Usage, format!("{CODEC_VARIABLE} cannot be followed")).because(error);
            failure.hint(format!("unset {CODEC_VARIABLE}, or set it to one of {}", names.join(", ")))
        })
    }

    /// The store's folder, absolute: the flag, else the variable, else the place for a person's data.
    pub(crate) fn store_folder(&self, flag: Option<&Path>) -> Result<PathBuf, Failure> {
        let by_default = || self.data_folder.as_ref().map(|data| data.join(STORE_FOLDER));
        let chosen = flag.map(Path::to_owned).or_else(|| self.store_variable.clone()).or_else(by_default);
        let Some(folder) = chosen else {
            let failure = Failure::new(FailureKind::NoStore, "there is no home folder to look for the store in");
            return Err(failure.hint("name the store's folder with --store DIR or SHARD_STORE"));
        };
        std::path::absolute(&folder).map_err(|error| {
            Failure::new(FailureKind::NoStore, format!("{} is no folder for a store", folder.display())).because(error)
        })
    }
}

fn passphrase_variables([file, text]: [&str; 2]) -> PassphraseVariables {
    PassphraseVariables::new(std::env::var_os(file), std::env::var_os(text))
}

impl std::fmt::Debug for Environment {
    /// Says which variables there are, never what is in them: they are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.cloud.keys().collect();
        f.debug_struct("Environment")
            .field("store_variable", &self.store_variable)
            .field("codec_variable", &self.codec_variable)
            .field("data_folder", &self.data_folder)
            .field("home", &self.home)
            .field("seed_file", &self.seed_file)
            .field("cloud", &names)
            .finish()
    }
}

/// The variables of cloud providers; a value that is not UTF-8 is no credential and is left out.
fn cloud_variables(all: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let text = |value: &OsStr| value.to_str().map(str::to_owned);
    all.filter_map(|(name, value)| Some((text(&name)?, text(&value)?)))
        .filter(|(name, _)| CLOUD_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(store: Option<&str>, data: Option<&str>) -> Environment {
        Environment {
            store_variable: store.map(PathBuf::from),
            codec_variable: None,
            notify_socket: None,
            data_folder: data.map(PathBuf::from),
            home: None,
            temporary: PathBuf::from("/tmp"),
            seed_file: None,
            cloud: BTreeMap::new(),
            passphrase: PassphraseVariables::default(),
            new_passphrase: PassphraseVariables::default(),
        }
    }

    #[test]
    fn the_flag_comes_before_the_variable_and_that_before_the_home_folder() {
        let both = environment(Some("/variable"), Some("/home/.local/share"));
        assert_eq!(both.store_folder(Some(Path::new("/flag"))), Ok("/flag".into()));
        assert_eq!(both.store_folder(None), Ok("/variable".into()));
        assert_eq!(environment(None, Some("/data")).store_folder(None), Ok("/data/shard".into()));
        let failure = environment(None, None).store_folder(None).expect_err("nowhere to look");
        assert_eq!(failure.kind, FailureKind::NoStore);
    }

    #[test]
    fn a_store_folder_is_absolute() {
        let folder = environment(None, None).store_folder(Some(Path::new("here"))).expect("a folder");
        assert!(folder.is_absolute() && folder.ends_with("here"));
    }

    #[test]
    fn only_variables_of_cloud_providers_are_taken_and_never_shown() {
        let all =
            [("AWS_SECRET_ACCESS_KEY", "hush"), ("AZURE_X", "1"), ("GOOGLE_Y", "2"), ("PATH", "/bin"), ("AWS", "")];
        let cloud = cloud_variables(all.into_iter().map(|(name, value)| (name.into(), value.into())));
        let names: Vec<_> = cloud.keys().map(String::as_str).collect();
        assert_eq!(names, ["AWS_SECRET_ACCESS_KEY", "AZURE_X", "GOOGLE_Y"]);
        let shown = format!("{:?}", Environment { cloud, ..environment(None, None) });
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("hush"));
    }
}
