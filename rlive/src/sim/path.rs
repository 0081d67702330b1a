//! The ways between relays and players, and what befalls relays.
//!
//! Time is in microseconds since the start. States that come and go ([`Spells`], [`Loss`]) are followed when they are
//! looked at, which must happen in the order of time.

use super::dice::Dice;
use super::model::Model;

/// The least time after which TCP sends again what nothing is heard of: Linux's.
const RTO_US: u64 = 200_000;
/// So often at most; nobody waits for more.
const SENT_AGAIN: u32 = 12;

/// Microseconds of a time in seconds; none when it is negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are finite; what is too large saturates"
)]
pub(super) fn us(seconds: f64) -> u64 {
    (seconds * 1e6).max(0.0) as u64
}

/// Something that begins now and then, lasts for a while, and has a strength.
#[derive(Debug)]
pub(super) struct Spells {
    dice: Dice,
    every_s: f64,
    lasts: Lasts,
    strength: (f64, f64),
    /// When the next one begins or began, when it ends, and how strong it is.
    next: (u64, u64, f64),
}

/// How long a spell lasts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lasts {
    Exponential(f64),
    Between(f64, f64),
}

impl Spells {
    pub(super) fn new(dice: Dice, every_s: f64, lasts: Lasts, strength: (f64, f64)) -> Self {
        let mut spells = Self {
            dice,
            every_s,
            lasts,
            strength,
            next: (0, 0, 0.0),
        };
        spells.draw();
        spells
    }

    fn draw(&mut self) {
        let begins = self.next.1 + us(self.dice.exponential(self.every_s));
        let lasts = match self.lasts {
            Lasts::Exponential(mean) => self.dice.exponential(mean),
            Lasts::Between(least, most) => self.dice.between(least, most),
        };
        let strength = self.dice.between(self.strength.0, self.strength.1);
        self.next = (begins, begins + us(lasts), strength);
    }

    /// The spell at a time: when it ends, and its strength.
    pub(super) fn at(&mut self, now: u64) -> Option<(u64, f64)> {
        while self.next.1 <= now {
            self.draw();
        }
        let (begins, ends, strength) = self.next;
        (begins <= now).then_some((ends, strength))
    }
}

/// Gilbert's and Elliott's: good times and bad times, each with its loss.
#[derive(Debug)]
pub(super) struct Loss {
    bad: Spells,
    dice: Dice,
    good: f64,
    worse: f64,
}

impl Loss {
    pub(super) fn new(mut dice: Dice, model: &Model) -> Self {
        let share = model.bad_share.clamp(0.000_1, 0.999);
        let bad_s = model.bad_ms / 1_000.0;
        let times = Dice::new(dice.unit().to_bits(), &[]);
        Self {
            bad: Spells::new(
                times,
                bad_s * (1.0 - share) / share,
                Lasts::Exponential(bad_s),
                (0.0, 0.0),
            ),
            dice,
            good: model.loss_good,
            worse: model.loss_bad,
        }
    }

    pub(super) fn hits(&mut self, now: u64) -> bool {
        let probability = match self.bad.at(now) {
            Some(_) => self.worse,
            None => self.good,
        };
        self.dice.chance(probability)
    }
}

/// What a relay has and what befalls it.
#[derive(Debug)]
pub(super) struct Nature {
    /// What it says its uplink carries, in Mb/s.
    pub(super) says_mbps: f64,
    /// What it really carries.
    pub(super) has_mbps: f64,
    /// When it goes for ever.
    pub(super) dies: u64,
    /// It is in the scheduler's lists, but gone.
    pub(super) stale: bool,
    /// It has no room, although it says so.
    pub(super) full: bool,
    pub(super) slow: bool,
    outages: Spells,
    congestion: Spells,
    /// When its uplink has sent what waits.
    free: u64,
    queue_us: u64,
}

impl Nature {
    /// The relay of a number; `top`: the one with the largest uplink of so many.
    pub(super) fn new(seed: u64, number: u64, top: u32, model: &Model) -> Self {
        let mut dice = Dice::new(seed, &[1, number]);
        let draw = |dice: &mut Dice| {
            let says = dice.log_normal(model.uplink_mu.exp(), model.uplink_sigma);
            let says = says.clamp(0.5, 1_000.0);
            let part = match dice.chance(model.weak_share) {
                true => dice.between(model.weak_least, model.weak_most),
                false => dice.beta(model.uplink_alpha, model.uplink_beta),
            };
            (says * part, says)
        };
        let drawn = (0..top).map(|_| draw(&mut dice));
        let best = drawn.max_by(|a, b| a.0.total_cmp(&b.0));
        let (has_mbps, says_mbps) = best.unwrap_or((1.0, 1.0));
        let mut fate = Dice::new(seed, &[2, number]);
        let kind = fate.unit();
        let stale = kind < model.stale_share;
        let full = !stale && kind < model.stale_share + model.full_share;
        let before = model.stale_share + model.full_share;
        let slow = !stale && !full && kind < before + model.slow_share;
        Self {
            says_mbps,
            has_mbps,
            dies: us(fate.weibull(model.life_median_s, model.life_shape)),
            stale,
            full,
            slow,
            outages: Spells::new(
                Dice::new(seed, &[3, number]),
                model.outage_every_s,
                Lasts::Between(1.0, model.outage_most_s.max(1.0)),
                (0.0, 0.0),
            ),
            congestion: Spells::new(
                Dice::new(seed, &[4, number]),
                model.congested_every_s,
                Lasts::Exponential(model.congested_s),
                (model.congested_least_ms, model.congested_most_ms),
            ),
            free: 0,
            queue_us: us(model.uplink_queue_ms / 1_000.0),
        }
    }

    pub(super) fn is_alive(&self, now: u64) -> bool {
        !self.stale && now < self.dies
    }

    /// When an outage of now ends.
    pub(super) fn outage(&mut self, now: u64) -> Option<u64> {
        self.outages.at(now).map(|(ends, _)| ends)
    }

    /// Sends bytes: when the last of them has left, or never, if too much waits.
    pub(super) fn send(&mut self, now: u64, bytes: usize) -> Option<u64> {
        let waits = self.free.saturating_sub(now);
        if waits > self.queue_us {
            return None;
        }
        let bits = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) * 8.0;
        self.free = self.free.max(now) + us(bits / (self.has_mbps * 1e6));
        Some(self.free)
    }

    /// Sends bytes by a connection that waits until there is room: when the last of them has left.
    pub(super) fn send_waiting(&mut self, now: u64, bytes: usize) -> u64 {
        let bits = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) * 8.0;
        self.free = self.free.max(now) + us(bits / (self.has_mbps * 1e6));
        self.free
    }

    /// What congestion adds to the delay now, in microseconds.
    pub(super) fn congestion_us(&mut self, now: u64) -> u64 {
        let strength = self.congestion.at(now).map(|(_, ms)| ms);
        strength.map_or(0, |ms| us(ms / 1_000.0))
    }
}

/// The way between one relay and one player.
#[derive(Debug)]
pub(super) struct Path {
    reachable: bool,
    delay_us: u64,
    jitter_s: f64,
    dice: Dice,
    down: Loss,
    up: Loss,
    /// When the newest packet to the player arrives: packets of a path do not overtake each other.
    arrives: u64,
}

impl Path {
    pub(super) fn is_reachable(&self) -> bool {
        self.reachable
    }

    pub(super) fn new(
        seed: u64,
        relay: u64,
        player: u64,
        near: bool,
        slow: bool,
        model: &Model,
    ) -> Self {
        let named = |what: u64| Dice::new(seed, &[5, relay, player, what]);
        let mut dice = named(0);
        let median = if near {
            model.delay_ms
        } else {
            model.delay_far_ms
        };
        let delay_ms = dice.log_normal(median, model.delay_sigma);
        let more_ms = if slow { 600.0 } else { 0.0 };
        Self {
            reachable: !dice.chance(model.unreachable_share),
            delay_us: us((delay_ms + more_ms) / 1_000.0),
            jitter_s: model.jitter_ms / 1_000.0,
            down: Loss::new(named(1), model),
            up: Loss::new(named(2), model),
            dice,
            arrives: 0,
        }
    }

    /// When a packet that leaves the relay now is with the player, if ever.
    pub(super) fn down(&mut self, now: u64, congestion_us: u64) -> Option<u64> {
        let lost = self.down.hits(now) || !self.reachable;
        let at = now + self.delay_us + congestion_us + us(self.dice.exponential(self.jitter_s));
        self.arrives = self.arrives.max(at);
        (!lost).then_some(self.arrives)
    }

    /// There and back without congestion.
    pub(super) fn trip_us(&self) -> u64 {
        2 * self.delay_us
    }

    /// When a segment of a TCP connection is with the player, and how often it was sent again: the first time a round trip
    /// later, when acknowledgements of what follows have told the sender, then after [`RTO_US`], twice as long each time.
    pub(super) fn reliable(&mut self, now: u64, congestion_us: u64) -> Option<(u64, u32)> {
        let mut wait = self.trip_us() + congestion_us;
        let mut leaves = now;
        (0..SENT_AGAIN).find_map(|again| {
            let arrives = self.down(leaves, congestion_us);
            leaves += wait;
            wait = (2 * wait).max(RTO_US);
            Some((arrives?, again))
        })
    }

    /// When a packet that leaves the player now is with the relay, if ever.
    pub(super) fn up(&mut self, now: u64) -> Option<u64> {
        let lost = self.up.hits(now) || !self.reachable;
        let at = now + self.delay_us + us(self.dice.exponential(self.jitter_s));
        (!lost).then_some(at)
    }
}

/// How long relays take with requests for packets.
#[derive(Debug)]
pub(super) struct Replies {
    dice: Dice,
    median_s: f64,
    sigma: f64,
}

impl Replies {
    pub(super) fn new(dice: Dice, model: &Model) -> Self {
        Self {
            dice,
            median_s: model.reply_ms / 1_000.0,
            sigma: model.reply_sigma,
        }
    }

    pub(super) fn draw_us(&mut self) -> u64 {
        us(self.dice.log_normal(self.median_s, self.sigma))
    }
}
