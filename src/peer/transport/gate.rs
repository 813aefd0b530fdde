//! How many may knock at once, and how many may stay: in total, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many sessions and handshakes there may be. A handshake under way counts as a session too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Sessions and handshakes, in total.
    pub sessions: usize,
    /// The same, from one address.
    pub sessions_per_address: usize,
    /// Handshakes that are under way, in total.
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
}

#[derive(Debug, Default)]
struct Counts {
    total: Count,
    by_address: HashMap<IpAddr, Count>,
    refused: u64,
    most_handshakes: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    sessions: usize,
    handshakes: usize,
}

/// A place inside; it is given back when this is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
    is_handshake: bool,
}

impl Gate {
    /// With these limits.
    pub fn new(limits: GateLimits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Mutex::default() })
    }

    /// Lets one in that has not said who it is; `None` where a limit is reached.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        let address = crowd(address);
        let mut counts = self.counts();
        let (limits, own) = (&self.limits, counts.by_address.get(&address).copied().unwrap_or_default());
        let is_full = counts.total.sessions >= limits.sessions
            || counts.total.handshakes >= limits.handshakes
            || own.sessions >= limits.sessions_per_address
            || own.handshakes >= limits.handshakes_per_address;
        if is_full {
            counts.refused += 1;
            return None;
        }
        for count in counts.both(address) {
            count.sessions += 1;
            count.handshakes += 1;
        }
        counts.most_handshakes = counts.most_handshakes.max(counts.total.handshakes);
        Some(Pass { gate: Arc::clone(self), address, is_handshake: true })
    }

    /// How many were refused since the beginning.
    pub fn refused(&self) -> u64 {
        self.counts().refused
    }

    /// How many handshakes are under way, and how many there were at once at most.
    pub fn handshakes(&self) -> (usize, usize) {
        let counts = self.counts();
        (counts.total.handshakes, counts.most_handshakes)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn both(&mut self, address: IpAddr) -> [&mut Count; 2] {
        [&mut self.total, self.by_address.entry(address).or_default()]
    }
}

impl Pass {
    /// The peer is known: it is no longer one that only knocks.
    pub fn admit(&mut self) {
        if std::mem::take(&mut self.is_handshake) {
            self.gate.counts().both(self.address).into_iter().for_each(|count| count.handshakes -= 1);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.admit();
        let mut counts = self.gate.counts();
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
        assert!(gate.enter(other).is_none(), "three handshakes");
        passes.iter_mut().for_each(Pass::admit);
        passes.push(gate.enter(one).expect("room"));
        assert!(gate.enter(address("127.0.0.3")).is_none(), "four sessions");
        passes.pop();
        passes.push(gate.enter(other).expect("room"));
        assert_eq!((gate.refused(), gate.handshakes()), (3, (1, 3)));
        drop(passes);
        assert!(gate.counts().by_address.is_empty() && gate.counts().total.sessions == 0);
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
