//! Keeps data alive on storage nobody should trust alone.
//!
//! # The idea
//!
//! **A pure core turns a block of bytes into a stripe of shards and back; backends keep shards without understanding them; a
//! handful of operations move bytes between the two.** The backends hold the whole truth: any k of the n shards, and the
//! key, bring everything back, with no server, no database and no laptop surviving. Damage is data and not an error: what
//! can be recovered is returned, and the damage is reported beside it.
//!
//! # The floors
//!
//! ```text
//!  8  cli/                     people: arguments, printing, exit codes, environment (in the binary)
//!  7  ops/                     one operation a file: put, recover, verify, repair …
//!     node/                    the peer runtime: sessions with many nodes, messages, streams
//!  6  store/                   Store = catalog + backends + key; no operation here
//!  5  error.rs                 the outward error; nothing below names it
//!  4  catalog/                 what is where (SQLite)
//!     engine/                  records of a node with lists and backups, over chamber
//!  3  backend/  format/        where bytes rest  ·  shard file, manifest and index as bytes, pure
//!     chamber/                 encrypted records of one node, over vault and crypto
//!  2  stripe/                  payload ⇄ blocks of shards, pure
//!     peer/                    sessions between nodes: pure but for the sockets in peer/transport/
//!  1  codec/  merkle/  crypto/ strangers to each other, pure
//!     vault/                   a dictionary in a file; a stranger to them too
//!  0  id.rs                    ObjectId, ShardId, BackendId, Geometry, RedundancyLevel, Digest
//! ```
//!
//! A module imports from strictly lower floors and from its own children; neighbours are strangers. The pure ones touch no
//! file, socket, clock, environment or global randomness: time and randomness are arguments. Each module opens with what it
//! is, what it knows, what it does not know, and its invariants.
//!
//! # The code map
//!
//! | to understand | read |
//! |---|---|
//! | the words: object, payload, stripe, block, shard, manifest | `src/format/FORMAT.md`, which is also enough to write a reader without this code |
//! | how k of n give everything back | [`codec`], then [`stripe`] |
//! | how a wrong block is told from a right one | [`merkle`], then [`format`](mod@format) |
//! | what a place that keeps shards must promise | [`backend`]: a contract in numbered clauses |
//! | which shard goes where | `backend/placement.rs`: one pure function |
//! | what is where, and what survives a crash | [`catalog`] |
//! | how the catalog is backed up, and begun from a backup | `ops/backup/`, then `ops/rebuild.rs` |
//! | how a dictionary stays in a file, and how it is sealed | [`vault`], then [`chamber`] |
//! | what a node remembers, and how it is backed up | [`engine`] |
//! | who may talk to a node, and how a session begins and ends | [`peer`], then [`node`] |
//! | what a node keeps in its folder, and how it is served from there | [`node::home`] |
//! | how a node keeps shards for others, and how a store asks it | [`node::storage`], then [`backend::node`] |
//! | what happens when a person types `put` | `cli/` in the binary, then [`ops`] |
//!
//! # What always holds
//!
//! Each line names the tests that guard it.
//!
//! | invariant | guarded by |
//! |---|---|
//! | Imports only point down; the pure modules touch nothing; only the command line prints and reads the environment. | `imports_only_point_down` · `the_pure_modules_touch_nothing` · `only_the_command_line_prints_and_reads_the_environment` |
//! | Any k of n blocks give all n back, at all 33,320 loss patterns of the four levels; fewer are refused. | `every_loss_within_the_promise_of_the_four_levels_is_undone_and_every_other_is_refused` |
//! | Parity is that of `reed-solomon-erasure`, byte for byte. | `parity_is_byte_identical_to_reed_solomon_erasure` |
//! | Every engine computes the same, and touches nothing beside its blocks; unsafe code is in the codec's kernels alone. | `every_kernel_computes_the_same_at_every_length` · `every_engine_encodes_reconstructs_and_checks_the_same` · `unsafe_code_has_one_place` |
//! | What is stored is what `FORMAT.md` says, to the last byte. | `every_golden_shard_is_what_this_crate_writes_to_the_last_byte` · `every_k_of_the_golden_shards_give_payload_and_index_back` |
//! | A block that was swapped, shifted or taken from another object does not verify. | `a_block_verifies_at_its_own_position_alone` · `shards_swapped_with_each_other_give_no_byte` · `shards_of_another_object_give_no_byte` |
//! | A proof holds for one block of one object, and every change of it is noticed. | `any_changed_field_of_a_proof_is_noticed` · `a_flip_of_any_bit_of_a_proof_is_noticed` |
//! | Only a manifest signed by the store's own key is trusted. | `a_manifest_reads_back_and_no_flipped_bit_of_it_is_accepted` · `a_manifest_of_another_store_or_signer_is_refused` |
//! | Lengths from a file are checked before anything is allocated. | `lengths_that_do_not_fit_file_or_limits_are_refused_before_anything_is_taken` · `sizes_from_outside_are_refused_before_they_are_used` |
//! | No byte is handed out that was not verified. | `no_flipped_bit_goes_unseen_or_reaches_the_data` · `a_flipped_bit_anywhere_in_one_shard_is_never_handed_out` |
//! | What can be recovered is decided stripe by stripe. | `every_shard_damaged_in_another_stripe_costs_nothing` · `an_object_whose_every_shard_is_damaged_in_another_stripe_is_made_whole_in_place` |
//! | A stripe that changed in memory after it was read is not written. | `a_full_check_finds_a_change_made_after_reading_and_a_parity_check_cannot` |
//! | A key or a file's bytes that changed in memory while an object was written do not become the truth. | `a_bit_of_a_key_that_flips_while_an_object_is_written_is_noticed` · `a_bit_of_the_payload_that_flips_after_it_was_hashed_is_found_by_a_full_check_and_by_no_other` · `the_next_verify_names_the_shard_of_which_a_bit_flipped_before_it_was_written` |
//! | Whatever goes wrong in whatever order: within what parity makes up for all ends in full health, and beyond it nothing wrong is handed out. | `within_what_parity_makes_up_for_every_schedule_ends_in_full_health` · `no_schedule_hands_out_a_wrong_byte_whatever_goes_wrong` |
//! | A name shows what was put last, for many processes at once and whatever their clocks say. | `names_behave_as_registers_for_processes_and_threads_with_clocks_that_jump` |
//! | On a backend a shard appears whole or not at all, and is never replaced by chance. | `clause_01_a_shard_appears_whole_or_not_at_all` · `clause_03_create_never_replaces` |
//! | No zone gets more shards than may be lost, while that is possible. | `what_is_placed_stays_and_a_zone_limit_is_never_exceeded` · `an_object_that_kept_the_zone_limit_keeps_it_when_its_shards_find_places_again` |
//! | Unreachable is not missing, and an unmounted folder is not an empty one. | `what_is_unreachable_is_not_missing_and_may_make_up_for_what_is` · `a_missing_root_is_unreachable_and_not_empty` |
//! | Killed before any call that changes a file, an operation leaves the old files or the new; the next run clears up. | `an_overwrite_killed_before_any_call_leaves_the_old_bytes_or_the_new` · `a_repair_killed_before_any_call_loses_nothing_and_is_done_by_the_next` |
//! | What was acknowledged is there after the power went, and a sync that failed is never believed. | `power_that_goes_in_one_operation_takes_nothing_that_was_acknowledged` · `a_sync_that_failed_is_not_believed_when_it_is_tried_again` |
//! | A file exists from the commit of its final piece on, whole. | `a_file_exists_from_the_commit_of_its_final_piece_on` |
//! | What was removed does not come back with an old backend. | `a_dead_object_does_not_come_back_with_a_backend_that_has_its_shards` · `what_was_removed_is_neither_lost_nor_brought_back_by_a_backend_that_comes_back` |
//! | What is known follows from what was committed, in any order and on any machine; versions that do not know each other are both shown. | `what_is_known_follows_from_what_was_committed_and_not_from_the_order` · `heads_that_do_not_know_each_other_are_both_shown_newest_first` |
//! | A catalog made anew from a backup is the one made without it, however old the backup is and whatever became of it; one that was killed on the way does not seem empty. | `a_rebuild_with_a_backup_says_what_one_without_says_after_any_history` · `an_old_backup_brings_nothing_back_that_was_removed_since` · `a_damaged_backup_costs_the_reading_and_never_a_right_value` · `a_restore_killed_anywhere_leaves_the_old_catalog_or_the_new_and_never_an_empty_one` |
//! | A stored name leads nowhere out of its folder. | `a_name_cannot_lead_out_of_its_folder` |
//! | A copy of the catalog tells no name, size, time or hash of a file, and what is sealed in it opens in its own row alone. | `a_copied_catalog_tells_nothing_after_put_overwrite_remove_and_rebuild` · `what_is_sealed_opens_in_its_own_row_alone` |
//! | The key is shown nowhere but on a recovery kit, and not used when others can read it. | `a_master_key_is_not_shown` · `a_key_that_others_can_read_is_refused` · `no_key_and_no_passphrase_is_in_any_output_or_any_file_but_its_own` · `nothing_planted_is_found_anywhere_when_it_is_sealed_with_the_key` |
//! | What a shard is called decides nothing: thrown together under any name, damaged at either end, in several copies, shards give back what their good blocks hold. | `shards_of_three_places_thrown_together_give_everything_back` · `no_damage_to_a_header_or_a_trailer_costs_a_shard_and_a_wrong_header_neither` |
//! | What a writer signs names, hides and removes nothing of the owner's. | `a_writer_can_neither_name_an_owners_version_as_its_own_nor_as_a_parent` · `a_removal_in_what_a_writer_signed_is_refused_everywhere` · `no_generation_makes_a_writers_version_newer_than_what_the_owner_put` |
//! | A change of key that is killed leaves the old keys or the new, and none in plain beside sealed ones. | `a_rotation_killed_anywhere_leaves_the_old_keys_or_the_new_and_can_be_done_again` · `taking_a_passphrase_away_killed_anywhere_leaves_no_plain_key_beside_a_sealed_one` |
//! | No recording, reflection or stranger begins a session, and nobody is known before the first message of the server. | `no_recorded_message_is_admitted_at_any_position_of_another_channel` · `what_is_sent_back_to_where_it_came_from_is_not_admitted` · `nobody_without_the_seed_gets_a_session_over_either_transport` |
//! | A node that is told to stop tells its peers, lets what is under way come to its end and leaves nothing behind; one that is killed knows its peers and messages when it is started again. | `a_node_that_is_told_to_stop_tells_its_peers_and_leaves_nothing` · `a_node_that_was_killed_knows_its_peers_and_messages` |
//! | A node keeps the contract of every backend, and gives each owner its own shards alone; houses that burn down are made up for. | `a_node_keeps_the_contract_over_quic` · `a_node_keeps_the_contract_over_websocket` · `an_owner_sees_reads_and_deletes_what_it_stored_and_nothing_else` · `nine_houses_of_which_four_burn_down_lose_nothing_and_four_new_ones_make_it_whole` |
//! | A node lets another key act on an owner's shards by the owner's signed grant alone, within its rights and time. | `no_forged_changed_expired_or_borrowed_grant_is_accepted_for_anything` · `without_the_right_to_delete_damaged_shards_are_replaced_and_whole_ones_are_not` |
//! | What a node shows of a shard is compared with the signed root, and nothing else of it moves. | `every_path_leads_from_its_block_to_the_shards_root_and_from_no_other` · `a_sample_over_a_node_moves_the_drawn_blocks_their_paths_and_little_else` |
//! | What a node has to tell waits for its owner, is heard once and is for it alone; it moves no exit code. | `damage_that_a_node_finds_is_heard_by_its_owner_once_and_again_only_when_it_comes_again` · `a_notice_is_for_its_owner_alone_and_what_a_person_writes_waits_for_a_store_too` |
//! | However a link breaks, stalls or dawdles, a node keeps nothing wrong, and what it acknowledged; nobody is stuck. | `no_link_however_it_breaks_makes_a_node_keep_what_is_wrong_or_lose_what_it_acknowledged` |
//! | What seals is drawn anew for each object: no part of a key stream comes twice, no secret, share, encapsulation or salt. | `no_part_of_a_key_stream_is_used_twice_in_an_object_or_from_one_to_the_next` · `the_secret_of_what_is_dispersed_and_its_shares_are_drawn_for_each_object` · `what_is_sealed_to_a_public_key_is_encapsulated_anew_for_each_object` · `a_passphrase_is_salted_anew_each_time_the_key_file_is_written` |
//! | One provider does the cryptography. | `one_provider_does_the_cryptography_but_for_the_exceptions_that_are_named` |
//! | A vault does what a map does, whoever else uses it, and what it acknowledged is there after a kill. | `a_vault_does_what_a_map_does_step_by_step` · `processes_and_threads_together_do_to_a_vault_what_one_does_to_a_map` · `every_acknowledged_write_is_there_after_a_kill_and_none_is_torn` |
//! | A chamber gives out what was written or an error, whichever bit of it flips, and hides nothing. | `a_chamber_does_what_a_map_does_step_by_step` · `a_flipped_bit_in_a_chamber_gives_the_truth_or_an_error` |
//! | A node's records and the lists in which they stand change together; what was acknowledged is there after a kill, and no damage hides or changes it. | `an_engine_does_what_maps_do_step_by_step` · `every_acknowledged_record_is_there_after_a_kill_and_every_list_is_whole` · `a_flipped_bit_in_an_engine_gives_the_truth_or_an_error` |
//! | What each backend answered or failed is counted for ever and shown, the newest of it one by one. | `what_each_backend_answered_or_failed_is_its_history` · `the_oldest_challenges_of_a_backend_are_forgotten_and_what_they_come_to_is_not` |
//! | A backup is of one moment, and is restored whole or not at all. | `a_backup_that_is_made_while_others_write_is_that_of_one_moment` · `a_snapshot_with_any_bit_flipped_or_cut_or_made_longer_changes_nothing` · `a_backup_over_erasure_coded_backends_outlives_all_that_may_be_lost_and_the_machine` |
//! | The places and a recovery kit bring everything back on another machine; a typing error in the kit is found. | `places_and_a_kit_bring_a_store_with_two_keys_back_on_a_fresh_machine` · `a_mistyped_character_is_found_and_named_by_its_line` |
//!
//! # Three depths
//!
//! ## Deep: bytes in memory
//!
//! [`ErasureCodec`] encodes bytes into a [`ShardSet`], says what is wrong with one, gives the bytes back from what is left,
//! and makes the set whole again. No files, no backends, no keys.
//!
//! ```
//! use shard::{ErasureCodec, MerkleProof, RedundancyLevel};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let codec = ErasureCodec::new(RedundancyLevel::Personal);
//! let whole = codec.encode(b"the only copy of the thesis")?;
//! assert_eq!(whole.shards().len(), 5);
//!
//! // Two of five may go, whichever they are: one is lost, one is damaged.
//! let mut set = whole.clone();
//! let mut damaged = set.remove(0).expect("it was there").to_vec();
//! damaged[3] ^= 1;
//! set.insert(0, damaged)?;
//! set.remove(4);
//!
//! let report = codec.verify(&set)?;
//! assert!(!report.valid && report.recoverable);
//! assert_eq!((report.damaged, report.missing, report.margin), (vec![0], vec![4], Some(0)));
//! assert_eq!(codec.decode(&set)?, b"the only copy of the thesis");
//!
//! // The set is whole again, bit for bit.
//! assert_eq!(codec.repair(&mut set)?.rebuilt, [0, 4]);
//! assert_eq!(set, whole);
//!
//! // A proof needs nothing but the root.
//! let json = set.proof(2)?.to_json();
//! MerkleProof::from_json(json.as_bytes())?.verify(&whole.root())?;
//!
//! assert_eq!(codec.stats().failures_survived, 2);
//! # Ok(())
//! # }
//! ```
//!
//! ## Middle: backends of one's own
//!
//! [`backend::BackendRegistry`] spreads a shard set over any [`backend::Backend`]s, round-robin and zones first, and fetches
//! it back.
//!
//! ```
//! use shard::backend::{Backend, BackendRegistry, MemoryBackend, RegisteredBackend, Zone};
//! use shard::id::{BackendId, ShardId};
//! use shard::{ErasureCodec, RedundancyLevel};
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut registry = BackendRegistry::default();
//! let places: Vec<MemoryBackend> = (0..5).map(|_| MemoryBackend::new()).collect();
//! for (number, place) in (1..).zip(&places) {
//!     let (id, zone) = (BackendId([number; 16]), Zone::new(format!("house-{number}"))?);
//!     registry.register(RegisteredBackend::new(id, format!("place-{number}"), zone, Arc::new(place.clone())))?;
//! }
//! // They are taken as they are; a store reads the mark of each first, to know that it is the right one.
//! registry.trust_all();
//!
//! let codec = ErasureCodec::new(RedundancyLevel::Personal);
//! let kept = registry.distribute(&codec.encode(b"the only copy of the thesis")?, 0).await?;
//! assert_eq!(kept.placements.len(), 5);
//!
//! // Two of the five shards are lost.
//! for (index, place) in (0..2).zip(&places) {
//!     place.delete(ShardId { object: kept.description.object(), index }).await?;
//! }
//! let found = registry.retrieve(&kept).await?;
//! assert_eq!(codec.verify(&found)?.missing, [0, 1]);
//! assert_eq!(codec.decode(&found)?, b"the only copy of the thesis");
//! # Ok(())
//! # }
//! ```
//!
//! ## Top: a store
//!
//! [`store::Store`] with the operations in [`ops`]: async, with progress by callback, cancellable.
//!
//! ```
//! use shard::catalog::ObjectState;
//! use shard::ops::put::{PutOptions, PutSource, put};
//! use shard::ops::recover::{RecoverOptions, RecoverOutput, RecoverWhat, recover};
//! use shard::ops::repair::{RepairOptions, repair};
//! use shard::ops::{Controls, ProgressEvent};
//! use shard::store::{InitOptions, OpenOptions, Store};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let desk = tempfile::tempdir()?;
//! # let (dir, thesis, back) = (desk.path().join("store"), desk.path().join("thesis"), desk.path().join("back"));
//! # std::fs::write(&thesis, b"the only copy")?;
//! Store::init(&dir, InitOptions::default()).await?;
//! let store = Store::open(&dir, OpenOptions::default()).await?;
//!
//! // Progress comes by callback; a token stops the work.
//! let read = Arc::new(AtomicU64::new(0));
//! let counter = Arc::clone(&read);
//! let mut controls = Controls::default();
//! controls.progress = Some(Arc::new(move |event| {
//!     if let ProgressEvent::Bytes(more) = event {
//!         counter.fetch_add(more, Ordering::Relaxed);
//!     }
//! }));
//! let sources = vec![PutSource::at(&thesis, None)?];
//! let report = put(&store, PutOptions { sources, controls, ..PutOptions::default() }).await?;
//! assert_eq!((report.files[0].name.as_str(), read.load(Ordering::Relaxed)), ("thesis", 13));
//!
//! // Two of the five places are emptied. Nothing is lost, and repair makes it whole.
//! for number in [1, 2] {
//!     std::fs::remove_dir_all(dir.join(format!("backends/{number}/objects")))?;
//! }
//! let report = repair(&store, RepairOptions::default()).await?;
//! assert_eq!((report.objects[0].before, report.objects[0].after), (ObjectState::Degraded, ObjectState::Healthy));
//!
//! let what = RecoverWhat::Names(vec!["thesis".parse()?]);
//! let output = RecoverOutput::Path(back.clone());
//! recover(&store, RecoverOptions::new(what, output)).await?;
//! assert_eq!(std::fs::read(&back)?, b"the only copy");
//! # Ok(())
//! # }
//! ```

pub mod backend;
pub mod catalog;
pub mod chamber;
pub mod codec;
pub mod crypto;
pub mod engine;
pub mod error;
pub mod format;
pub mod id;
pub mod merkle;
pub mod node;
pub mod ops;
pub mod peer;
pub mod store;
pub mod stripe;
pub mod vault;

pub use codec::ErasureCodec;
pub use error::{Error, ErrorKind, Result};
pub use id::{Geometry, RedundancyLevel};
pub use merkle::MerkleProof;
pub use stripe::ShardSet;
