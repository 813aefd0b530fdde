//! Who is admitted, and who is not.

use super::super::frame::{MAX_HANDSHAKE_FRAME_BYTES, frame};
use super::super::handshake::{Handshake, HandshakeError, Step};
use super::super::seed::SeedRing;
use super::super::wire::WireError;
use super::{channel_to, node, ring};
use bytes::Bytes;
use proptest::prelude::*;

const DEADLINE_MS: u64 = 5000;

type Outcome = Result<Step, HandshakeError>;

/// What both sides come to, in channel `number` between nodes 1 and 2.
struct Run {
    greeting: Bytes,
    welcome: Option<Bytes>,
    responder: Outcome,
    initiator: Option<Outcome>,
}

fn initiator(seeds: &SeedRing, number: u8) -> (Handshake, Bytes) {
    Handshake::initiator(node(1).id(), seeds, channel_to(&node(2), number), DEADLINE_MS).expect("it begins")
}

fn responder(seeds: &SeedRing, number: u8) -> Handshake {
    Handshake::responder(node(2).id(), seeds, channel_to(&node(1), number), DEADLINE_MS).expect("it begins")
}

fn run(initiators: &SeedRing, responders: &SeedRing, number: u8) -> Run {
    let (mut begun, greeting) = initiator(initiators, number);
    let responder = responder(responders, number).receive(&greeting, 1);
    let welcome = match &responder {
        Ok(Step::Done { answer, .. }) => answer.clone(),
        _ => None,
    };
    let initiator = welcome.as_ref().map(|welcome| begun.receive(welcome, 2));
    Run { greeting, welcome, responder, initiator }
}

fn is_admitted(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(Step::Done { .. }))
}

#[test]
fn nodes_that_share_a_seed_know_each_other_after_two_messages() {
    let run = run(&ring(&[7]), &ring(&[7]), 1);
    let Ok(Step::Done { admitted, .. }) = run.responder else { unreachable!("not admitted: {:?}", run.responder) };
    assert_eq!((admitted.peer, admitted.peer_key), (node(1).id(), node(1).public_key()));
    let Some(Ok(Step::Done { admitted, answer: None })) = run.initiator else { unreachable!("not admitted") };
    assert_eq!((admitted.peer, admitted.version), (node(2).id(), 1));
    assert!(run.greeting.len() <= MAX_HANDSHAKE_FRAME_BYTES);
}

#[test]
fn one_seed_in_common_is_enough_while_a_group_changes_its_seed() {
    for (one, other) in [(&[1, 2][..], &[2][..]), (&[2], &[1, 2]), (&[1, 2], &[2, 1]), (&[1], &[2, 1])] {
        let run = run(&ring(one), &ring(other), 1);
        assert!(is_admitted(&run.responder) && run.initiator.as_ref().is_some_and(is_admitted), "{one:?} {other:?}");
    }
}

#[test]
fn another_seed_is_not_admitted() {
    for (one, other) in [(&[1][..], &[2][..]), (&[1, 2], &[3]), (&[3], &[1, 2])] {
        assert_eq!(run(&ring(one), &ring(other), 1).responder, Err(HandshakeError::NoProof), "{one:?} {other:?}");
    }
}

#[test]
fn a_node_does_not_talk_to_itself() {
    let own = node(1);
    let outcome = Handshake::initiator(own.id(), &ring(&[7]), channel_to(&own, 1), DEADLINE_MS).map(drop);
    assert_eq!(outcome, Err(HandshakeError::OwnId));
    let outcome = Handshake::responder(own.id(), &ring(&[7]), channel_to(&own, 1), DEADLINE_MS).map(drop);
    assert_eq!(outcome, Err(HandshakeError::OwnId));
}

#[test]
fn what_is_sent_back_to_where_it_came_from_is_not_admitted() {
    // The greeting comes back to the initiator, in its own channel and in one that the mirror opened to it.
    let (mut begun, greeting) = initiator(&ring(&[7]), 1);
    assert!(!is_admitted(&begun.receive(&greeting, 1)));
    for peer in [node(2), node(3)] {
        let back = channel_to(&peer, 1);
        let mut called = Handshake::responder(node(1).id(), &ring(&[7]), back, DEADLINE_MS).expect("it begins");
        assert_eq!(called.receive(&greeting, 1), Err(HandshakeError::OtherNodes));
    }
    // The ids changed places: the proof does not.
    let mut swapped = greeting.to_vec();
    let (first, second) = (greeting.slice(16..48), greeting.slice(48..80));
    swapped[16..48].copy_from_slice(&second);
    swapped[48..80].copy_from_slice(&first);
    let back = channel_to(&node(2), 1);
    let mut called = Handshake::responder(node(1).id(), &ring(&[7]), back, DEADLINE_MS).expect("it begins");
    assert_eq!(called.receive(&swapped, 1), Err(HandshakeError::NoProof));
}

#[test]
fn no_recorded_message_is_admitted_at_any_position_of_another_channel() {
    let seeds = ring(&[7, 8]);
    let recorded: Vec<Bytes> = (1..=20)
        .flat_map(|number| {
            let run = run(&seeds, &seeds, number);
            [run.greeting, run.welcome.expect("a welcome")]
        })
        .collect();
    let mut accepted = 0;
    for message in &recorded {
        for number in 21..=40 {
            accepted += usize::from(is_admitted(&responder(&seeds, number).receive(message, 1)));
            accepted += usize::from(is_admitted(&initiator(&seeds, number).0.receive(message, 1)));
        }
    }
    assert_eq!(accepted, 0);
    // In its own channel each message is good at its own position alone, and once.
    let run = run(&seeds, &seeds, 1);
    let (greeting, welcome) = (run.greeting, run.welcome.expect("a welcome"));
    assert!(!is_admitted(&responder(&seeds, 1).receive(&welcome, 1)));
    assert!(!is_admitted(&initiator(&seeds, 1).0.receive(&greeting, 1)));
    let mut called = responder(&seeds, 1);
    assert!(is_admitted(&called.receive(&greeting, 1)));
    assert_eq!(called.receive(&greeting, 1), Err(HandshakeError::Over));
}

#[test]
fn a_channel_between_other_nodes_is_not_admitted() {
    let (_, greeting) = initiator(&ring(&[7]), 1);
    let from_another = channel_to(&node(3), 1);
    let mut called = Handshake::responder(node(2).id(), &ring(&[7]), from_another, DEADLINE_MS).expect("it begins");
    assert_eq!(called.receive(&greeting, 1), Err(HandshakeError::OtherNodes));
}

#[test]
fn no_flipped_bit_of_a_handshake_is_admitted() {
    let seeds = ring(&[7]);
    let run = run(&seeds, &seeds, 1);
    let welcome = run.welcome.expect("a welcome");
    for (message, is_greeting) in [(run.greeting, true), (welcome, false)] {
        for bit in 0..message.len() * 8 {
            let mut flipped = message.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outcome = match is_greeting {
                true => responder(&seeds, 1).receive(&flipped, 1),
                false => initiator(&seeds, 1).0.receive(&flipped, 1),
            };
            assert!(!is_admitted(&outcome), "greeting {is_greeting}, bit {bit}: {outcome:?}");
        }
    }
}

#[test]
fn a_handshake_ends_at_its_deadline_and_takes_one_message_alone() {
    let seeds = ring(&[7]);
    let (_, greeting) = initiator(&seeds, 1);
    assert_eq!(responder(&seeds, 1).receive(&greeting, DEADLINE_MS), Err(HandshakeError::Late));
    let mut called = responder(&seeds, 1);
    for (at, byte) in greeting.iter().enumerate().take(greeting.len() - 1) {
        assert_eq!(called.receive(&[*byte], 1), Ok(Step::More), "{at}");
    }
    assert!(is_admitted(&called.receive(&greeting[greeting.len() - 1..], DEADLINE_MS - 1)));
    let more = [greeting.as_ref(), &[0]].concat();
    assert_eq!(responder(&seeds, 1).receive(&more, 1), Err(HandshakeError::Surplus));
    let long = (MAX_HANDSHAKE_FRAME_BYTES as u32 + 1).to_le_bytes();
    let refused = responder(&seeds, 1).receive(&long, 1);
    assert!(matches!(refused, Err(HandshakeError::Wire(WireError::Long { .. }))), "{refused:?}");
}

#[test]
fn a_peer_of_another_version_that_has_the_seed_is_told_apart_from_a_stranger() {
    // What a later program would send: the same greeting under the same seed, with other versions in it.
    let (_, greeting) = initiator(&ring(&[7]), 1);
    let mut later = greeting.to_vec();
    later[12..16].copy_from_slice(&[9, 0, 9, 0]);
    assert_eq!(responder(&ring(&[7]), 1).receive(&later, 1), Err(HandshakeError::NoProof));
    let key = super::seed(7).session_key();
    let head = later[4..80].to_vec();
    let proof = super::super::handshake::initiators_proof(&key, &channel_to(&node(1), 1), &head);
    later[81..].copy_from_slice(&proof);
    assert_eq!(responder(&ring(&[7]), 1).receive(&later, 1), Err(HandshakeError::Version { min: 9, max: 9 }));
}

proptest! {
    #[test]
    fn no_bytes_are_admitted_or_break_a_handshake(content in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
        let seeds = ring(&[7]);
        let framed = frame(&content).expect("short");
        for bytes in [content.as_slice(), &framed] {
            let (front, back) = bytes.split_at(cut.min(bytes.len()));
            for mut handshake in [responder(&seeds, 1), initiator(&seeds, 1).0] {
                let first = handshake.receive(front, 1);
                prop_assert!(!is_admitted(&first));
                if first == Ok(Step::More) {
                    prop_assert!(!is_admitted(&handshake.receive(back, 1)));
                }
            }
        }
    }

    #[test]
    fn a_greeting_with_any_fields_of_a_strangers_choice_is_not_admitted(
        min in any::<u16>(), max in any::<u16>(), count in any::<u8>(), macs in prop::collection::vec(any::<u8>(), 0..130),
    ) {
        let (one, other) = (node(1).id(), node(2).id());
        let head = [b"shard-hi".as_slice(), &min.to_le_bytes(), &max.to_le_bytes(), one.as_bytes(), other.as_bytes()].concat();
        let greeting = frame(&[head.as_slice(), &[count], &macs].concat()).expect("short");
        prop_assert!(!is_admitted(&responder(&ring(&[7]), 1).receive(&greeting, 1)));
    }
}
