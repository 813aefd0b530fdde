//! When to ask a peer for a sign of life, and when it has been silent for too long. Time is an argument.

use std::collections::VecDeque;

/// Answers that are waited for: a peer that answers none of these is silent anyway.
const MAX_UNANSWERED: usize = 8;

/// How often, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatTimes {
    /// From one question to the next.
    pub interval_ms: u64,
    /// A peer from which nothing was heard for this long is gone.
    pub idle_ms: u64,
}

impl Default for HeartbeatTimes {
    fn default() -> Self {
        Self { interval_ms: 30_000, idle_ms: 60_000 }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Ask, with this number.
    Ask(u64),
    /// Nothing before this time.
    Wait {
        /// In milliseconds, of the same clock.
        until_ms: u64,
    },
    /// The peer is gone.
    Gone,
}

/// The heartbeat of one session.
#[derive(Debug)]
pub struct Heartbeat {
    times: HeartbeatTimes,
    heard_ms: u64,
    next_ms: u64,
    next_number: u64,
    unanswered: VecDeque<(u64, u64)>,
}

impl Heartbeat {
    /// Begins now, with a first question at once.
    pub fn new(times: HeartbeatTimes, now_ms: u64) -> Self {
        Self { times, heard_ms: now_ms, next_ms: now_ms, next_number: 0, unanswered: VecDeque::new() }
    }

    /// Something came from the peer.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = self.heard_ms.max(now_ms);
    }

    /// An answer came; the round-trip time in milliseconds, when it is to a question that was asked.
    pub fn answered(&mut self, number: u64, now_ms: u64) -> Option<u64> {
        self.heard(now_ms);
        let at = self.unanswered.iter().position(|(asked, _)| *asked == number)?;
        let (_, asked_ms) = self.unanswered[at];
        self.unanswered.drain(..=at);
        Some(now_ms.saturating_sub(asked_ms))
    }

    /// What to do now.
    pub fn poll(&mut self, now_ms: u64) -> Beat {
        let gone_ms = self.heard_ms.saturating_add(self.times.idle_ms);
        if now_ms >= gone_ms {
            return Beat::Gone;
        }
        if now_ms < self.next_ms {
            return Beat::Wait { until_ms: gone_ms.min(self.next_ms) };
        }
        let number = self.next_number;
        self.next_number += 1;
        self.next_ms = now_ms.saturating_add(self.times.interval_ms.max(1));
        if self.unanswered.len() == MAX_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((number, now_ms));
        Beat::Ask(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: HeartbeatTimes = HeartbeatTimes { interval_ms: 30, idle_ms: 60 };

    #[test]
    fn a_peer_that_answers_stays_and_its_round_trip_is_measured() {
        let mut heartbeat = Heartbeat::new(TIMES, 100);
        for round in 0..50_u64 {
            let now = 100 + round * 30;
            assert_eq!(heartbeat.poll(now), Beat::Ask(round));
            assert_eq!(heartbeat.poll(now), Beat::Wait { until_ms: now + 30 });
            assert_eq!(heartbeat.answered(round, now + 4), Some(4));
            assert_eq!(heartbeat.answered(round, now + 5), None, "an answer counts once");
        }
    }

    #[test]
    fn a_peer_that_is_silent_is_gone_when_the_time_is_over_and_not_before() {
        let mut heartbeat = Heartbeat::new(TIMES, 0);
        assert_eq!(heartbeat.poll(0), Beat::Ask(0));
        heartbeat.heard(10);
        assert_eq!(heartbeat.poll(30), Beat::Ask(1));
        assert_eq!(heartbeat.poll(60), Beat::Ask(2));
        assert_eq!(heartbeat.poll(69), Beat::Wait { until_ms: 70 });
        assert_eq!(heartbeat.poll(70), Beat::Gone);
    }

    #[test]
    fn what_is_waited_for_is_bounded() {
        let mut heartbeat = Heartbeat::new(HeartbeatTimes { interval_ms: 1, idle_ms: u64::MAX }, 0);
        for now in 0..1000 {
            assert!(matches!(heartbeat.poll(now), Beat::Ask(_)));
        }
        assert_eq!(heartbeat.unanswered.len(), MAX_UNANSWERED);
        assert_eq!(heartbeat.answered(5, 1000), None);
        assert_eq!(heartbeat.answered(999, 1000), Some(1));
        assert!(heartbeat.unanswered.is_empty());
    }
}
