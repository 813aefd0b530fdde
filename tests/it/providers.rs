//! One provider does the cryptography: the tree of what the program is built from is read, and the exceptions are named.

use std::process::Command;

/// Other implementations of what AWS-LC does here.
const REFUSED: [&str; 17] = [
    "aes",
    "aes-gcm",
    "aes-gcm-siv",
    "boring",
    "chacha20poly1305",
    "ed25519",
    "ed25519-dalek",
    "graviola",
    "hmac",
    "libsodium-sys",
    "openssl",
    "openssl-sys",
    "orion",
    "p256",
    "ring",
    "rsa",
    "sodiumoxide",
];
/// What cryptography there is besides, and through which dependency alone.
const EXCEPTIONS: [(&str, &str); 9] = [
    // The public key that others seal to.
    ("ml-kem", "x-wing"),
    ("x25519-dalek", "x-wing"),
    ("curve25519-dalek", "x-wing"),
    ("sha3", "x-wing"),
    ("keccak", "x-wing"),
    ("blake2", "argon2"),
    // Of a hash that is not used: the trees have their own.
    ("sha2", "rs_merkle"),
    // What providers of buckets ask for as a checksum.
    ("md-5", "object_store"),
    // Under the generator of random numbers that these two bring.
    ("chacha20", "rand"),
];

/// Every package that is built into the program, with the packages through which it comes.
fn packages() -> Vec<Vec<String>> {
    let flags = ["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "depth", "--no-dedupe"];
    let output = Command::new(env!("CARGO")).args(flags).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut path, mut all) = (Vec::<String>::new(), Vec::new());
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let digits = line.find(|character: char| !character.is_ascii_digit()).expect("a name");
        let name = line[digits..].split_whitespace().next().expect("a name");
        path.truncate(line[..digits].parse().expect("a depth"));
        path.push(name.to_owned());
        all.push(path.clone());
    }
    all
}

fn complaints(packages: &[Vec<String>]) -> Vec<String> {
    let wrong = |path: &&Vec<String>| {
        let name = path.last().expect("it has itself").as_str();
        let only_through = EXCEPTIONS.iter().find(|(exception, _)| *exception == name).map(|(_, through)| *through);
        REFUSED.contains(&name) || only_through.is_some_and(|through| !path.iter().any(|other| other == through))
    };
    packages.iter().filter(wrong).map(|path| path.join(" > ")).collect()
}

#[test]
fn one_provider_does_the_cryptography_but_for_the_exceptions_that_are_named() {
    let packages = packages();
    assert_eq!(complaints(&packages), Vec::<String>::new());
    let is_there = |name: &str| packages.iter().any(|path| path.last().is_some_and(|last| last == name));
    for (exception, through) in EXCEPTIONS {
        assert!(is_there(exception) && is_there(through), "{exception} through {through} is an exception no more");
    }
    assert!(is_there("aws-lc-rs"));
}

#[test]
fn another_provider_is_seen() {
    let path = |names: &[&str]| vec![names.iter().map(|name| (*name).to_owned()).collect()];
    assert_eq!(complaints(&path(&["shard", "rustls", "ring"])), ["shard > rustls > ring"]);
    assert_eq!(complaints(&path(&["shard", "curve25519-dalek"])).len(), 1);
    assert!(complaints(&path(&["shard", "x-wing", "x25519-dalek", "curve25519-dalek"])).is_empty());
}
