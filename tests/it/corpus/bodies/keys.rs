//! Parsers of what keys are kept in. What is derived from a passphrase is left out: it takes its time by design.

use shard::crypto::{
    KeyFile, LimitedKey, MAX_KEY_FILE_BYTES, MAX_KIT_BYTES, MAX_LIMITED_KEY_BYTES, MAX_MASTER_KEYS,
    MAX_RECIPIENT_FILE_BYTES, RecipientKey, RecoveryKit, write_kit,
};

/// Longer files are not read.
fn fits(bytes: &[u8], most: u64) -> bool {
    bytes.len() as u64 <= most
}

pub(crate) fn key_file(bytes: &[u8]) -> bool {
    if !fits(bytes, MAX_KEY_FILE_BYTES) {
        return false;
    }
    match KeyFile::parse(bytes) {
        Ok(KeyFile::Plain(keyring)) => {
            assert!((1..=MAX_MASTER_KEYS).contains(&keyring.keys().len()));
            let text = keyring.to_key_file();
            let Ok(KeyFile::Plain(again)) = KeyFile::parse(text.as_bytes()) else {
                unreachable!("what is written is read");
            };
            assert_eq!((again.store_id(), again.keys().len()), (keyring.store_id(), keyring.keys().len()));
            true
        }
        // A passphrase that costs more memory than any may is refused here already.
        Ok(KeyFile::Sealed(_)) => true,
        Err(error) => refused(&error),
    }
}

pub(crate) fn limited_key(bytes: &[u8]) -> bool {
    if !fits(bytes, MAX_LIMITED_KEY_BYTES) {
        return false;
    }
    match LimitedKey::from_file(bytes) {
        Some(Ok(key)) => {
            let text = key.to_file();
            let again = LimitedKey::from_file(text.as_bytes()).expect("it says what it is").expect("it is read");
            assert_eq!((again.store_id(), again.settings()), (key.store_id(), key.settings()));
            assert_eq!(*again.to_file(), *text);
            true
        }
        Some(Err(error)) => refused(&error),
        None => false,
    }
}

pub(crate) fn recipient(bytes: &[u8]) -> bool {
    if !fits(bytes, MAX_RECIPIENT_FILE_BYTES) {
        return false;
    }
    let Ok(key) = RecipientKey::from_file(bytes) else { return false };
    assert_eq!(RecipientKey::from_file(key.to_file().as_bytes()), Ok(key), "what is written is read");
    true
}

pub(crate) fn kit(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if !fits(bytes, MAX_KIT_BYTES) {
        return false;
    }
    match RecoveryKit::parse(text) {
        Ok(kit) => {
            let settings = kit.settings.unwrap_or_default();
            let page = write_kit(&kit.keyring, "today", &settings, &kit.seeds);
            let again = RecoveryKit::parse(&page).expect("what is written is read");
            assert_eq!(again.keyring.store_id(), kit.keyring.store_id());
            assert_eq!(again.keyring.keys().len(), kit.keyring.keys().len());
            assert_eq!(again.seeds, kit.seeds);
            true
        }
        Err(error) => refused(&error),
    }
}

/// An error names lines and numbers, and never quotes the text that it is about.
fn refused(error: &dyn std::error::Error) -> bool {
    assert!(error.to_string().len() < 400, "{error}");
    false
}
