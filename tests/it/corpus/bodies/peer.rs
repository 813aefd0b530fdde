//! What comes from a node, known or not, and what people write of nodes: frames, handshakes, requests and answers of the
//! storage service with grants, addresses, seeds.

use shard::id::NodeId;
use shard::peer::storage::{MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, StorageAnswer, StorageCall};
use shard::peer::{
    Admitted, Channel, Control, FRAME_HEADER_BYTES, FrameReader, GroupSeed, Handshake, HandshakeError,
    MAX_CONTROL_BYTES, MAX_HANDSHAKE_FRAME_BYTES, MAX_MESSAGE_BYTES, MAX_SEED_TEXT_BYTES, MAX_SEEDS, MAX_VERSION,
    MIN_VERSION, NodeIdentity, PeerAddress, SeedError, SeedRing, Step, StreamPurpose, frame,
};

/// As `src/peer/PROTOCOL.md` has it: the proofs are computed here by themselves, beside the program.
const SESSION_KEY: &str = "shard v1 2026-11-21 group session key";
const SEED: [u8; 32] = [7; 32];
const EXPORTER: [u8; 32] = [9; 32];
const MAC_BYTES: usize = 32;
/// A greeting up to the number of its proofs, and a welcome up to its proof.
const GREETING_HEAD_BYTES: usize = 8 + 2 + 2 + 32 + 32;
const WELCOME_HEAD_BYTES: usize = 8 + 2 + 32 + 32;
const DEADLINE_MS: u64 = 5000;

/// The first byte says which limit holds and in what pieces the rest comes.
pub(crate) fn frames(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    let limit = [MAX_CONTROL_BYTES, MAX_HANDSHAKE_FRAME_BYTES, MAX_MESSAGE_BYTES][usize::from(first % 3)];
    let piece_bytes = 1 + usize::from(first / 3);
    let (mut reader, mut read) = (FrameReader::new(limit), Vec::new());
    for mut piece in rest.chunks(piece_bytes) {
        while !piece.is_empty() {
            match reader.take(&mut piece) {
                Ok(Some(content)) => {
                    assert!(content.len() <= limit, "no frame is longer than its limit");
                    say(&content);
                    read.extend_from_slice(&frame(&content).expect("what came can be sent"));
                }
                Ok(None) => assert!(piece.is_empty(), "it waits only when everything is taken"),
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return false;
                }
            }
            assert!(reader.held_bytes() <= FRAME_HEADER_BYTES + limit);
        }
    }
    assert!(rest.starts_with(&read), "frames come out as they went in");
    assert_eq!(reader.is_within_a_frame(), read.len() < rest.len(), "what is left is the beginning of a frame");
    !read.is_empty() && !reader.is_within_a_frame()
}

/// A frame's content as each of the messages that are read from one.
fn say(content: &[u8]) {
    if let Ok(purpose) = StreamPurpose::parse(content) {
        assert_eq!(purpose.to_bytes(), content, "what is read is written the same");
    }
    if let Ok(message) = Control::parse(content) {
        assert!(content.len() <= MAX_CONTROL_BYTES);
        assert_eq!(message.to_bytes(), content, "what is read is written the same");
    }
}

/// The first byte says whether a node is asked or answers. A grant is looked at too, whoever shows it.
pub(crate) fn storage_call(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    if first & 1 == 0 {
        let Ok(call) = StorageCall::parse(rest) else { return false };
        assert!(rest.len() <= MAX_REQUEST_BYTES, "no request is longer than its limit");
        assert_eq!(call.to_bytes(), rest, "what is read is written the same");
        if let Some(grant) = &call.grant {
            assert!(grant.check(grant.grantee(), 0).is_err(), "nobody signed any of them");
        }
        return true;
    }
    let Ok(answer) = StorageAnswer::parse(rest) else { return false };
    assert!(rest.len() <= MAX_ANSWER_BYTES, "no answer is longer than its limit");
    assert_eq!(answer.to_bytes(), rest, "what is read is written the same");
    true
}

/// The first byte says who listens, whether the proofs are set right first, and in what pieces the message comes: so what
/// comes after the proof is reached too.
pub(crate) fn handshake(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    let (is_initiator, is_mended, piece_bytes) = (first & 1 == 1, first & 2 == 2, 1 + usize::from(first >> 2) * 8);
    let nodes = (NodeIdentity::from_seed(&[1; 32]), NodeIdentity::from_seed(&[2; 32]));
    let seeds = SeedRing::new(GroupSeed::from_bytes(SEED));
    let to = |peer: &NodeIdentity| Channel { peer_key: peer.public_key(), exporter: EXPORTER };
    let (handshake, greeting) = if is_initiator {
        let begun = Handshake::initiator(nodes.0.id(), &seeds, to(&nodes.1), DEADLINE_MS);
        begun.map(|(handshake, greeting)| (handshake, Some(greeting.to_vec()))).expect("it begins")
    } else {
        let heard = Handshake::responder(nodes.1.id(), &seeds, to(&nodes.0), DEADLINE_MS);
        (heard.expect("it begins"), None)
    };
    let greeting = greeting.map(|framed| framed[FRAME_HEADER_BYTES..].to_vec());
    let message = match (is_mended, rest.split_at_checked(FRAME_HEADER_BYTES)) {
        (true, Some((_, content))) => framed(&mended(content, greeting.as_deref())),
        _ => rest.to_vec(),
    };
    let Some(admitted) = listen(handshake, &message, piece_bytes) else { return false };
    let peer = if is_initiator { &nodes.1 } else { &nodes.0 };
    assert_eq!((admitted.peer, admitted.peer_key), (peer.id(), peer.public_key()));
    assert!((MIN_VERSION..=MAX_VERSION).contains(&admitted.version));
    let content = &message[FRAME_HEADER_BYTES..];
    assert!(proves(content, greeting.as_deref()), "nobody is known without a proof");
    assert!(names(content, greeting.is_some(), [peer.id(), if is_initiator { nodes.0.id() } else { nodes.1.id() }]));
    true
}

/// Gives a message piece by piece, until the peer is known or refused.
fn listen(mut handshake: Handshake, message: &[u8], piece_bytes: usize) -> Option<Admitted> {
    for piece in message.chunks(piece_bytes) {
        match handshake.receive(piece, 1) {
            Ok(Step::More) => {}
            Ok(Step::Done { admitted, answer }) => {
                assert!(answer.is_none_or(|answer| answer.len() <= FRAME_HEADER_BYTES + MAX_HANDSHAKE_FRAME_BYTES));
                assert_eq!(handshake.receive(&[0], 1), Err(HandshakeError::Over));
                // Of a message whose next piece was on its way, nothing was taken for it.
                return (piece.as_ptr_range().end == message.as_ptr_range().end).then_some(admitted);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(handshake.receive(&[0], 1), Err(HandshakeError::Over));
                return None;
            }
        }
    }
    None
}

fn framed(content: &[u8]) -> Vec<u8> {
    frame(content).map(|framed| framed.to_vec()).unwrap_or_default()
}

/// The content with its first proof set right, where it is long enough to have one.
fn mended(content: &[u8], greeting: Option<&[u8]>) -> Vec<u8> {
    let mut mended = content.to_vec();
    let (head, proof) = proof_of(content, greeting);
    if let Some(place) = mended.get_mut(head..head + MAC_BYTES) {
        place.copy_from_slice(&proof);
    }
    mended
}

/// Whether one of the proofs in a message is right.
fn proves(content: &[u8], greeting: Option<&[u8]>) -> bool {
    let (head, proof) = proof_of(content, greeting);
    let proofs = content[head..].chunks(MAC_BYTES);
    proofs.len() <= MAX_SEEDS && proofs.into_iter().any(|other| other == proof)
}

/// Whether sender and receiver are in a message, in this order.
fn names(content: &[u8], is_welcome: bool, nodes: [NodeId; 2]) -> bool {
    let head_bytes = if is_welcome { WELCOME_HEAD_BYTES } else { GREETING_HEAD_BYTES };
    let named = &content[head_bytes - 64..head_bytes];
    named[..32] == nodes[0].0 && named[32..] == nodes[1].0
}

/// Where the proofs of a message begin, and which is right; with the greeting it answers, it is a welcome.
fn proof_of(content: &[u8], greeting: Option<&[u8]>) -> (usize, [u8; MAC_BYTES]) {
    let (role, head_bytes, at): (&[u8], _, _) = match greeting {
        Some(_) => (b"responder", WELCOME_HEAD_BYTES, WELCOME_HEAD_BYTES),
        None => (b"initiator", GREETING_HEAD_BYTES, GREETING_HEAD_BYTES + 1),
    };
    let head = &content[..head_bytes.min(content.len())];
    let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key(SESSION_KEY, &SEED));
    for part in [role, &EXPORTER].into_iter().chain(greeting).chain([head]) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    (at, *hasher.finalize().as_bytes())
}

pub(crate) fn address(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match text.parse::<PeerAddress>() {
        Ok(address) => {
            assert!(address.port() != 0 && !address.host().is_empty());
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
            assert!(address.host().chars().all(is_plain), "nothing of a host leads elsewhere");
            assert_eq!(address.to_string().parse(), Ok(address), "what is shown is read");
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 200, "an error quotes nothing");
            false
        }
    }
}

/// As text, and where it is long enough as the bytes of a seed, whose text then is read.
pub(crate) fn seed(bytes: &[u8]) -> bool {
    if let Some((seed, rest)) = bytes.split_first_chunk() {
        let seed = GroupSeed::from_bytes(*seed);
        let text = seed.to_text();
        assert!(text.len() <= MAX_SEED_TEXT_BYTES);
        assert_eq!(GroupSeed::parse(&text), Ok(seed), "what is written is read");
        if let [at, character, ..] = rest {
            mistyped(&text, usize::from(*at), *character);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match GroupSeed::parse(text) {
        Ok(seed) => {
            assert!(text.trim().len() <= MAX_SEED_TEXT_BYTES);
            assert_eq!(GroupSeed::parse(&seed.to_text()), Ok(seed), "what is written is read");
            true
        }
        Err(error) => {
            assert!(matches!(error, SeedError::NoSeed | SeedError::Mistyped));
            false
        }
    }
}

/// A character of a seed's text that is another: it is the same seed or none.
fn mistyped(text: &str, at: usize, character: u8) {
    let mut bytes = text.as_bytes().to_vec();
    let at = at % bytes.len();
    bytes[at] = character;
    if let (Ok(seed), Ok(typed)) = (GroupSeed::parse(text), std::str::from_utf8(&bytes))
        && let Ok(other) = GroupSeed::parse(typed)
    {
        assert_eq!(other, seed, "a typing error is found or does not matter");
    }
}
