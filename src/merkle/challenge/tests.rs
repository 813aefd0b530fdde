//! Challenges: what they pick, which answers pass, and with what confidence damage is found.

use super::super::proof::tests::SampleObject;
use super::*;
use proptest::prelude::*;

fn answer(object: &SampleObject, position: &BlockPosition) -> Answer {
    let (shard, stripe) = (position.shard_index, position.stripe_index);
    Answer { block: SampleObject::block(shard, stripe).into(), proof: object.prove(shard, stripe) }
}

fn respond(object: &SampleObject, challenge: &Challenge) -> Response {
    Response { answers: challenge.positions().iter().map(|position| answer(object, position)).collect() }
}

#[test]
fn a_holder_of_everything_answers_all_right_in_any_order() {
    let object = SampleObject::new(5, 9);
    let challenge = Challenge::new(&object.binding, 12, [3; 32]).expect("12 of 45");
    let mut response = respond(&object, &challenge);
    response.answers.reverse();
    let report = challenge.check(&response, &object.root);
    assert!(report.all_right());
    assert_eq!(report.right_count(), 12);
}

#[test]
fn a_challenge_for_a_shard_asks_for_nothing_else() {
    let object = SampleObject::new(5, 9);
    let challenge = Challenge::for_shard(&object.binding, 4, 9, [3; 32]).expect("9 of 9");
    let stripes: Vec<u64> = challenge.positions().iter().map(|position| position.stripe_index).collect();
    assert_eq!(stripes, (0..9).collect::<Vec<_>>());
    assert!(challenge.positions().iter().all(|position| position.shard_index == 4));
    assert!(challenge.check(&respond(&object, &challenge), &object.root).all_right());
    let error = Error::NoSuchShard { shard_index: 5, total_shards: 5 };
    assert_eq!(Challenge::for_shard(&object.binding, 5, 1, [3; 32]), Err(error));
}

#[test]
fn every_answer_is_judged_by_itself() {
    let object = SampleObject::new(3, 8);
    let challenge = Challenge::new(&object.binding, 6, [1; 32]).expect("6 of 24");
    let asked = challenge.positions().to_vec();
    let mut response = respond(&object, &challenge);
    response.answers[1].block = Bytes::from_static(b"rotten");
    response.answers[2].proof = response.answers[3].proof.clone();
    response.answers.remove(0);
    let report = challenge.check(&response, &object.root);
    let outcomes: Vec<&AnswerOutcome> = report.outcomes.iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(report.outcomes.iter().map(|(position, _)| *position).collect::<Vec<_>>(), asked);
    assert_eq!(outcomes[0], &AnswerOutcome::Unanswered);
    assert!(matches!(outcomes[1], AnswerOutcome::Wrong(ProofError::Block(_))));
    assert_eq!(outcomes[2], &AnswerOutcome::Unanswered);
    let twice = ProofError::AnsweredTwice { position: asked[3] };
    assert_eq!(outcomes[3], &AnswerOutcome::Wrong(twice));
    assert_eq!(outcomes[4..], [&AnswerOutcome::Right; 2]);
    assert!(!report.all_right());
    assert_eq!((report.right_count(), report.unasked_count), (2, 0));
}

#[test]
fn a_right_answer_to_another_question_does_not_count() {
    let object = SampleObject::new(3, 8);
    let challenge = Challenge::for_shard(&object.binding, 1, 8, [1; 32]).expect("8 of 8");
    let elsewhere = BlockPosition { shard_index: 2, ..challenge.positions()[0] };
    let mut response = respond(&object, &challenge);
    response.answers[0] = answer(&object, &elsewhere);
    let report = challenge.check(&response, &object.root);
    assert_eq!((report.right_count(), report.unasked_count), (7, 1));
    response.answers[0] = answer(&object, &challenge.positions()[0]);
    response.answers.push(answer(&object, &elsewhere));
    let report = challenge.check(&response, &object.root);
    assert_eq!((report.right_count(), report.unasked_count, report.all_right()), (8, 1, false));
}

#[test]
fn answers_are_checked_against_the_root_and_not_against_what_they_say() {
    let object = SampleObject::new(3, 8);
    let other = SampleObject::new(3, 9);
    let challenge = Challenge::new(&object.binding, 3, [8; 32]).expect("3 of 24");
    let report = challenge.check(&respond(&other, &challenge), &object.root);
    let is_root = |outcome: &AnswerOutcome| matches!(outcome, AnswerOutcome::Wrong(ProofError::Root { .. }));
    assert!(report.outcomes.iter().all(|(_, outcome)| is_root(outcome)));
}

#[test]
fn a_challenge_of_nothing_or_of_more_than_there_is_is_refused() {
    let object = SampleObject::new(3, 8);
    for count in [0, 25, u64::MAX] {
        let error = Error::ChallengeSize { count, available: 24 };
        assert_eq!(Challenge::new(&object.binding, count, [0; 32]), Err(error));
    }
    let vast = ObjectBinding { stripe_count: u64::MAX / 2, ..object.binding };
    let error = Error::Uncountable { total_shards: 3, stripe_count: vast.stripe_count };
    assert_eq!(Challenge::new(&vast, 1, [0; 32]), Err(error));
    let count = MAX_CHALLENGE_BLOCKS + 1;
    let error = Error::ChallengeSize { count, available: vast.stripe_count };
    assert_eq!(Challenge::for_shard(&vast, 0, count, [0; 32]), Err(error));
    assert_eq!(Challenge::for_shard(&vast, 0, 5, [0; 32]).expect("five").positions().len(), 5);
    let most = Challenge::for_shard(&vast, 0, MAX_CHALLENGE_BLOCKS, [0; 32]).expect("as many as may be");
    assert_eq!(most.positions().len() as u64, MAX_CHALLENGE_BLOCKS);
}

#[test]
fn another_seed_picks_other_blocks_and_the_same_one_the_same() {
    let object = SampleObject::new(3, 1000);
    let pick = |seed| Challenge::new(&object.binding, 40, [seed; 32]).expect("40 of 3000");
    assert_eq!(pick(1), pick(1));
    assert_ne!(pick(1), pick(2));
    let whole = Challenge::for_shard(&object.binding, 0, 40, [1; 32]).expect("40 of 1000");
    let other = Challenge::for_shard(&object.binding, 1, 40, [1; 32]).expect("40 of 1000");
    let stripes = |challenge: &Challenge| -> Vec<u64> {
        challenge.positions().iter().map(|position| position.stripe_index).collect()
    };
    assert_ne!(stripes(&whole), stripes(&other));
}

#[test]
fn every_pair_of_blocks_is_picked_about_equally_often() {
    const SEEDS: u32 = 6000;
    let object = SampleObject::new(2, 3);
    let mut seen: BTreeMap<Vec<BlockPosition>, u32> = BTreeMap::new();
    for seed in 0..SEEDS {
        let seed = *blake3::hash(&seed.to_le_bytes()).as_bytes();
        let challenge = Challenge::new(&object.binding, 2, seed).expect("2 of 6");
        *seen.entry(challenge.positions().to_vec()).or_default() += 1;
    }
    assert_eq!(seen.len(), 15);
    // 400 of each are expected with a standard deviation of 19.3; six of those are the margin.
    assert!(seen.values().all(|count| count.abs_diff(SEEDS / 15) < 116), "{:?}", seen.values());
}

#[test]
fn confidence_is_what_counting_gives() {
    for (sampled, total, damaged, expected) in [
        (0, 10, 3, 0.0),
        (3, 10, 0, 0.0),
        (0, 0, 0, 0.0),
        (1, 10, 1, 0.1),
        (2, 5, 2, 0.7),
        (5, 10, 5, 251.0 / 252.0),
        (6, 10, 5, 1.0),
        (10, 10, 1, 1.0),
        (20, 10, 1, 1.0),
        (1, 1_000_000_000_000, 1, 1e-12),
    ] {
        let found = detection_confidence(sampled, total, damaged);
        assert!((found - expected).abs() <= 1e-12 * expected, "{sampled} of {total}, {damaged}: {found}");
    }
}

#[test]
fn confidence_at_large_numbers_is_what_the_binomial_limit_says() {
    // A hundredth of a thousand million, sampled 300 times: 1 − 0.99^300 but for the replacement.
    let found = detection_confidence(300, 1_000_000_000, 10_000_000);
    assert!((found - (1.0 - 0.99_f64.powi(300))).abs() < 1e-6, "{found}");
    assert!((detection_confidence(1 << 31, 1 << 32, 1 << 31) - 1.0).abs() < f64::EPSILON);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn positions_are_distinct_ascending_and_inside(
        total in 2_usize..255, stripes in 1_u64..5000, part in 0.0..1.0_f64, seed: [u8; 32],
    ) {
        let mut binding = SampleObject::new(2, 1).binding;
        binding.geometry = crate::id::Geometry::new(1, total).expect("valid");
        binding.stripe_count = stripes;
        let available = (total as u64 * stripes).min(2000);
        let count = 1 + (part * (available - 1) as f64) as u64;
        let challenge = Challenge::new(&binding, count, seed).expect("not too many");
        prop_assert_eq!(challenge.positions().len() as u64, count);
        prop_assert!(challenge.positions().is_sorted_by(|one, next| one < next));
        let inside = |position: &BlockPosition| {
            usize::from(position.shard_index) < total && position.stripe_index < stripes
        };
        prop_assert!(challenge.positions().iter().all(inside));
    }

    #[test]
    fn confidence_is_symmetric_and_grows_with_the_sample(total in 1_u64..500, one in 0_u64..500, other in 0_u64..500) {
        let (one, other) = (one.min(total), other.min(total));
        let confidence = detection_confidence(one, total, other);
        prop_assert!((0.0..=1.0).contains(&confidence));
        prop_assert!((confidence - detection_confidence(other, total, one)).abs() < 1e-12);
        prop_assert!(detection_confidence(one + 1, total, other) >= confidence);
    }
}
