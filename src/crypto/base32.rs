//! Crockford's base 32, in which secrets are written for people to copy.

use zeroize::Zeroizing;

/// Crockford's base 32: no I, L, O or U, so that nothing is read as something else.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Five bits a character, from the first byte's highest on; a rest is filled with zeros.
pub(crate) fn base32(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().div_ceil(5) * 8));
    for at in 0..(bytes.len() * 8).div_ceil(5) {
        let bits =
            (at * 5..at * 5 + 5).map(|bit| bytes.get(bit / 8).is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1));
        let value = bits.fold(0_usize, |value, bit| value << 1 | usize::from(bit));
        text.push(char::from(ALPHABET[value]));
    }
    text
}

/// The bytes again, from however a person types them; `None` where a character is none, or bits are left over.
pub(crate) fn from_base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 5 / 8));
    let (mut held, mut bits) = (0_u32, 0);
    for character in text.chars().filter(|character| !character.is_whitespace() && *character != '-') {
        let value = ALPHABET.iter().position(|other| char::from(*other) == readable(character))?;
        (held, bits) = (held << 5 | value as u32, bits + 5);
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    (held == 0 && bits < 5).then_some(bytes)
}

/// The character that was meant.
fn readable(character: char) -> char {
    match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    }
}

pub(crate) fn readable_text(text: &str) -> Zeroizing<String> {
    // No character becomes longer: grown once, so that no copy is left behind by growing.
    let mut readable_text = Zeroizing::new(String::with_capacity(text.len()));
    readable_text.extend(text.chars().filter(|character| !character.is_whitespace()).map(readable));
    readable_text
}
