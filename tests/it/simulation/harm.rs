//! What happens to the places between one operation and the next.

use super::place::{Files, Presence, State};
use super::schedule::Schedule;
use crate::soak::Dice;
use bytes::Bytes;
use shard::id::ShardId;

impl Schedule {
    /// Something happens to the places, between one operation and the next.
    pub(super) fn go_wrong(&mut self) {
        let kind = self.dice.below(14);
        let (place, other, at) = (self.dice.next(), self.dice.next(), self.dice.next());
        let (total_shards, mut dice) = (self.geometry.total_shards(), Dice::new(self.dice.next()));
        let mut state = self.world.state();
        let count = state.places.len() as u64;
        let (place, other) = ((place % count) as usize, (other % count) as usize);
        let happened = match kind {
            0 => state.damage(|places| drop(take(&mut places[place].files, at))),
            1 => state.damage(|places| rot(&mut places[place].files, at)),
            2 => state.damage(|places| cut(&mut places[place].files, at)),
            3 => state.damage(|places| swap(&mut places[place].files, at)),
            4 => state.damage(|places| places[place].files.clear()),
            5 => {
                let files = state.places[place].files.clone();
                state.places[place].snapshot = Some(files);
                true
            }
            6 => state.damage(|places| {
                let now = places[place].files.clone();
                places[place].files = places[place].snapshot.clone().unwrap_or(now);
            }),
            7 => state.set_presence(place, Presence::Away),
            8 | 9 => state.set_presence(place, Presence::Here),
            10 => {
                state.places[place].is_full = !state.places[place].is_full;
                true
            }
            11 if spares(&state, total_shards) => state.damage(|places| places[place].presence = Presence::Gone),
            12 => {
                let (from, to) = (state.places[place].files.clone(), &mut state.places[other].files);
                let copied = from.iter().nth(at as usize % from.len().max(1));
                copied.map(|(shard, bytes)| to.entry(*shard).or_insert_with(|| bytes.clone())).is_some()
            }
            13 => {
                state.weather = state.weather.changed(&mut dice);
                true
            }
            _ => false,
        };
        state.note(kind as u64 | u64::from(happened) << 8);
        drop(state);
        self.counts.harms += u64::from(happened);
        if happened {
            self.tell(format!("  wrong: {kind} at place {}", place + 1));
        }
    }
}

impl State {
    fn set_presence(&mut self, place: usize, presence: Presence) -> bool {
        let now = self.places[place].presence;
        if now == Presence::Gone || now == presence {
            return false;
        }
        self.places[place].presence = presence;
        true
    }
}

/// Whether enough places are left for every shard, with one more gone.
fn spares(state: &State, total_shards: usize) -> bool {
    state.places.iter().filter(|place| place.presence != Presence::Gone).count() > total_shards
}

fn any(files: &Files, at: u64) -> Option<ShardId> {
    files.keys().nth(at as usize % files.len().max(1)).copied()
}

fn take(files: &mut Files, at: u64) -> Option<Bytes> {
    any(files, at).and_then(|shard| files.remove(&shard))
}

fn rot(files: &mut Files, at: u64) {
    let Some(bytes) = any(files, at).and_then(|shard| files.get_mut(&shard)) else { return };
    let mut rotten = bytes.to_vec();
    let bit = (at >> 20) as usize % (rotten.len() * 8).max(1);
    if let Some(byte) = rotten.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    *bytes = rotten.into();
}

fn cut(files: &mut Files, at: u64) {
    if let Some(bytes) = any(files, at).and_then(|shard| files.get_mut(&shard)) {
        *bytes = bytes.slice(..(at >> 20) as usize % bytes.len().max(1));
    }
}

fn swap(files: &mut Files, at: u64) {
    let (Some(one), Some(other)) = (any(files, at), any(files, at >> 20)) else { return };
    let (first, second) = (files[&one].clone(), files[&other].clone());
    files.insert(one, second);
    files.insert(other, first);
}
