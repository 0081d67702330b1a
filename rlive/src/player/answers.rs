//! How long relays take with packets that are asked of them again.
//!
//! Not a round trip: a relay that is weak, or has much to send, answers when it gets to it. The paper measured a median of
//! 778 ms (§2.4). So the time is learned from the answers, of each relay, and of all for those that have not been asked.
//!
//! Bounds: [`MAX_ASKED`] frames are remembered for each relay.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::substream::Entry;

/// Longer than this nobody waits for packets.
const MAX_PATIENCE: Duration = Duration::from_secs(2);
/// Frames whose answers are waited for.
const MAX_ASKED: usize = 64;

/// How long answers take: the estimator of RFC 6298 §2.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    smooth: Option<Duration>,
    varies: Duration,
    /// Frames, and when they were asked for first and last.
    asked: VecDeque<(Entry, Instant, Instant)>,
}

impl Answers {
    /// Packets of a frame are asked for.
    pub(crate) fn ask(&mut self, now: Instant, entry: &Entry) {
        let mut asked = self.asked.iter_mut();
        if let Some((_, _, last)) = asked.find(|(asked, ..)| asked == entry) {
            *last = now;
            return;
        }
        self.asked.truncate(MAX_ASKED - 1);
        self.asked.push_front((*entry, now, now));
    }

    /// One has come: how long it took, for each frame once. It answers the last request, unless it is there sooner than a
    /// round trip after it.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        entry: &Entry,
        trip: Duration,
    ) -> Option<Duration> {
        let at = self.asked.iter().position(|(asked, ..)| asked == entry)?;
        let (_, first, last) = self.asked.remove(at)?;
        let since_last = now.saturating_duration_since(last);
        let took = match since_last < trip.mul_f64(0.8) {
            true => now.saturating_duration_since(first),
            false => since_last,
        };
        self.observe(took);
        Some(took)
    }

    /// Takes a time into account.
    pub(crate) fn observe(&mut self, took: Duration) {
        match self.smooth {
            None => {
                self.smooth = Some(took);
                self.varies = took / 2;
            }
            Some(smooth) => {
                self.varies = (self.varies * 3 + smooth.abs_diff(took)) / 4;
                self.smooth = Some((smooth * 7 + took) / 8);
            }
        }
    }

    /// After how long an answer is not to be expected any more: by its own answers, or else by those of others, but not
    /// sooner than a round trip allows.
    pub(crate) fn patience(&self, others: &Self, rto: Duration) -> Duration {
        let known = self.timeout().or_else(|| others.timeout());
        known.map_or(rto, |known| known.clamp(rto, MAX_PATIENCE.max(rto)))
    }

    fn timeout(&self) -> Option<Duration> {
        self.smooth.map(|smooth| smooth + 4 * self.varies)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do in a test")]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_judged_by_its_answers_and_before_by_those_of_others() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let entry = Entry::read(&mut &[0; 16][..]).expect("valid");
        let (mut one, mut all) = (Answers::default(), Answers::default());
        assert_eq!(one.patience(&all, ms(80)), ms(80));
        all.observe(ms(300));
        assert_eq!(one.patience(&all, ms(80)), ms(300 + 4 * 150));
        one.ask(now, &entry);
        one.ask(now + ms(100), &entry);
        let answer = one.answered(now + ms(150), &entry, ms(80));
        assert_eq!(answer, Some(ms(150)), "too soon for the second request");
        assert_eq!(one.answered(now + ms(160), &entry, ms(80)), None, "once");
        all.ask(now, &entry);
        all.ask(now + ms(100), &entry);
        let answer = all.answered(now + ms(190), &entry, ms(80));
        assert_eq!(answer, Some(ms(90)), "it was the first that got lost");
        assert_eq!(one.patience(&all, ms(80)), ms(150 + 4 * 75));
        (0..9).for_each(|_| one.observe(ms(5_000)));
        assert_eq!(one.patience(&all, ms(80)), MAX_PATIENCE);
    }
}
