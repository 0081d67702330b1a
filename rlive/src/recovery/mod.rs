//! Where missing frames are got from: the paper's loss function (§5.3), solved exactly.
//!
//! For every missing frame there are five choices ([`Action`]); two of them, moving a whole substream or the whole stream
//! to the origin, serve other frames too. The loss of a plan is what it costs in bytes plus λ times the risk of every
//! frame that may come too late:
//!
//! ```text
//! loss(A) = cost(A) + λ · Σ P(frame i late | aᵢ) · risk(i)
//! ```
//!
//! Terms of different frames are independent except through the price of moving, so the least is found by comparing, for
//! each substream, "each frame its best" with "moved", and the sum of those with "everything moved": O(frames +
//! substreams) instead of 5ᵐ. A test compares with brute force.
//!
//! Beyond the paper: giving a frame up is a choice (otherwise the least loss is sometimes a request that cannot succeed),
//! and a substream that keeps losing frames is charged for those it will lose.

mod model;

pub use model::{Deadlines, Delivery};

/// Where a frame is got from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is not worth asking for.
    GiveUp,
    /// Its missing packets from the relay.
    Packets,
    /// The frame from the origin.
    Frame,
    /// Its substream from the origin, from now on.
    Substream,
    /// Everything from the origin, from now on.
    Stream,
}

/// A missing frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lost {
    /// Its substream.
    pub substream: u8,
    /// What is lost with it, in frames.
    pub risk: f64,
    /// Probability that its packets come too late from the relay; `None` when no relay can be asked.
    pub late_from_relay: Option<f64>,
    /// Probability that it comes too late from the origin.
    pub late_from_origin: f64,
    /// Bytes of its missing packets.
    pub missing_bytes: f64,
    /// All its bytes.
    pub bytes: f64,
}

/// Prices, in bytes from the origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A byte from a relay. Best-effort bandwidth costs 20–40 % less (paper, §2.1).
    pub relay_byte: f64,
    /// A request to the origin.
    pub request: f64,
    /// A frame that cannot be shown: λ.
    pub frame: f64,
}

impl Default for Prices {
    fn default() -> Self {
        Self {
            relay_byte: 0.7,
            request: 1_000.0,
            frame: 1e6,
        }
    }
}

/// What moving costs, in bytes from the origin beyond what staying would cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Moving {
    /// Each substream; infinite for one that cannot be moved.
    pub substreams: Vec<f64>,
    /// All of them.
    pub stream: f64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One action for each lost frame.
    pub actions: Vec<Action>,
    /// What it costs.
    pub loss: f64,
}

impl Lost {
    /// The loss of this frame when its substream is not moved.
    fn alone(&self, prices: &Prices) -> (Action, f64) {
        let risk = prices.frame * self.risk;
        let packets = self.late_from_relay.map(|late| {
            (
                Action::Packets,
                prices.relay_byte * self.missing_bytes + late * risk,
            )
        });
        let frame = prices.request + self.bytes + self.late_from_origin * risk;
        let choices = [
            packets,
            Some((Action::Frame, frame)),
            Some((Action::GiveUp, risk)),
        ];
        least(choices.into_iter().flatten())
    }

    /// The loss of this frame when it comes from the origin anyway.
    fn moved(&self, prices: &Prices, action: Action) -> (Action, f64) {
        let along = (action, self.late_from_origin * prices.frame * self.risk);
        least([along, self.alone(prices)].into_iter())
    }
}

/// The first of the least.
fn least(choices: impl Iterator<Item = (Action, f64)>) -> (Action, f64) {
    let best = choices.reduce(|best, next| if next.1 < best.1 { next } else { best });
    best.unwrap_or((Action::GiveUp, f64::INFINITY))
}

/// The plan of least loss.
#[must_use]
pub fn decide(lost: &[Lost], moving: &Moving, prices: &Prices) -> Plan {
    let mut apart = 0.0;
    let mut actions = vec![Action::GiveUp; lost.len()];
    for (substream, price) in (0_u8..).zip(&moving.substreams) {
        let of = || {
            lost.iter()
                .enumerate()
                .filter(move |(_, lost)| lost.substream == substream)
        };
        let stay: f64 = of().map(|(_, lost)| lost.alone(prices).1).sum();
        let along = |lost: &Lost| lost.moved(prices, Action::Substream);
        let moved: f64 = price + of().map(|(_, lost)| along(lost).1).sum::<f64>();
        apart += stay.min(moved);
        for (index, lost) in of() {
            if let Some(action) = actions.get_mut(index) {
                *action = match moved < stay {
                    true => along(lost).0,
                    false => lost.alone(prices).0,
                };
            }
        }
    }
    let along = |lost: &Lost| lost.moved(prices, Action::Stream);
    let together = moving.stream + lost.iter().map(|lost| along(lost).1).sum::<f64>();
    if together < apart {
        actions = lost.iter().map(|lost| along(lost).0).collect();
    }
    Plan {
        actions,
        loss: apart.min(together),
    }
}

#[cfg(test)]
mod tests;
