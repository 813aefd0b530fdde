//! What a kit gives back, and that no slip of the hand in it goes unseen.

use super::*;
use crate::id::Digest;

const SETTINGS: &str = "default_level = \"personal\"\n\n[[backend]]\nname = \"nas\"\nurl = \"/mnt/nas#1\"\n";
const DATE: &str = "2026-11-21";

fn keyring(count: u8) -> Keyring {
    let key = |number: u8| MasterKey::from_bytes(*blake3::hash(&[number]).as_bytes());
    Keyring::from_keys((0..count).map(key).collect()).expect("a keyring")
}

fn seeds() -> [KitSeed; 2] {
    [Zeroizing::new([0xa5; 32]), Zeroizing::new([0x17; 32])]
}

fn page(count: u8) -> Zeroizing<String> {
    write_kit(&keyring(count), DATE, SETTINGS, &seeds())
}

fn ids(keyring: &Keyring) -> Vec<Digest> {
    keyring.keys().iter().map(MasterKey::key_id).collect()
}

/// The lines of the settings without the empty ones, as a kit gives them back.
fn settings() -> String {
    SETTINGS.replace("\n\n", "\n")
}

#[test]
fn a_kit_gives_keys_and_settings_back() {
    for count in [1, 2, 9, 64] {
        let kit = RecoveryKit::parse(&page(count)).expect("a kit");
        assert_eq!(ids(&kit.keyring), ids(&keyring(count)));
        assert_eq!(kit.seeds, seeds());
        assert_eq!(kit.settings, Some(settings()));
    }
    let without = write_kit(&keyring(1), DATE, SETTINGS, &[]);
    assert!(!without.contains("seed"), "{}", *without);
    assert!(RecoveryKit::parse(&without).expect("a kit").seeds.is_empty());
    let shown = format!("{:?}", RecoveryKit::parse(&page(1)).expect("a kit"));
    assert!(!shown.contains("165") && !shown.contains("seeds"), "{shown}");
}

#[test]
fn a_kit_is_read_however_it_was_typed() {
    let typed = page(2)
        .lines()
        .filter(|line| is_key_label(line.split_whitespace().next().unwrap_or_default()))
        .map(|line| line.to_lowercase().replace('0', "o").replace('1', "l"))
        .map(|line| {
            format!(
                "{} \r\n",
                line.trim().replacen("l-l", "1-1", 1).replacen("l-2", "1-2", 1).replacen("2-l", "2-1", 1)
            )
        })
        .collect::<String>();
    let head = format!("store {}\nkeys 2\n", keyring(2).store_id());
    let kit = RecoveryKit::parse(&(head + &typed)).expect("a kit");
    assert_eq!(ids(&kit.keyring), ids(&keyring(2)));
    assert_eq!(kit.settings, None);
}

/// Puts each line of the page through a change, and expects an error or the very same kit.
fn no_change_goes_unseen(change: impl Fn(&[char], usize) -> Option<Vec<char>>) -> usize {
    let page = page(2);
    let lines: Vec<Vec<char>> = page.lines().map(|line| line.chars().collect()).collect();
    let mut found = 0;
    for (index, line) in lines.iter().enumerate() {
        for at in 0..line.len() {
            let Some(changed) = change(line, at).filter(|changed| changed != line) else { continue };
            let mut all = lines.clone();
            all[index] = changed;
            let text: String = all.iter().map(|line| line.iter().collect::<String>() + "\n").collect();
            match RecoveryKit::parse(&text) {
                Ok(kit) => {
                    let same = ids(&kit.keyring) == ids(&keyring(2))
                        && kit.seeds == seeds()
                        && kit.settings.unwrap_or(settings()) == settings();
                    assert!(same, "line {} at {at} is read differently", index + 1);
                }
                Err(KitError::Line { line, .. }) => {
                    found += 1;
                    // A settings line that is no longer one is noticed at the next.
                    let next = lines[index].contains(&'#') && line == index + 2;
                    assert!(line == index + 1 || next, "line {} at {at} is blamed on {line}", index + 1);
                }
                Err(_) => found += 1,
            }
        }
    }
    found
}

#[test]
fn a_mistyped_character_is_found_and_named_by_its_line() {
    let replaced = |with: char| {
        move |line: &[char], at: usize| {
            let mut changed = line.to_vec();
            changed[at] = with;
            Some(changed)
        }
    };
    for with in ['7', 'K', '#', ' '] {
        assert!(no_change_goes_unseen(replaced(with)) > 150, "{with}");
    }
}

#[test]
fn two_characters_that_changed_places_are_found() {
    let swapped = |line: &[char], at: usize| {
        let mut changed = line.to_vec();
        (at + 1 < line.len()).then(|| changed.swap(at, at + 1))?;
        Some(changed)
    };
    assert!(no_change_goes_unseen(swapped) > 150);
}

#[test]
fn a_character_too_many_or_too_few_is_found() {
    let without = |line: &[char], at: usize| Some([&line[..at], &line[at + 1..]].concat());
    let twice = |line: &[char], at: usize| Some([&line[..=at], &line[at..]].concat());
    assert!(no_change_goes_unseen(without) > 150);
    assert!(no_change_goes_unseen(twice) > 150);
}

#[test]
fn lines_that_are_missing_or_changed_places_are_found() {
    let page = page(2);
    let lines: Vec<&str> = page.lines().collect();
    let is_read = |line: &str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        ["store", "keys", "seeds", "settings"].contains(&first)
            || is_key_label(first)
            || is_seed_label(first)
            || ends_in_a_check(line)
    };
    let read: Vec<usize> = (0..lines.len()).filter(|index| is_read(lines[*index])).collect();
    assert_eq!(read.len(), 4 + 4 + 2 + 4);
    for (position, index) in read.iter().enumerate() {
        let mut without = lines.clone();
        without.remove(*index);
        assert!(RecoveryKit::parse(&without.join("\n")).is_err(), "line {} missing", index + 1);
        let Some(next) = read.get(position + 1).filter(|_| position >= 4 && ![7, 9].contains(&position)) else {
            continue;
        };
        let mut swapped = lines.clone();
        swapped.swap(*index, *next);
        assert!(RecoveryKit::parse(&swapped.join("\n")).is_err(), "lines {} and {} swapped", index + 1, next + 1);
    }
}

#[test]
fn the_short_form_gives_the_keys_back_and_no_change_goes_unseen() {
    let short = short_form(&keyring(2));
    for text in [short.as_str(), &format!("  {}\n", short.to_lowercase())] {
        assert_eq!(ids(&RecoveryKit::parse(text).expect("a kit").keyring), ids(&keyring(2)));
    }
    for at in SHORT_FORM.len()..short.len() {
        let mut changed: Vec<char> = short.chars().collect();
        changed[at] = if changed[at] == 'K' { '7' } else { 'K' };
        let text: String = changed.into_iter().collect();
        assert_eq!(RecoveryKit::parse(&text).err(), Some(KitError::ShortForm), "character {at}");
        assert!(RecoveryKit::parse(&short[..at]).is_err(), "{at} characters");
    }
}

#[test]
fn what_is_no_kit_is_said_to_be_none() {
    for text in ["", "hello\n", "{}", "date 2026-11-21\n", "SHARD-KIT:2:ABC"] {
        assert_eq!(RecoveryKit::parse(text).err(), Some(KitError::NoKit), "{text}");
    }
}

#[test]
fn a_kit_has_everything_a_person_needs_on_it() {
    let page = page(1);
    let store = keyring(1).store_id().to_string();
    for said in
        [&store, DATE, "IN PLAIN", "No password", "shard key import", "shard catalog rebuild", "/mnt/nas#1", "█"]
    {
        assert!(page.contains(said), "{said}");
    }
    let widest = page.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|widest| widest <= 120), "{widest:?} characters do not fit a printed page");
    assert!(!write_kit(&keyring(9), DATE, SETTINGS, &[]).contains('█'), "too many keys for a code");
}

#[test]
fn base32_gives_every_byte_back() {
    for length in 0..=41_u8 {
        let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(151)).collect();
        assert_eq!(from_base32(&base32(&bytes)).as_deref(), Some(&bytes));
    }
    assert_eq!(base32(&[0xff, 0, 0x80]).as_str(), "ZW080");
    assert!(from_base32("U0").is_none() && from_base32("01").is_none());
}
