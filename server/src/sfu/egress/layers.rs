//! Which layer of a picture a subscriber gets: the largest that its path carries and that it asked for.
//!
//! Every layer that is published is measured as it passes, sent or not. Going down is decided at once when a layer is not
//! sent any more, and after [`PATIENCE`] when it does not fit; going up needs [`MARGIN`], and more time each time that it
//! had to be taken back. A change takes place where a keyframe of the other layer begins and the picture of the present one
//! has ended, so that no picture is broken off.
//!
//! Invariants:
//! - Packets of one layer leave at a time; those of another begin with a keyframe.
//! - At most [`MAX_HELD`] packets of a keyframe wait for the end of the present picture.

use std::time::{Duration, Instant};

use super::{Meter, OVERHEAD, gate};
use crate::sfu::activity::Activity;
use crate::sfu::packet::Relayed;
use crate::sfu::sdp::MAX_LAYERS;
use crate::sfu::types::SessionId;

/// All layers are waited for, for so long, before the first is chosen.
const GATHERING: Duration = Duration::from_millis(100);
/// A layer must have been too large for so long.
const PATIENCE: Duration = Duration::from_millis(600);
/// Times its rate that the path must carry before a larger layer is taken.
const MARGIN: f64 = 1.15;
/// Between a change and the next one up; doubled each time that a layer is given up within [`TRIAL`].
const UP_WAIT: Duration = Duration::from_secs(3);
const MAX_UP_WAIT: Duration = Duration::from_secs(60);
const TRIAL: Duration = Duration::from_secs(15);
/// Sound and repetitions need something too.
const BESIDE_BPS: f64 = 60_000.0;
/// A keyframe that does not come is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_millis(1_000);
const MAX_HELD: usize = 256;

/// A layer as it is published.
#[derive(Debug)]
struct Known {
    layer: u8,
    /// Width and height; zero before the first parameter sets.
    size: (u32, u32),
    meter: Meter,
    activity: Activity,
}

impl Known {
    fn area(&self) -> u64 {
        u64::from(self.size.0) * u64::from(self.size.1)
    }
}

/// The choice for one subscriber.
#[derive(Debug)]
pub(super) struct Layers {
    max_height: Option<u32>,
    from: Option<SessionId>,
    began: Option<Instant>,
    known: Vec<Known>,
    current: Option<u8>,
    target: Option<u8>,
    asked: Option<Instant>,
    /// The beginning of a keyframe of the target.
    held: Vec<Relayed>,
    /// The present picture has begun and not ended.
    is_within: bool,
    too_large: Option<Instant>,
    changed: Option<Instant>,
    raised: Option<Instant>,
    up_wait: Duration,
    switches: u64,
}

impl Layers {
    /// For a subscriber that shows pictures of this height at most, if it said so.
    pub(super) fn new(max_height: Option<u32>) -> Self {
        Self {
            max_height,
            from: None,
            began: None,
            known: Vec::new(),
            current: None,
            target: None,
            asked: None,
            held: Vec::new(),
            is_within: false,
            too_large: None,
            changed: None,
            raised: None,
            up_wait: UP_WAIT,
            switches: 0,
        }
    }

    /// Notes a packet that is published, whether it is sent or not.
    pub(super) fn note(&mut self, now: Instant, from: SessionId, relayed: &Relayed) {
        if self.from != Some(from) {
            *self = Self {
                from: Some(from),
                began: Some(now),
                switches: self.switches,
                ..Self::new(self.max_height)
            };
        }
        let layer = relayed.layer;
        let at = self.known.iter().position(|known| known.layer == layer);
        if at.is_none() && self.known.len() < MAX_LAYERS {
            self.known.push(Known {
                layer,
                size: (0, 0),
                meter: Meter::default(),
                activity: Activity::default(),
            });
        }
        let others = self.known.iter_mut().filter(|_| relayed.packet.marker);
        for other in others.filter(|known| known.layer != layer) {
            other.activity.missed();
        }
        if let Some(known) = self.known.iter_mut().find(|known| known.layer == layer) {
            known.activity.heard(now);
            known
                .meter
                .add(now, relayed.packet.payload.len() + OVERHEAD);
            if let Some(config) = &relayed.config {
                known.size = (config.width, config.height);
            }
        }
        if relayed.layers <= 1 {
            self.current = Some(layer);
        }
    }

    /// Whether [`Self::handle`] has a use for a packet.
    pub(super) fn wants(&self, relayed: &Relayed) -> bool {
        let layer = relayed.layer;
        if self.current == Some(layer) {
            return true;
        }
        let begins = || gate::may_begin_keyframe(&relayed.packet.payload);
        self.target == Some(layer) && (!self.held.is_empty() || begins())
    }

    /// Decides anew; the layer of which a keyframe is needed now, if any.
    pub(super) fn choose(&mut self, now: Instant, estimate_bps: Option<f64>) -> Option<u8> {
        let is_gathering = self
            .began
            .is_none_or(|began| now.saturating_duration_since(began) < GATHERING);
        if self.known.len() < 2 && self.current.is_some() || !self.held.is_empty() {
            return None;
        }
        if self.current.is_none() && is_gathering {
            return None;
        }
        let best = self.best(now, estimate_bps)?;
        let Some(current) = self.current else {
            self.current = Some(best);
            return Some(best);
        };
        let wanted = self.patient(now, current, best, estimate_bps);
        if wanted == Some(current) || wanted.is_none() {
            self.target = None;
            return None;
        }
        let is_asked = self.target == wanted
            && self
                .asked
                .is_some_and(|asked| now.saturating_duration_since(asked) < ASK_AGAIN);
        self.target = wanted;
        if is_asked {
            return None;
        }
        self.asked = Some(now);
        wanted
    }

    /// The largest layer that is sent, asked for, and fits.
    fn best(&self, now: Instant, estimate_bps: Option<f64>) -> Option<u8> {
        let active = || {
            self.known
                .iter()
                .filter(|known| known.activity.is_active(now))
        };
        let fits = |known: &&Known| estimate_bps.is_none_or(|bps| needs(known) <= bps);
        let allowed = active().filter(|known| self.is_allowed(known));
        let best = allowed.filter(fits).max_by_key(|known| known.area());
        let best = best.or_else(|| active().min_by_key(|known| known.area()))?;
        Some(best.layer)
    }

    fn is_allowed(&self, known: &Known) -> bool {
        self.max_height.is_none_or(|height| known.size.1 <= height)
    }

    fn of(&self, layer: Option<u8>) -> Option<&Known> {
        let mut known = self.known.iter();
        known.find(|known| Some(known.layer) == layer)
    }

    /// What to make of `best` when `current` is sent now.
    fn patient(
        &mut self,
        now: Instant,
        current: u8,
        best: u8,
        estimate_bps: Option<f64>,
    ) -> Option<u8> {
        let (held, other) = (self.of(Some(current))?, self.of(Some(best))?);
        if best == current {
            self.too_large = None;
            return Some(current);
        }
        if !held.activity.is_active(now) {
            return Some(best);
        }
        let has_room = estimate_bps.is_none_or(|bps| needs(other) * MARGIN <= bps);
        if other.area() < held.area() {
            let since = *self.too_large.get_or_insert(now);
            let is_due = now.saturating_duration_since(since) >= PATIENCE;
            return Some(if is_due { best } else { current });
        }
        self.too_large = None;
        let is_early = self
            .changed
            .is_some_and(|at| now.saturating_duration_since(at) < self.up_wait);
        Some(if is_early || !has_room { current } else { best })
    }

    /// Takes a packet; gives those to send to `send`.
    pub(super) fn handle(&mut self, now: Instant, relayed: Relayed, mut send: impl FnMut(Relayed)) {
        if !self.wants(&relayed) {
            return;
        }
        if self.current == Some(relayed.layer) {
            self.is_within = !relayed.packet.marker;
            send(relayed);
            if !self.is_within && !self.held.is_empty() {
                self.change(now).into_iter().for_each(send);
            }
            return;
        }
        // Another picture of the target begins: the present one has been waited for long enough.
        let is_late = self.held.len() >= MAX_HELD
            || self
                .held
                .first()
                .is_some_and(|first| first.packet.timestamp != relayed.packet.timestamp);
        self.held.push(relayed);
        if !self.is_within || is_late {
            self.change(now).into_iter().for_each(send);
        }
    }

    /// The target is sent from now on.
    fn change(&mut self, now: Instant) -> Vec<Relayed> {
        let area = |layer| self.of(layer).map_or(0, Known::area);
        if area(self.target) > area(self.current) {
            self.raised = Some(now);
        } else {
            let is_relapse = self
                .raised
                .is_some_and(|at| now.saturating_duration_since(at) < TRIAL);
            self.up_wait = match is_relapse {
                true => (self.up_wait * 2).min(MAX_UP_WAIT),
                false => UP_WAIT,
            };
        }
        self.current = self.target.take();
        self.changed = Some(now);
        self.too_large = None;
        self.asked = None;
        self.switches += 1;
        let through = std::mem::take(&mut self.held);
        self.is_within = through.last().is_some_and(|last| !last.packet.marker);
        through
    }

    /// There is more than one layer.
    pub(super) fn has_choice(&self) -> bool {
        self.known.len() > 1
    }

    /// The layer that is sent.
    pub(super) fn current(&self) -> Option<u8> {
        self.current
    }

    /// Width and height of what is sent, and how often the layer was changed.
    pub(super) fn shown(&self) -> ((u32, u32), u64) {
        let held = self.of(self.current);
        (held.map_or((0, 0), |known| known.size), self.switches)
    }

    /// Bits per second of what is sent.
    pub(super) fn current_bps(&self) -> f64 {
        let held = self.of(self.current);
        held.map_or(0.0, |known| known.meter.bps())
    }

    /// Bits per second that the path should carry for the next larger layer, or for what is sent when there is none.
    pub(super) fn wanted_bps(&self, now: Instant) -> f64 {
        let Some(held) = self.of(self.current) else {
            return 0.0;
        };
        let larger = self.known.iter().filter(|known| {
            known.activity.is_active(now) && self.is_allowed(known) && known.area() > held.area()
        });
        let next = larger.min_by_key(|known| known.area());
        next.map_or(needs(held), |next| needs(next) * MARGIN)
    }
}

fn needs(known: &Known) -> f64 {
    known.meter.bps() + BESIDE_BPS
}
