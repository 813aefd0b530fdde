//! How fast is sent over UDP: as Cubic has it (RFC 9438), except that a loss is not taken for a full link where nothing waits.
//!
//! Links lose datagrams without being full, and Cubic has hardly any window left where two in a hundred are lost. What a
//! full link has before it loses is a queue, and a queue takes time: so TCP Veno tells the one from the other (Fu and Liew,
//! 2003). A full link whose queue is too short to be seen loses much at once, and that counts as well.
//!
//! *What this costs others.* On a full link without a queue that shows (a policer, a buffer of a few milliseconds) up to one
//! byte in sixteen is lost before it gives way, by whoever shares it too, where Cubic gives way at the first. A session that
//! begins while others fill a queue takes that queue for a part of the way. Veno gives way a little at every loss; this does
//! not.

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// There is a queue where a round trip takes longer than the shortest by more than this part of it, and than a time that
/// processors and radios take without one.
const QUEUE_PART: u32 = 4;
const LEAST_QUEUE: Duration = Duration::from_millis(5);
/// Without a queue, one byte in so many may be lost of what was sent in the last two round trips: more is a full link.
const TOLERATED_PART: u64 = 16;
/// Of little that was sent a few datagrams are no sign of anything.
const TOLERATED_DATAGRAMS: u64 = 4;

/// Makes one for each connection.
#[derive(Debug, Default)]
pub(super) struct PatientCubicConfig {
    cubic: Arc<CubicConfig>,
}

impl ControllerFactory for PatientCubicConfig {
    fn build(self: Arc<Self>, now: Instant, datagram_bytes: u16) -> Box<dyn Controller> {
        let cubic = Arc::clone(&self.cubic).build(now, datagram_bytes);
        Box::new(PatientCubic { cubic, way: Way::new(now, datagram_bytes) })
    }
}

/// Cubic, which hears of those losses alone that say that a link is full.
struct PatientCubic {
    cubic: Box<dyn Controller>,
    way: Way,
}

impl Controller for PatientCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.way.took(now, bytes, (rtt.get(), rtt.min()));
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        let is_full = self.way.lost(lost_bytes);
        // Without lost bytes it is a router that says so, and then nothing has to be guessed.
        if is_full || is_persistent_congestion || lost_bytes == 0 {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.way.datagram_bytes = u64::from(new_mtu);
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), way: self.way.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What a way showed of itself in the last two round trips.
#[derive(Debug, Clone)]
struct Way {
    datagram_bytes: u64,
    round_trip: Duration,
    /// The shortest there was. Where the way has become longer it is too short, and every loss is one of a full link.
    shortest: Duration,
    round_began: Instant,
    /// The round trip that is under way, and the one before it.
    rounds: [Round; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Round {
    taken_bytes: u64,
    lost_bytes: u64,
}

impl Way {
    fn new(now: Instant, datagram_bytes: u16) -> Self {
        Self {
            datagram_bytes: u64::from(datagram_bytes),
            round_trip: Duration::ZERO,
            shortest: Duration::ZERO,
            round_began: now,
            rounds: [Round::default(); 2],
        }
    }

    /// So many bytes were confirmed, and a round trip takes so long now and took so long at the shortest.
    fn took(&mut self, now: Instant, bytes: u64, (round_trip, shortest): (Duration, Duration)) {
        (self.round_trip, self.shortest) = (round_trip, shortest);
        let since = now.saturating_duration_since(self.round_began);
        if since >= round_trip {
            // After a pause what was lost before it is of no round trip that counts.
            let before = if since >= 2 * round_trip { Round::default() } else { self.rounds[0] };
            (self.rounds, self.round_began) = ([Round::default(), before], now);
        }
        self.rounds[0].taken_bytes += bytes;
    }

    /// So many bytes were lost. Whether that says that the link is full.
    fn lost(&mut self, bytes: u64) -> bool {
        self.rounds[0].lost_bytes += bytes;
        let lost_bytes: u64 = self.rounds.iter().map(|round| round.lost_bytes).sum();
        let sent_bytes: u64 = lost_bytes + self.rounds.iter().map(|round| round.taken_bytes).sum::<u64>();
        let tolerated_bytes = (sent_bytes / TOLERATED_PART).max(TOLERATED_DATAGRAMS * self.datagram_bytes);
        self.has_queue() || lost_bytes > tolerated_bytes
    }

    fn has_queue(&self) -> bool {
        self.round_trip.saturating_sub(self.shortest) > LEAST_QUEUE.max(self.shortest / QUEUE_PART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: u64 = 1200;
    const FAR: Duration = Duration::from_millis(50);

    fn way() -> (Way, Instant) {
        let now = Instant::now();
        (Way::new(now, DATAGRAM as u16), now)
    }

    /// Rounds in which so many of a hundred datagrams are lost. In how many of them the link was taken for full.
    fn rounds_that_count(lost: u64, round_trip: Duration) -> usize {
        let (mut way, now) = way();
        let full = (1..=100).filter(|number| {
            way.took(now + *number * round_trip, (100 - lost) * DATAGRAM, (round_trip, FAR));
            (0..lost).any(|_| way.lost(DATAGRAM))
        });
        full.count()
    }

    #[test]
    fn a_few_losses_on_a_way_that_is_as_quick_as_ever_are_not_taken_for_a_full_link() {
        assert_eq!(rounds_that_count(0, FAR), 0);
        assert_eq!(rounds_that_count(2, FAR), 0);
        assert_eq!(rounds_that_count(4, FAR), 0);
    }

    #[test]
    fn every_loss_counts_where_there_is_a_queue() {
        assert_eq!(rounds_that_count(1, FAR + FAR / 4 + Duration::from_millis(1)), 100);
        assert_eq!(rounds_that_count(1, FAR + FAR / 4), 0);
    }

    #[test]
    fn many_losses_count_without_a_queue() {
        assert_eq!(rounds_that_count(10, FAR), 100);
        assert_eq!(rounds_that_count(30, FAR), 100);
    }

    #[test]
    fn on_a_short_way_a_processor_that_was_busy_is_no_queue() {
        let (mut way, now) = way();
        way.took(now, 100 * DATAGRAM, (Duration::from_millis(4), Duration::from_micros(50)));
        assert!(!way.lost(DATAGRAM));
        way.took(now, 100 * DATAGRAM, (Duration::from_millis(6), Duration::from_micros(50)));
        assert!(way.lost(DATAGRAM));
    }

    #[test]
    fn losses_are_forgotten_after_two_round_trips() {
        let (mut way, now) = way();
        way.took(now + FAR, 10 * DATAGRAM, (FAR, FAR));
        assert!(!way.lost(4 * DATAGRAM) && way.lost(DATAGRAM));
        way.took(now + 2 * FAR, 10 * DATAGRAM, (FAR, FAR));
        assert!(way.lost(DATAGRAM), "one round trip later");
        way.took(now + 4 * FAR, 10 * DATAGRAM, (FAR, FAR));
        way.took(now + 5 * FAR, 10 * DATAGRAM, (FAR, FAR));
        assert!(!way.lost(DATAGRAM));
    }

    #[test]
    fn what_was_lost_before_a_pause_does_not_count_after_it() {
        let (mut way, now) = way();
        way.took(now + FAR, 10 * DATAGRAM, (FAR, FAR));
        assert!(!way.lost(4 * DATAGRAM));
        way.took(now + 100 * FAR, 10 * DATAGRAM, (FAR, FAR));
        assert!(!way.lost(4 * DATAGRAM));
        assert!(way.lost(DATAGRAM));
    }

    #[test]
    fn what_is_taken_for_a_full_link_lowers_the_window_and_nothing_else_does() {
        let begun = Instant::now();
        let fresh = || Arc::new(PatientCubicConfig::default()).build(begun, DATAGRAM as u16);
        let after = |is_persistent, lost_bytes| {
            let mut controller = fresh();
            controller.on_congestion_event(begun + FAR, begun, is_persistent, lost_bytes);
            controller.window()
        };
        let whole = fresh().window();
        assert_eq!(after(false, DATAGRAM), whole);
        assert!(after(false, 5 * DATAGRAM) < whole, "many at once");
        assert!(after(false, 0) < whole, "a router says so");
        assert!(after(true, DATAGRAM) < after(false, 5 * DATAGRAM), "nothing comes through at all");
        let mut copy = fresh().clone_box();
        copy.on_congestion_event(begun + FAR, begun, false, 5 * DATAGRAM);
        assert_eq!((copy.window(), copy.initial_window()), (after(false, 5 * DATAGRAM), whole));
    }
}
