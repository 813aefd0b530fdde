//! How many may knock at once, and how many may stay: in total, and from one address.

use super::metered::UnknownBytes;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// How many sessions and handshakes there may be. A handshake under way counts as a session too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Sessions and handshakes, in total.
    pub sessions: usize,
    /// The same, from one address.
    pub sessions_per_address: usize,
    /// Handshakes that are under way, in total; beyond it the oldest makes room.
    pub handshakes: usize,
    /// The same, from one address: a crowd behind it is kept waiting, others are not.
    pub handshakes_per_address: usize,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self { sessions: 1024, sessions_per_address: 64, handshakes: 256, handshakes_per_address: 16 }
    }
}

/// Counts who came in, and lets nobody in beyond the limits.
#[derive(Debug)]
pub struct Gate {
    limits: GateLimits,
    counts: Mutex<Counts>,
    pub(super) unknown: UnknownBytes,
}

#[derive(Debug, Default)]
struct Counts {
    total: Count,
    by_address: HashMap<IpAddr, Count>,
    /// Handshakes that are under way, the oldest first.
    knocking: BTreeMap<u64, (IpAddr, CancellationToken)>,
    next: u64,
    stats: GateStats,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    sessions: usize,
    handshakes: usize,
}

/// What came to the gate, and the most there was of it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GateStats {
    /// Handshakes that are under way.
    pub handshakes: usize,
    /// The most there were at once.
    pub most_handshakes: usize,
    /// The most there were from one address.
    pub most_handshakes_per_address: usize,
    /// The most sessions and handshakes there were from one address.
    pub most_sessions_per_address: usize,
    /// Callers that were turned away since a limit was reached.
    pub refused: u64,
    /// Handshakes that had to make room for a newer one.
    pub displaced: u64,
    /// Handshakes that were not through in time.
    pub late: u64,
    /// What callers that are not known sent above TLS and is not done with, in bytes.
    pub unknown_bytes: u64,
    /// The most there was of it, of all callers together.
    pub most_unknown_bytes: u64,
    /// The most there was of it from one caller.
    pub most_unknown_bytes_each: u64,
    /// The same below TLS: what its own handshake took.
    pub most_unknown_wire_bytes_each: u64,
}

/// A place inside; it is given back when this is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
    number: u64,
    displaced: CancellationToken,
}

impl Gate {
    /// With these limits.
    pub fn new(limits: GateLimits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Mutex::default(), unknown: UnknownBytes::default() })
    }

    /// Lets one in that has not said who it is; `None` where a limit is reached. Where only the handshakes are at theirs, the
    /// oldest makes room: who says nothing for long holds nobody up, however many do.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        let address = crowd(address);
        let mut counts = self.counts();
        let (limits, own) = (&self.limits, counts.by_address.get(&address).copied().unwrap_or_default());
        let is_full = counts.total.sessions >= limits.sessions
            || own.sessions >= limits.sessions_per_address
            || own.handshakes >= limits.handshakes_per_address;
        if is_full || (counts.total.handshakes >= limits.handshakes && !counts.displace_oldest()) {
            counts.stats.refused += 1;
            return None;
        }
        Some(counts.let_in(address, self))
    }

    /// How many connections there may be in all, with those that were given up and are not gone yet.
    pub(super) fn most_connections(&self) -> usize {
        self.limits.sessions.saturating_add(self.limits.handshakes.saturating_mul(2))
    }

    /// One was turned away before it came to the gate.
    pub(super) fn count_refused(&self) {
        self.counts().stats.refused += 1;
    }

    /// A handshake was not through in time.
    pub(super) fn count_late(&self) {
        self.counts().stats.late += 1;
    }

    /// What came, and how much of it there is and was.
    pub fn stats(&self) -> GateStats {
        let counts = self.counts();
        let unknown = &self.unknown;
        GateStats {
            handshakes: counts.total.handshakes,
            unknown_bytes: unknown.plain.now(),
            most_unknown_bytes: unknown.plain.most(),
            most_unknown_bytes_each: unknown.plain.most_each(),
            most_unknown_wire_bytes_each: unknown.wire.most_each(),
            ..counts.stats
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn both(&mut self, address: IpAddr) -> [&mut Count; 2] {
        [&mut self.total, self.by_address.entry(address).or_default()]
    }

    fn let_in(&mut self, address: IpAddr, gate: &Arc<Gate>) -> Pass {
        for count in self.both(address) {
            count.sessions += 1;
            count.handshakes += 1;
        }
        let (number, displaced) = (self.next, CancellationToken::new());
        self.next += 1;
        self.knocking.insert(number, (address, displaced.clone()));
        let own = self.by_address.get(&address).copied().unwrap_or_default();
        let stats = &mut self.stats;
        stats.most_handshakes = stats.most_handshakes.max(self.total.handshakes);
        stats.most_handshakes_per_address = stats.most_handshakes_per_address.max(own.handshakes);
        stats.most_sessions_per_address = stats.most_sessions_per_address.max(own.sessions);
        Pass { gate: Arc::clone(gate), address, number, displaced }
    }

    /// Whether there was one. Its place among the sessions is free when its connection is gone.
    fn displace_oldest(&mut self) -> bool {
        let Some((_, (address, displaced))) = self.knocking.pop_first() else { return false };
        self.both(address).into_iter().for_each(|count| count.handshakes -= 1);
        self.stats.displaced += 1;
        displaced.cancel();
        true
    }

    /// Whether it was under way until now.
    fn end_handshake(&mut self, number: u64) -> bool {
        let Some((address, _)) = self.knocking.remove(&number) else { return false };
        self.both(address).into_iter().for_each(|count| count.handshakes -= 1);
        true
    }
}

impl Pass {
    /// The peer is known: it is no longer one that only knocks. `false` where it had to make room before.
    #[must_use]
    pub fn admit(&mut self) -> bool {
        self.gate.counts().end_handshake(self.number)
    }

    /// Cancelled when it has to make room for another.
    pub fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        counts.end_handshake(self.number);
        counts.both(self.address).into_iter().for_each(|count| count.sessions -= 1);
        if counts.by_address.get(&self.address).is_some_and(|count| count.sessions == 0) {
            counts.by_address.remove(&self.address);
        }
    }
}

/// Who has one IPv6 address has 2⁶⁴ of them: they count as one.
fn crowd(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GateLimits =
        GateLimits { sessions: 4, sessions_per_address: 3, handshakes: 3, handshakes_per_address: 2 };

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn no_limit_is_passed_and_a_place_is_given_back() {
        let gate = Gate::new(LIMITS);
        let (one, other) = (address("127.0.0.1"), address("127.0.0.2"));
        let mut passes: Vec<Pass> = (0..2).map(|_| gate.enter(one).expect("room")).collect();
        assert!(gate.enter(one).is_none(), "two handshakes from one address");
        passes.push(gate.enter(other).expect("room"));
        assert!(passes.iter_mut().all(Pass::admit));
        passes.push(gate.enter(other).expect("room"));
        assert!(gate.enter(address("127.0.0.3")).is_none(), "four sessions");
        passes.pop();
        assert!(gate.enter(one).is_some());
        let stats = gate.stats();
        assert_eq!((stats.refused, stats.displaced, stats.handshakes, stats.most_handshakes), (2, 0, 0, 3));
        assert_eq!((stats.most_handshakes_per_address, stats.most_sessions_per_address), (2, 3));
        drop(passes);
        assert!(gate.counts().by_address.is_empty() && gate.counts().total.sessions == 0);
    }

    #[test]
    fn the_oldest_handshake_makes_room_and_is_not_admitted_after_that() {
        let gate = Gate::new(GateLimits { sessions: 100, ..LIMITS });
        let mut silent: Vec<Pass> =
            (1..=3).map(|number| gate.enter(address(&format!("127.0.0.{number}"))).expect("room")).collect();
        let mut newest = gate.enter(address("127.0.0.9")).expect("the oldest makes room");
        assert!(silent[0].displaced().is_cancelled() && !silent[1].displaced().is_cancelled());
        assert!(!silent[0].admit() && newest.admit());
        let stats = gate.stats();
        assert_eq!((stats.displaced, stats.refused, stats.handshakes, stats.most_handshakes), (1, 0, 2, 3));
        // It counts as a session until it is gone.
        assert_eq!(gate.counts().total.sessions, 4);
        drop((silent, newest));
        assert!(gate.counts().by_address.is_empty() && gate.counts().total.sessions == 0);
        assert_eq!(gate.stats().handshakes, 0);
    }

    #[test]
    fn addresses_of_one_network_that_one_machine_has_count_as_one() {
        let gate = Gate::new(LIMITS);
        let _passes: Vec<Pass> =
            ["2001:db8::1", "2001:db8::2"].iter().map(|text| gate.enter(address(text)).expect("room")).collect();
        assert!(gate.enter(address("2001:db8::ffff:3")).is_none());
        assert!(gate.enter(address("2001:db8:0:1::3")).is_some());
        assert_eq!(crowd(address("::ffff:127.0.0.1")), address("127.0.0.1"));
    }
}
