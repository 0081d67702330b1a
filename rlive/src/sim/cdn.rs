//! The dedicated nodes: what a connection to one carries, and how long single requests take.
//!
//! All connections to a node share it. As long as its load is below one, each carries what its last mile can; above, each
//! gets the same share, which is the bitrate of a whole stream divided by the load. A part of the stream fits into such a
//! share when the whole does not. The load wanders about its mean (Ornstein and Uhlenbeck's process), the same for all arms
//! of a seed: a few viewers do not change it.

use super::dice::Dice;
use super::model::Model;
use super::path::us;

/// The load is drawn this often.
const STEP_US: u64 = 100_000;

/// Dedicated nodes: players and relays of many places use different ones.
const NODES: usize = 16;

/// The nodes' load over time.
#[derive(Debug)]
pub(super) struct Cdn {
    /// Bits per microsecond that one connection to each node carries, in each step.
    rates: Vec<Vec<f64>>,
    dice: Dice,
    rtt_s: (f64, f64),
    fetch_s: (f64, f64),
    success: f64,
    fails_us: u64,
}

impl Cdn {
    pub(super) fn new(seed: u64, seconds: f64, model: &Model) -> Self {
        let steps = usize::try_from(us(seconds) / STEP_US).unwrap_or_default() + 50;
        let rates = (0..).take(NODES).map(|node| {
            let mut dice = Dice::new(seed, &[6, node]);
            let keeps = (-0.1 / model.cdn_load_memory_s).exp();
            let mut x = dice.normal();
            let mut step = || {
                x = keeps * x + (1.0 - keeps * keeps).sqrt() * dice.normal();
                let load = model.cdn_load * (1.0 + model.cdn_load_sd * x);
                let most = model.last_mile_mbps;
                match load < 1.0 {
                    true => most,
                    false => (model.video_kbps / 1_000.0 / load).min(most),
                }
            };
            (0..steps).map(|_| step()).collect()
        });
        let rates = rates.collect();
        Self {
            rates,
            dice: Dice::new(seed, &[7]),
            rtt_s: (model.cdn_rtt_ms / 1_000.0, model.cdn_rtt_sigma),
            fetch_s: (model.fetch_ms / 1_000.0, model.fetch_sigma),
            success: model.fetch_success,
            fails_us: us(model.fetch_fails_after_ms / 1_000.0),
        }
    }

    /// When bytes that begin to be sent at a time have been sent.
    fn sent_at(&self, node: usize, from: u64, bytes: usize) -> u64 {
        let rates = self.rates.get(node % NODES).map_or(&[][..], Vec::as_slice);
        let mut bits = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) * 8.0;
        let mut at = from;
        loop {
            let step = at / STEP_US;
            let rate = usize::try_from(step)
                .ok()
                .and_then(|step| rates.get(step).or(rates.last()));
            let rate = rate.copied().unwrap_or(1.0);
            let ends = (step + 1) * STEP_US;
            let fits = rate * f64::from(u32::try_from(ends - at).unwrap_or(u32::MAX));
            if fits >= bits {
                return at + us(bits / rate / 1e6);
            }
            bits -= fits;
            at = ends;
        }
    }

    /// A connection to a node.
    pub(super) fn connect(&mut self, node: usize) -> Connection {
        let rtt = self.dice.log_normal(self.rtt_s.0, self.rtt_s.1);
        Connection {
            node,
            free: 0,
            half_us: us(rtt / 2.0),
        }
    }

    /// How long an answer of this size takes, and whether there is one.
    pub(super) fn fetch(&mut self, node: usize, now: u64, bytes: usize) -> (u64, bool) {
        let took = us(self.dice.log_normal(self.fetch_s.0, self.fetch_s.1));
        match self.dice.chance(self.success) {
            true => (self.sent_at(node, now + took, bytes), true),
            false => (now + self.fails_us, false),
        }
    }
}

/// A connection, in which everything comes in order.
#[derive(Debug)]
pub(super) struct Connection {
    node: usize,
    free: u64,
    half_us: u64,
}

impl Connection {
    /// When bytes that are there now are at the other end.
    pub(super) fn send(&mut self, cdn: &Cdn, now: u64, bytes: usize) -> u64 {
        self.free = cdn.sent_at(self.node, self.free.max(now), bytes);
        self.free + self.half_us
    }

    /// The request to open it takes as long again.
    pub(super) fn opened(&mut self, now: u64) {
        self.free = self.free.max(now + self.half_us);
    }
}
