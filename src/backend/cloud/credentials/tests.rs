//! Where credentials are found, and that they are never shown.

use super::*;
use std::os::unix::fs::PermissionsExt;

const SECRET: &str = "wJalr#XUt;nFEMI/K7:MDENG=bPx";

fn write(folder: &tempfile::TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    path
}

fn with_file(path: PathBuf) -> CloudSettings {
    CloudSettings { credentials_file: Some(path), ..CloudSettings::default() }
}

fn key(account: &S3Account, key: AmazonS3ConfigKey) -> Option<&str> {
    account.keys.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn an_s3_file_is_read_with_and_without_a_section() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = format!("aws_access_key_id = AKID\naws_secret_access_key = {SECRET}\naws_session_token=t==\n");
    for text in [body.clone(), format!("[default]\n{body}"), format!("# mine\n[work]\n{body}")] {
        let account = s3(&with_file(write(&folder, "keys", &text, 0o600))).expect("an account");
        assert_eq!(key(&account, AmazonS3ConfigKey::AccessKeyId), Some("AKID"));
        assert_eq!(key(&account, AmazonS3ConfigKey::SecretAccessKey), Some(SECRET));
        assert_eq!(key(&account, AmazonS3ConfigKey::Token), Some("t=="));
        assert!(!format!("{account:?}").contains(SECRET));
    }
}

#[test]
fn a_file_that_others_can_read_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    for mode in [0o640, 0o604, 0o644] {
        let path = write(&folder, "keys", &format!("aws_secret_access_key={SECRET}"), mode);
        let error = s3(&with_file(path.clone())).expect_err("refused").to_string();
        assert!(error.contains("chmod 600") && !error.contains(SECRET), "{error}");
        assert!(webdav(&with_file(path.clone())).is_err() && azure(&with_file(path.clone())).is_err());
        assert!(google(&with_file(path)).is_err());
    }
}

#[test]
fn a_broken_file_is_refused_without_quoting_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for text in [format!("[{SECRET}"), format!("={SECRET}"), SECRET.to_owned(), format!("[a]\nx={SECRET}\n[b]\n")] {
        let path = write(&folder, "keys", &text, 0o600);
        for error in [s3(&with_file(path.clone())).err(), google(&with_file(path)).err()] {
            let error = error.expect("refused").for_place("s3://b");
            assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
        }
    }
}

#[test]
fn each_profile_is_its_own_account_and_the_environment_does_not_mix_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[one]\naws_access_key_id=A1\naws_secret_access_key=S1\n[two]\naws_access_key_id=A2\naws_secret_access_key=S2\n";
    write(&folder, ".aws/credentials", text, 0o600);
    write(&folder, ".aws/config", "[profile two]\nregion = eu-west-3\ns3 =\n  addressing_style = path\n", 0o644);
    let variables = [("AWS_ACCESS_KEY_ID", "AE"), ("AWS_SECRET_ACCESS_KEY", "SE"), ("AWS_ENDPOINT_URL", "http://e")];
    let settings = |profile: &str| CloudSettings {
        profile: Some(profile.to_owned()),
        home: Some(folder.path().to_owned()),
        environment: environment(&variables),
        ..CloudSettings::default()
    };
    let one = s3(&settings("one")).expect("an account");
    let two = s3(&settings("two")).expect("an account");
    assert_eq!(key(&one, AmazonS3ConfigKey::AccessKeyId), Some("A1"));
    assert_eq!(key(&two, AmazonS3ConfigKey::SecretAccessKey), Some("S2"));
    assert_eq!((one.region, one.endpoint), (None, None));
    assert_eq!(two.region.as_deref(), Some("eu-west-3"));
    let error = s3(&settings("three")).expect_err("no such profile").to_string();
    assert!(error.contains("[three]"), "{error}");
    let from_environment = s3(&CloudSettings { profile: None, ..settings("one") }).expect("an account");
    assert_eq!(key(&from_environment, AmazonS3ConfigKey::AccessKeyId), Some("AE"));
    assert_eq!(from_environment.endpoint.as_deref(), Some("http://e"));
}

#[test]
fn without_any_credentials_the_way_to_give_them_is_said() {
    let nothing = CloudSettings::default();
    assert!(s3(&nothing).expect_err("none").to_string().contains("AWS_ACCESS_KEY_ID"));
    assert!(azure(&nothing).expect_err("none").to_string().contains("AZURE_STORAGE_ACCOUNT_NAME"));
    assert!(google(&nothing).err().expect("none").to_string().contains("GOOGLE_APPLICATION_CREDENTIALS"));
    assert!(webdav(&nothing).expect("a login is not needed").is_none());
    let role = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "arn:x")];
    let role = s3(&CloudSettings { environment: environment(&role), ..CloudSettings::default() }).expect("a role");
    assert_eq!(key(&role, AmazonS3ConfigKey::RoleArn), Some("arn:x"));
}

#[test]
fn azure_and_webdav_files_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = write(&folder, "azure", "account_name = acc\naccount_key = a2V5\n", 0o600);
    let keys = azure(&with_file(path)).expect("an account");
    assert_eq!(keys[0], (AzureConfigKey::AccountName, "acc".to_owned()));
    assert_eq!(keys[1], (AzureConfigKey::AccessKey, "a2V5".to_owned()));
    let path = write(&folder, "dav", &format!("user = me\npassword = {SECRET}\n"), 0o600);
    let login = webdav(&with_file(path)).expect("a file");
    assert!(matches!(login, Some(Login::Password { user, password }) if user == "me" && password == SECRET));
    let environment = environment(&[("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_KEY", "a2V5"), ("AZURE_X", "y")]);
    let keys = azure(&CloudSettings { environment, ..CloudSettings::default() }).expect("an account");
    assert_eq!(keys.len(), 2);
}
