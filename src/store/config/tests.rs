//! What settings promise: nothing of a person's is lost, nothing wrong is taken, two changes at once both count.

use super::*;
use crate::id::BackendId;

const HAND_WRITTEN: &str = r#"# my settings
default_level = "federation" # we are many

# the box under the stairs
[[backend]]
url = "/mnt/nas"   # NFS
name = "nas"
id = "000102030405060708090a0b0c0d0e0f"
quota = "500 GB" # half of it

# far away
[[backend]]
name = "far"
id = "100102030405060708090a0b0c0d0e0f"
url = "s3://bucket/shards"
region = "eu-north-1"
# that is all
"#;

fn folder_with(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config.toml");
    fs::write(&path, text).expect("a small file");
    (folder, path)
}

fn spec(name: &str, id: u8) -> BackendSpec {
    let text = format!("[[backend]]\nname = {name:?}\nid = \"{}\"\nurl = \"/mnt/{name}\"\n", BackendId([id; 16]));
    text::parse(&text).expect("settings").backends.remove(0)
}

fn problem(text: &str) -> Problem {
    let (_folder, path) = folder_with(text);
    match Config::load(&path) {
        Err(Error::Content { problem, .. }) => problem,
        other => unreachable!("{text}: {other:?}"),
    }
}

fn edited(change: impl FnOnce(&mut Config)) -> String {
    let (_folder, path) = folder_with(HAND_WRITTEN);
    edit(&path, |config| {
        change(config);
        Ok::<_, Error>(())
    })
    .expect("an edit");
    fs::read_to_string(&path).expect("settings")
}

#[test]
fn settings_written_by_hand_are_understood() {
    let (_folder, path) = folder_with(HAND_WRITTEN);
    let config = Config::load(&path).expect("settings");
    assert_eq!(config.default_level, RedundancyLevel::Federation);
    let names: Vec<_> = config.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["nas", "far"]);
    assert_eq!(config.backends[0].quota, Some(500_000_000_000));
    assert_eq!(config.backends[1].region.as_deref(), Some("eu-north-1"));
}

#[test]
fn no_text_at_all_is_the_default() {
    let (_folder, path) = folder_with("");
    assert_eq!(Config::load(&path).expect("settings"), Config::default());
}

#[test]
fn an_added_backend_leaves_every_line_as_it_was() {
    let text = edited(|config| config.backends.push(BackendSpec { quota: Some(1 << 40), ..spec("new", 7) }));
    assert!(text.starts_with(HAND_WRITTEN.trim_end_matches("# that is all\n")), "{text}");
    assert!(text.contains("# that is all"), "{text}");
    assert!(text.contains("\n\n[[backend]]\nname = \"new\""), "{text}");
    assert!(text.contains("quota = \"1TiB\""), "{text}");
}

#[test]
fn a_changed_backend_keeps_its_comments_and_the_order_of_its_keys() {
    let text = edited(|config| {
        config.backends[0].url = "/mnt/other".into();
        config.backends[0].draining = true;
        config.backends[1].region = None;
        config.default_level = "4/6".parse().expect("a level");
    });
    let expected = HAND_WRITTEN
        .replace("/mnt/nas", "/mnt/other")
        .replace("half of it\n", "half of it\ndraining = true\n")
        .replace("region = \"eu-north-1\"\n", "")
        .replace("federation", "4/6");
    assert_eq!(text, expected);
}

#[test]
fn a_removed_backend_takes_only_its_own_lines_along() {
    let text = edited(|config| drop(config.backends.remove(0)));
    for kept in ["# my settings", "# we are many", "# far away", "# that is all"] {
        assert!(text.contains(kept), "{kept} is not in {text}");
    }
    assert!(!text.contains("nas") && !text.contains("stairs"), "{text}");
    let none = edited(|config| config.backends.clear());
    assert_eq!(text::parse(&none).expect("settings").backends, []);
}

#[test]
fn backends_written_on_one_line_can_be_changed_too() {
    let id = BackendId([1; 16]);
    let text = format!("backend = [{{ name = \"a\", id = \"{id}\", url = \"/a\", quota = \"1MB\" }}]\n");
    let (_folder, path) = folder_with(&text);
    edit(&path, |config| {
        config.backends.push(spec("b", 2));
        Ok::<_, Error>(())
    })
    .expect("an edit");
    let config = Config::load(&path).expect("settings");
    assert_eq!(config.backends[0].quota, Some(1_000_000));
    assert_eq!(config.backends.len(), 2);
}

#[test]
fn what_is_wrong_is_said_with_line_and_key() {
    let line = |text: &str| match problem(text) {
        Problem::Line { line, key, message } => (line, key.unwrap_or_default(), message),
        other => unreachable!("{other:?}"),
    };
    let (at, key, message) = line(&HAND_WRITTEN.replace("url = \"/mnt/nas\"", "colour = 1\nurl = \"/mnt/nas\""));
    assert_eq!((at, key.as_str()), (6, "colour"));
    assert!(message.contains("colour"), "{message}");
    let (at, key, message) = line("\ndefault_level = \"lots\"\n");
    assert_eq!((at, key.as_str()), (2, "default_level"));
    assert!(message.contains("neither a level"), "{message}");
    let (at, key, message) = line(&HAND_WRITTEN.replace("500 GB", "lots"));
    assert_eq!((at, key.as_str()), (9, "quota"));
    assert!(message.contains("500GB"), "{message}");
    assert_eq!(line("level = 1\n").0, 1);
    assert_eq!(line("\n\n[[backend\n").0, 3);
    let (at, _, message) = line("\n[[backend]]\nname = \"a\"\n");
    assert_eq!(at, 2);
    assert!(message.contains("missing field"), "{message}");
    assert_eq!(line(&HAND_WRITTEN.replace("\"500 GB\"", "-5")).0, 9);
    assert_eq!(line(&HAND_WRITTEN.replace("500 GB", "16EiB")).0, 9);
}

#[test]
fn names_and_ids_are_used_once() {
    let twice = |from: &str, to: &str| problem(&HAND_WRITTEN.replace(from, to));
    assert_eq!(twice("\"far\"", "\"nas\""), Problem::TwoOfOneName { name: "nas".into() });
    let same_id = twice("1001020304", "0001020304");
    assert_eq!(same_id, Problem::TwoOfOneId { first: "nas".into(), second: "far".into() });
    let (_folder, path) = folder_with(HAND_WRITTEN);
    let added = edit(&path, |config| {
        config.backends.push(spec("nas", 9));
        Ok::<_, Error>(())
    });
    assert!(matches!(added, Err(Error::Content { problem: Problem::TwoOfOneName { .. }, .. })));
    assert_eq!(fs::read_to_string(&path).expect("settings"), HAND_WRITTEN);
}

#[test]
fn first_settings_are_created_once_and_explain_themselves() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("config.toml");
    assert!(matches!(Config::load(&path), Err(Error::Missing { .. })));
    let config = Config {
        default_level: RedundancyLevel::Minimal,
        seal: Seal::None,
        catalog_backup: false,
        backends: vec![spec("a", 1), spec("b", 2)],
    };
    Config::create(&path, &config).expect("first settings");
    assert_eq!(Config::load(&path).expect("settings"), config);
    let text = fs::read_to_string(&path).expect("settings");
    assert!(text.starts_with("# The settings") && text.contains("default_level = \"minimal\""), "{text}");
    assert!(matches!(Config::create(&path, &config), Err(Error::AlreadyExists { .. })));
}

#[test]
fn a_change_that_fails_or_changes_nothing_leaves_the_file_alone() {
    let (_folder, path) = folder_with(HAND_WRITTEN);
    let before = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
    edit(&path, |_| Ok::<_, Error>(())).expect("no change");
    let failed = edit(&path, |config| {
        config.backends.clear();
        Err::<(), _>(Error::Missing { path: "x".into() })
    });
    assert!(matches!(failed, Err(Error::Missing { .. })));
    assert_eq!(fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time"), before);
    assert_eq!(fs::read_to_string(&path).expect("settings"), HAND_WRITTEN);
}

#[test]
fn changes_at_once_lose_nothing() {
    let (_folder, path) = folder_with(HAND_WRITTEN);
    std::thread::scope(|scope| {
        for writer in 0..8_u8 {
            let path = &path;
            scope.spawn(move || {
                for turn in 0..5_u8 {
                    let added = spec(&format!("b-{writer}-{turn}"), 100 + writer * 5 + turn);
                    edit(path, |config| {
                        config.backends.push(added);
                        Ok::<_, Error>(())
                    })
                    .expect("an edit");
                }
            });
        }
    });
    assert_eq!(Config::load(&path).expect("settings").backends.len(), 2 + 8 * 5);
    assert!(!beside(&path, "new").exists());
}

#[cfg(unix)]
#[test]
fn a_link_and_the_permissions_of_what_it_leads_to_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, path) = folder_with(HAND_WRITTEN);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("permissions");
    let link = folder.path().join("link.toml");
    symlink(&path, &link).expect("a link");
    edit(&link, |config| {
        config.default_level = RedundancyLevel::Minimal;
        Ok::<_, Error>(())
    })
    .expect("an edit");
    assert!(link.symlink_metadata().expect("a link").is_symlink());
    assert_eq!(fs::metadata(&path).expect("settings").permissions().mode() & 0o777, 0o640);
    assert_eq!(Config::load(&path).expect("settings").default_level, RedundancyLevel::Minimal);
}

#[test]
fn the_seal_is_any_that_there_is_and_nothing_else() {
    for seal in Seal::ALL {
        let text = text::BEGINNING.replace("seal = \"key\"", &format!("seal = \"{seal}\""));
        assert!(text::parse(&text).is_ok_and(|config| config.seal == seal), "{seal}");
    }
    let refused = text::parse(&text::BEGINNING.replace("seal = \"key\"", "seal = \"wax\"")).expect_err("no seal");
    assert!(matches!(&refused, Problem::Line { .. }), "{refused}");
}
