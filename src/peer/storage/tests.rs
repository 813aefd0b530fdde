//! Every request and answer reads back; everything else is refused.

use super::super::{GRANT_BYTES, GrantRights, NodeGrant, NodeIdentity};
use super::*;
use crate::id::{Digest, NodeId};
use crate::merkle::{BlockSpans, MAX_PATH_NODES};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn shards() -> impl Strategy<Value = ShardId> {
    any::<([u8; 16], u8)>().prop_map(|(object, index)| ShardId { object: ObjectId(object), index })
}

fn marks() -> impl Strategy<Value = StorageMark> {
    any::<([u8; 32], [u8; 16])>()
        .prop_map(|(store, backend)| StorageMark { store: StoreId(store), backend: BackendId(backend) })
}

fn challenges() -> impl Strategy<Value = StorageRequest> {
    let spans = (any::<u32>(), 1..=1000_u32, 1..=1000_u32, 1..=10_000_u64);
    let spans = spans.prop_map(|(start, bytes, last, count)| {
        BlockSpans::new(u64::from(start), bytes, last.min(bytes), count).expect("within the limits")
    });
    let stripes = prop::collection::btree_set(any::<u64>(), 1..=MAX_CHALLENGED_BLOCKS);
    (shards(), spans, stripes).prop_map(|(shard, spans, stripes)| {
        let stripes: BTreeSet<u64> = stripes.into_iter().map(|stripe| stripe % spans.stripe_count()).collect();
        StorageRequest::Challenge { shard, spans, stripes: stripes.into_iter().collect() }
    })
}

fn requests() -> impl Strategy<Value = StorageRequest> {
    prop_oneof![
        shards().prop_map(StorageRequest::Create),
        shards().prop_map(StorageRequest::Replace),
        (shards(), any::<(u64, u64)>())
            .prop_map(|(shard, (start, end))| StorageRequest::Read { shard, range: start..end }),
        shards().prop_map(StorageRequest::Head),
        shards().prop_map(StorageRequest::Delete),
        prop::option::of(shards()).prop_map(|after| StorageRequest::List { after }),
        Just(StorageRequest::Stats),
        Just(StorageRequest::ReadMark),
        marks().prop_map(StorageRequest::WriteMark),
        shards().prop_map(StorageRequest::ClearUnfinished),
        challenges(),
        prop::option::of(shards()).prop_map(|after| StorageRequest::Scrub { after }),
        (any::<u64>(), prop::collection::vec(shards(), 1..=MAX_TOLD_SHARDS))
            .prop_map(|(shard_count, shards)| StorageRequest::TellDamage { shard_count, shards }),
        any::<u64>().prop_map(|after| StorageRequest::Notices { after }),
    ]
}

fn notices() -> impl Strategy<Value = OwnerNotice> {
    let kind = prop::sample::select(NoticeKind::ALL.to_vec());
    let shards = prop::collection::vec(shards(), 0..=MAX_NAMED_SHARDS);
    (any::<(u64, u64, u64)>(), kind, shards, ".{0,40}").prop_map(
        |((number, said_ms, shard_count), kind, shards, text)| OwnerNotice {
            number,
            said_ms,
            kind,
            shard_count,
            shards,
            text,
        },
    )
}

fn answers() -> impl Strategy<Value = StorageAnswer> {
    let stats = any::<(u64, u64, Option<u64>, Option<u64>)>().prop_map(|(shard_count, used_bytes, free, quota)| {
        StorageStats { shard_count, used_bytes, free_bytes: free, quota_bytes: quota }
    });
    let pages = (prop::collection::vec((shards(), any::<u64>()), 0..20), prop::option::of(shards()))
        .prop_map(|(shards, next)| StoragePage { shards, next });
    let paths = prop::collection::vec(any::<[u8; 32]>().prop_map(Digest), 0..=MAX_PATH_NODES);
    let scrubbed = (any::<(u64, u64)>(), prop::collection::vec(shards(), 0..20), prop::option::of(shards())).prop_map(
        |((checked_shards, checked_bytes), damaged, next)| ScrubPage { checked_shards, checked_bytes, damaged, next },
    );
    prop_oneof![
        (prop::sample::select(RefusalKind::ALL.to_vec()), ".{0,600}")
            .prop_map(|(kind, reason)| StorageAnswer::refused(kind, &reason)),
        Just(StorageAnswer::Ready),
        any::<u64>().prop_map(StorageAnswer::Number),
        stats.prop_map(StorageAnswer::Stats),
        pages.prop_map(StorageAnswer::Page),
        prop::option::of(marks()).prop_map(StorageAnswer::Mark),
        paths.prop_map(StorageAnswer::Path),
        scrubbed.prop_map(StorageAnswer::Scrubbed),
        prop::collection::vec(notices(), 0..=MAX_NOTICES).prop_map(StorageAnswer::Notices),
    ]
}

proptest! {
    #[test]
    fn every_request_reads_back_and_no_part_of_it_does(request in requests()) {
        let bytes = request.to_bytes();
        prop_assert!(bytes.len() <= MAX_REQUEST_BYTES);
        prop_assert_eq!(StorageRequest::parse(&bytes), Ok(request));
        for length in 0..bytes.len() {
            prop_assert!(StorageRequest::parse(&bytes[..length]).is_err(), "{} bytes", length);
        }
        prop_assert!(StorageRequest::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn every_call_with_a_grant_reads_back_and_no_part_of_it_does(
        request in requests(), seed in any::<u8>(), to in any::<[u8; 32]>(), rights in any::<(bool, bool)>(), until in any::<u64>(),
    ) {
        let rights = GrantRights { repair: rights.0, delete: rights.1 };
        let grant = NodeGrant::issue(&NodeIdentity::from_seed(&[seed; 32]), NodeId(to), rights, until);
        let call = StorageCall { grant: Some(grant), request: request.clone() };
        let bytes = call.to_bytes();
        prop_assert!(bytes.len() <= MAX_REQUEST_BYTES);
        prop_assert_eq!(StorageCall::parse(&bytes), Ok(call));
        for length in 0..bytes.len() {
            prop_assert!(StorageCall::parse(&bytes[..length]).is_err(), "{} bytes", length);
        }
        // A grant does not stand before a grant, and a request alone is a call.
        let twice = [&bytes[..2 + GRANT_BYTES], bytes.as_slice()].concat();
        prop_assert!(StorageCall::parse(&twice).is_err());
        prop_assert_eq!(StorageCall::parse(&request.to_bytes()), Ok(StorageCall { grant: None, request }));
    }

    #[test]
    fn every_answer_reads_back_and_no_part_of_it_does(answer in answers()) {
        let bytes = answer.to_bytes();
        prop_assert!(bytes.len() <= MAX_ANSWER_BYTES);
        prop_assert_eq!(StorageAnswer::parse(&bytes), Ok(answer));
        for length in 0..bytes.len() {
            prop_assert!(StorageAnswer::parse(&bytes[..length]).is_err(), "{} bytes", length);
        }
        prop_assert!(StorageAnswer::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_refused_or_are_written_the_same_again(bytes in prop::collection::vec(any::<u8>(), 0..80), kind in 0..16_u8) {
        let with_kind = [[STORAGE_VERSION, kind].as_slice(), &bytes].concat();
        for bytes in [&bytes, &with_kind] {
            if let Ok(call) = StorageCall::parse(bytes) {
                prop_assert_eq!(&call.to_bytes(), bytes);
            }
        }
        for bytes in [&bytes, &with_kind[1..].to_vec()] {
            if let Ok(answer) = StorageAnswer::parse(bytes) {
                prop_assert_eq!(&answer.to_bytes(), bytes);
            }
        }
    }
}

#[test]
fn a_full_page_fits_an_answer_and_a_fuller_one_is_refused() {
    let entry = (ShardId { object: ObjectId([7; 16]), index: 3 }, u64::MAX);
    let page = |count| StorageAnswer::Page(StoragePage { shards: vec![entry; count], next: Some(entry.0) });
    let full = page(MAX_PAGE_SHARDS);
    assert!(full.to_bytes().len() <= MAX_ANSWER_BYTES);
    assert_eq!(StorageAnswer::parse(&full.to_bytes()), Ok(full));
    let refused = StorageAnswer::parse(&page(MAX_PAGE_SHARDS + 1).to_bytes());
    assert_eq!(refused, Err(WireError::Long { what: "a page", length: 1001, limit: MAX_PAGE_SHARDS }));
}

#[test]
fn the_longest_notices_fit_an_answer_and_what_is_more_is_refused() {
    let shard = ShardId { object: ObjectId([7; 16]), index: 3 };
    let notice = |shards, bytes| OwnerNotice {
        number: u64::MAX,
        said_ms: u64::MAX,
        kind: NoticeKind::RepairNeeded,
        shard_count: u64::MAX,
        shards: vec![shard; shards],
        text: "\u{1b}".repeat(bytes),
    };
    let longest = notice(MAX_NAMED_SHARDS, MAX_NOTICE_BYTES);
    let full = StorageAnswer::Notices(vec![longest.clone(); MAX_NOTICES]);
    assert!(full.to_bytes().len() <= MAX_ANSWER_BYTES);
    assert_eq!(StorageAnswer::parse(&full.to_bytes()), Ok(full));
    for (wrong, limit) in [
        (vec![longest; MAX_NOTICES + 1], MAX_NOTICES),
        (vec![notice(MAX_NAMED_SHARDS + 1, 0)], MAX_NAMED_SHARDS),
        (vec![notice(0, MAX_NOTICE_BYTES + 1)], MAX_NOTICE_BYTES),
    ] {
        let refused = StorageAnswer::parse(&StorageAnswer::Notices(wrong).to_bytes());
        let is_told = matches!(refused, Err(WireError::Long { length, limit: told, .. }) if told == limit && length > limit as u64);
        assert!(is_told, "{refused:?}");
    }
}

#[test]
fn a_request_of_another_version_and_a_reason_that_moves_the_cursor_are_refused() {
    let mut request = StorageRequest::Stats.to_bytes();
    request[0] = STORAGE_VERSION + 1;
    assert!(matches!(StorageRequest::parse(&request), Err(WireError::Unknown { value: 2, .. })));
    let answer = StorageAnswer::Refused { kind: RefusalKind::Failed, reason: "\u{1b}[2J".to_owned() };
    assert!(StorageAnswer::parse(&answer.to_bytes()).is_err());
    let cut = StorageAnswer::refused(RefusalKind::Failed, &"ö\n".repeat(1000));
    assert!(matches!(&cut, StorageAnswer::Refused { reason, .. } if reason.len() == MAX_REASON_BYTES), "{cut:?}");
    assert_eq!(StorageAnswer::parse(&cut.to_bytes()), Ok(cut));
}

#[test]
fn a_challenge_of_too_many_blocks_of_none_or_out_of_order_is_refused() {
    let shard = ShardId { object: ObjectId([7; 16]), index: 3 };
    let spans = BlockSpans::new(64, 1000, 10, 100).expect("within the limits");
    let parsed = |stripes: Vec<u64>| {
        StorageRequest::parse(&StorageRequest::Challenge { shard, spans, stripes }.to_bytes()).is_ok()
    };
    assert!(parsed((0..MAX_CHALLENGED_BLOCKS as u64).collect()));
    assert!(!parsed((0..MAX_CHALLENGED_BLOCKS as u64 + 1).collect()));
    for wrong in [vec![], vec![100], vec![2, 1], vec![2, 2], vec![u64::MAX]] {
        assert!(!parsed(wrong.clone()), "{wrong:?}");
    }
    for count in [0, MAX_TOLD_SHARDS + 1] {
        let told = StorageRequest::TellDamage { shard_count: 1, shards: vec![shard; count] };
        assert!(matches!(StorageRequest::parse(&told.to_bytes()), Err(WireError::Long { .. })));
    }
    // Lengths that no shard has are refused before anything is made of them.
    let mut bytes = StorageRequest::Challenge { shard, spans, stripes: vec![1] }.to_bytes();
    let count_at = 2 + 17 + 8 + 4 + 4;
    bytes[count_at..count_at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(StorageRequest::parse(&bytes), Err(WireError::Unknown { value: u64::MAX, .. })));
}
