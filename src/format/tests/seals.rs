//! What each seal makes of a manifest and of the end of a shard's file.

use super::*;
use crate::crypto::{
    AccessKeys, KeyShare, Keyring, RECIPIENT_RANDOM_BYTES, RecipientKey, SHARE_BYTES, SharedSecret, split_secret,
};

const RANDOM: [u8; RECIPIENT_RANDOM_BYTES] = [5; RECIPIENT_RANDOM_BYTES];
const OBJECT: ObjectId = ObjectId([2; 16]);

/// Everything that seals or opens, of this store and of another.
struct Keys {
    master: MasterKey,
    recipient: RecipientKey,
    ours: AccessKeys,
    to_check: AccessKeys,
    theirs: AccessKeys,
    secret: SharedSecret,
    other_secret: SharedSecret,
    shares: Vec<KeyShare>,
}

impl Keys {
    fn new() -> Self {
        let split = |byte: u8| {
            split_secret(layout(100).geometry(), [byte; SHARE_BYTES], &[[7; SHARE_BYTES], [23; SHARE_BYTES]])
        };
        let ((secret, shares), (other_secret, _)) = (split(6).expect("a secret"), split(9).expect("a secret"));
        Self {
            recipient: key().recipient(key().store_id()),
            ours: AccessKeys::to_open(Keyring::new(key())),
            to_check: AccessKeys::to_check(key().store_id()),
            theirs: AccessKeys::to_open(Keyring::new(MasterKey::from_bytes([9; 32]))),
            master: key(),
            secret,
            other_secret,
            shares,
        }
    }

    fn sealer(&self, seal: Seal) -> PartSealer<'_> {
        match seal {
            Seal::None => PartSealer::Nobody,
            Seal::Key => PartSealer::Master(&self.master),
            Seal::Dispersed => PartSealer::Shared(&self.secret),
            Seal::Recipient => PartSealer::Recipient(&self.recipient, &RANDOM),
        }
    }

    /// Each opener, with the seals that it opens.
    fn openers(&self) -> [(PartOpener<'_>, &'static [Seal]); 6] {
        [
            (PartOpener::Nobody, &[Seal::None]),
            (PartOpener::Keys(&self.ours), &[Seal::None, Seal::Key, Seal::Recipient]),
            (PartOpener::Keys(&self.to_check), &[Seal::None]),
            (PartOpener::Keys(&self.theirs), &[Seal::None]),
            (PartOpener::Shared(&self.secret), &[Seal::None, Seal::Dispersed]),
            (PartOpener::Shared(&self.other_secret), &[Seal::None]),
        ]
    }

    fn draft(&self, seal: Seal) -> ManifestDraft {
        let geometry = Geometry::new(3, 5).expect("a geometry");
        let shape = StripeShape::new(geometry, 16, seal.overhead_bytes()).expect("a shape");
        let share_digests = match seal {
            Seal::Dispersed => self.shares.iter().map(|share| share.digest(OBJECT)).collect(),
            _ => Vec::new(),
        };
        let data_key = (seal != Seal::None).then(|| DataKey::from_bytes([4; 32]));
        let sealed = SealedPart { data_key, ..draft(100).sealed };
        let layout = Layout::new(shape, 100).expect("a layout");
        ManifestDraft { object: OBJECT, layout, seal, share_digests, sealed, ..draft(100) }
    }

    fn sign(&self, draft: ManifestDraft) -> Result<Manifest, ManifestError> {
        let sealer = self.sealer(draft.seal);
        Manifest::sign(draft, sealer, &key().signer())
    }

    fn manifest(&self, seal: Seal) -> Manifest {
        self.sign(self.draft(seal)).expect("a manifest")
    }
}

#[test]
fn each_seal_opens_with_what_it_was_sealed_with_and_with_nothing_else() {
    let keys = Keys::new();
    for seal in Seal::ALL {
        let (manifest, said) = (keys.manifest(seal), keys.draft(seal).sealed);
        for (opener, opens) in keys.openers() {
            match (opens.contains(&seal), manifest.sealed_part(opener)) {
                (true, part) => assert_eq!(part.expect("it opens"), said, "{seal} by {opener:?}"),
                (false, Err(ManifestError::NoKey { seal: found, .. })) => assert_eq!(found, seal),
                (false, refused) => {
                    assert!(matches!(refused, Err(ManifestError::Unopened(_))), "{seal} by {opener:?}: {refused:?}");
                    assert!(matches!(opener, PartOpener::Shared(_)), "{seal}: only a secret can be the wrong one");
                }
            }
        }
        assert_eq!(manifest.stripe_cipher(&said).is_some(), seal != Seal::None, "{seal}");
    }
}

#[test]
fn a_seal_takes_its_own_sealer_and_no_other() {
    let keys = Keys::new();
    for seal in Seal::ALL {
        for other in Seal::ALL {
            let signed = Manifest::sign(keys.draft(seal), keys.sealer(other), &key().signer());
            match seal == other {
                true => assert_eq!(signed.expect("its own").seal(), seal),
                false => assert!(matches!(signed, Err(ManifestError::Sealer { seal: found }) if found == seal)),
            }
        }
    }
}

#[test]
fn a_data_key_is_there_exactly_where_stripes_are_sealed() {
    let keys = Keys::new();
    let with = |seal, data_key| {
        let mut draft = keys.draft(seal);
        draft.sealed.data_key = data_key;
        let opener = keys.openers().into_iter().find(|(_, opens)| opens.contains(&seal)).expect("one opens it").0;
        keys.sign(draft).expect("a manifest").sealed_part(opener)
    };
    for seal in Seal::ALL {
        let some = with(seal, Some(DataKey::from_bytes([4; 32])));
        let none = with(seal, None);
        let (right, wrong) = if seal == Seal::None { (none, some) } else { (some, none) };
        assert!(right.is_ok() && matches!(wrong, Err(ManifestError::Contradiction)), "{seal}");
    }
}

#[test]
fn the_length_of_what_is_sealed_tells_nothing() {
    let keys = Keys::new();
    for seal in Seal::ALL {
        let length = |created_ns| {
            let mut draft = keys.draft(seal);
            draft.sealed.created_ns = created_ns;
            keys.sign(draft).expect("a manifest").bytes().sealed.len()
        };
        assert_eq!(length(0) == length(i64::MIN), seal != Seal::None, "{seal}: what is not sealed is not filled up");
    }
}

#[test]
fn a_manifest_says_what_it_was_made_from() {
    let keys = Keys::new();
    for seal in Seal::ALL {
        let draft = ManifestDraft { writer_generation: 3, ..keys.draft(seal) };
        let manifest = keys.sign(draft.clone()).expect("a manifest");
        assert_eq!((manifest.object(), manifest.kind(), manifest.seal()), (draft.object, draft.kind, seal));
        assert_eq!((manifest.layout(), manifest.geometry()), (draft.layout, draft.layout.geometry()));
        assert_eq!((manifest.shard_roots(), manifest.share_digests()), (&*draft.shard_roots, &*draft.share_digests));
        assert_eq!((manifest.key_id(), manifest.writer_generation()), (draft.key_id, 3));
        let binding = manifest.binding();
        assert_eq!((binding.object, binding.geometry, binding.block_bytes), (draft.object, manifest.geometry(), 16));
        assert_eq!((binding.seal, binding.payload_bytes), (seal.code(), 100));
        assert_eq!(binding.stripe_count, draft.layout.stripe_count());
        let root = crate::merkle::object_root(&binding, &draft.shard_roots).expect("n roots");
        assert_eq!(manifest.object_root(), root);
    }
    let none = keys.sign(ManifestDraft { writer_generation: 0, ..keys.draft(Seal::None) }).expect("a manifest");
    let text = String::from_utf8(none.bytes().public.clone()).expect("text");
    assert!(!text.contains("writer_generation"), "where no writer put anything nothing is said of it");
}

#[test]
fn a_backup_is_called_so_and_nothing_else_is() {
    let kinds = [ObjectKind::Data, ObjectKind::Removal, ObjectKind::Catalog];
    for (kind, object) in kinds.into_iter().flat_map(|kind| [(kind, OBJECT), (kind, ObjectId::of_backup([2; 16]))]) {
        let signed = Manifest::sign(ManifestDraft { kind, object, ..draft(100) }, PartSealer::Nobody, &key().signer());
        match (kind == ObjectKind::Catalog) == (object != OBJECT) {
            true => assert_eq!(signed.expect("a manifest").kind(), kind),
            false => assert!(matches!(signed, Err(ManifestError::Contradiction)), "{kind:?} {object}"),
        }
    }
}

#[test]
fn a_key_share_is_known_for_its_own_shard_alone() {
    let keys = Keys::new();
    let manifest = keys.manifest(Seal::Dispersed);
    for (index, share) in (0..).zip(&keys.shares) {
        let found = manifest.key_share(index, &share.bytes).expect("its own");
        assert_eq!((found.shard_index, found.bytes), (index, share.bytes));
        assert!(manifest.key_share((index + 1) % 5, &share.bytes).is_none(), "{index}: another shard's");
        assert!(manifest.key_share(index, &share.bytes[1..]).is_none(), "{index}: cut");
        assert!(manifest.key_share(index, &flip(&share.bytes, 9)).is_none(), "{index}: changed");
    }
    assert!(manifest.key_share(5, &keys.shares[0].bytes).is_none(), "there is no such shard");
    assert!(keys.manifest(Seal::Key).key_share(0, &keys.shares[0].bytes).is_none(), "the seal has none");
}

#[test]
fn the_end_of_a_shard_is_known_bit_by_bit_and_with_its_own_key_share_alone() {
    let keys = Keys::new();
    for seal in Seal::ALL {
        let manifest = keys.manifest(seal);
        let layout = ShardFileLayout::of(&manifest);
        let share = |index: u8| (seal == Seal::Dispersed).then(|| &keys.shares[usize::from(index)]);
        let end = |index: u8, share: Option<&KeyShare>| {
            let tail = tail_bytes(&manifest, index, &leaves(&manifest), share);
            assert_eq!(tail.len() as u64, layout.tail().end - layout.tail().start);
            tail[(layout.end().start - layout.tail().start) as usize..].to_vec()
        };
        for index in 0..5 {
            let right = end(index, share(index));
            assert!(is_end(&manifest, index, &right), "{seal}, shard {index}");
            assert!(!is_end(&manifest, (index + 1) % 5, &right), "{seal}: the end of shard {index} is no other's");
            let in_end = (layout.share().start - layout.end().start) as usize;
            let said = share(index).map_or(&[][..], |share| share.bytes.as_slice());
            assert_eq!(&right[in_end..in_end + said.len()], said, "{seal}, shard {index}");
            assert_eq!(layout.share().end - layout.share().start, said.len() as u64);
        }
        let right = end(0, share(0));
        for byte in 0..right.len() {
            assert!(!is_end(&manifest, 0, &flip(&right, byte * 8 + byte % 8)), "{seal}, byte {byte}");
        }
        assert!(!is_end(&manifest, 0, &right[1..]) && !is_end(&manifest, 0, &[&right[..], b"x"].concat()), "{seal}");
        if seal == Seal::Dispersed {
            assert!(!is_end(&manifest, 0, &end(0, share(1))), "with the key share of another shard");
        }
    }
}
