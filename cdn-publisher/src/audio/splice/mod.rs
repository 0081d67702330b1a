//! One AAC track out of two bitstreams: the host's own units, untouched, and an encoder's on the bus, joined so that
//! nobody hears where.
//!
//! The track is a row of *slots*: slot `n` is the unit that a decoder without delay turns into the samples
//! `n·1024 .. (n+1)·1024` of the output timeline. Every slot is filled by one side: the [`Side::Host`], or the [`Side::Bus`].
//! Four techniques make the joint, each in a file of its own: [`priming`], [`trailing`], [`rescale`] and [`window`].
//! The theory and the measurements are in `docs/splicing.md`.
//!
//! **Host to bus, at slot K.** A new encoder is primed with what the host sounded like before K, hears the host's own
//! continuation through block K, and then goes over to the mix. The joint is made if the windows of the host's unit K−1 and
//! of the encoder's unit K meet; else unit K is the host's too, and K+1 is tried.
//!
//! **Bus to host, at slot K.** The encoder goes over from the mix to the host's sound. When it has heard only that for
//! [`SETTLED_SAMPLES`] before block K, the host's units K−1 and K lie on the grid, and the windows meet, the host's units
//! follow.
//!
//! Invariants: slots have no gaps; the host's units are published as they came; all work happens in
//! [`Splicer::next_unit`]; nothing is kept of a host that is not there, so a channel without one pays for one encoder.

mod history;
mod priming;
pub(crate) mod rescale;
mod scout;
mod trailing;
pub(crate) mod window;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests;

use bytes::Bytes;

use self::history::History;
pub(crate) use self::priming::PRIMING_UNITS;
use self::priming::{Primed, prime};
use self::scout::Scout;
use self::trailing::Crossfade;
use self::window::{Fit, Window, fits, peek, refold, silence};
use super::codec::{AacSettings, Codecs, Encode, Frame, UNIT_SAMPLES};
use crate::Error;

const UNIT: i64 = UNIT_SAMPLES as i64;
/// Slots at which a joint is tried before it is made regardless: half a second.
const MAX_TRIES: u32 = 24;
/// Sound of the host alone that the encoder has heard before the block in which it hands over: as far as a unit reaches.
const SETTLED_SAMPLES: i64 = 2 * UNIT;

/// Who fills a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The host's own units.
    Host,
    /// Units of the encoder on the bus.
    Bus,
}

/// How a joint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// All conditions held: nothing is to be heard.
    Spliced,
    /// All conditions held after the overlapped block was folded for the other encoder's window shape.
    Refolded,
    /// The windows did not meet at any of the slots tried.
    Forced,
    /// The host's units ended.
    Cut,
}

/// A place where the track goes over from one encoder to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Joint {
    /// The first slot of the new side.
    pub slot: i64,
    /// The new side.
    pub to: Side,
    /// What was done.
    pub method: Method,
    /// Slots at which the windows did not meet before this one.
    pub tries: u32,
    /// Where the new side's sound begins to be heard, in samples of the output timeline.
    pub fade_start: i64,
    /// How long it takes until the old side's is gone, in samples.
    pub fade_samples: i64,
}

impl Joint {
    /// The new side's share of what is meant to be heard at a sample of the output timeline.
    #[must_use]
    pub fn progress(&self, position: i64) -> f32 {
        let fade = Crossfade {
            start: self.fade_start,
            samples: self.fade_samples,
        };
        fade.share(position)
    }

    /// Whether all conditions held.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self.method, Method::Spliced | Method::Refolded)
    }
}

/// One unit of the track.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// It presents samples `slot·1024 ..` of the output timeline.
    pub(crate) slot: i64,
    pub(crate) side: Side,
    pub(crate) data: Bytes,
    /// Present when this is the first unit after a joint.
    pub(crate) joint: Option<Joint>,
}

/// Which techniques are used: all of them, except to show what each is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Techniques {
    /// Feed a new encoder eight units of what came before.
    pub priming: bool,
    /// Let the new encoder hear the old sound through the block in which both add up.
    pub duplicate: bool,
    /// Join only where the windows meet.
    pub window: bool,
}

impl Default for Techniques {
    fn default() -> Self {
        Self {
            priming: true,
            duplicate: true,
            window: true,
        }
    }
}

#[derive(Debug)]
enum State {
    /// Nothing was published yet.
    New,
    Host {
        last: Option<Window>,
        tries: u32,
    },
    Bus {
        encoder: Box<dyn Encode>,
        last: Option<Window>,
        hears: Hears,
        tries: u32,
    },
}

/// What the encoder on the bus is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hears {
    Mix,
    /// The host: all of it from `since` on.
    Host {
        fade_start: i64,
        since: i64,
    },
}

/// One audio track on one grid of slots.
#[derive(Debug)]
pub(crate) struct Splicer {
    settings: AacSettings,
    techniques: Techniques,
    state: State,
    next: i64,
    host: History,
    mix: History,
    /// Position behind the sound that was fed.
    fed: i64,
    /// Opened early: it proves the settings and tells the delay, and the first joint takes it.
    spare: Option<Box<dyn Encode>>,
    /// There while tries fail.
    scout: Option<Scout>,
    config: Bytes,
    delay: i64,
}

impl Splicer {
    /// A track whose first unit is that of slot `first`. Sound is fed from that slot's start on.
    ///
    /// # Errors
    /// [`Error::Codec`] when the encoder refuses its settings.
    pub(crate) fn new(
        codecs: &dyn Codecs,
        settings: AacSettings,
        first: i64,
    ) -> Result<Self, Error> {
        let encoder = codecs.aac_encoder(settings)?;
        let start = first.saturating_mul(UNIT);
        Ok(Self {
            settings,
            techniques: Techniques::default(),
            state: State::New,
            next: first,
            host: History::new(start),
            mix: History::new(start),
            fed: start,
            delay: encoder.delay_samples().into(),
            config: encoder.config(),
            spare: Some(encoder),
            scout: None,
        })
    }

    /// Leaves techniques out, to show what they are for.
    pub(crate) fn with(mut self, techniques: Techniques) -> Self {
        self.techniques = techniques;
        self
    }

    /// The encoder's AudioSpecificConfig.
    pub(crate) fn config(&self) -> Bytes {
        self.config.clone()
    }

    /// Position of the sound that is fed next, in samples of the output timeline.
    pub(crate) fn position(&self) -> i64 {
        self.fed
    }

    /// Position up to which sound must have been fed before [`Self::next_unit`] (what lacks is taken for silence).
    pub(crate) fn needs(&self) -> i64 {
        (self.next + 1) * UNIT + self.delay
    }

    /// Takes in the sound that follows: what is to be heard from the bus, and what the host's own units sound like,
    /// decoded and aligned to their slots, while there is a host.
    pub(crate) fn feed(&mut self, host: Option<&[Frame]>, mix: &[Frame]) {
        if let Some(host) = host {
            self.host
                .push(self.fed, host.get(..mix.len()).unwrap_or(host));
        }
        self.mix.push(self.fed, mix);
        self.fed = self.mix.end();
    }

    /// The slot that [`Self::next_unit`] fills.
    pub(crate) fn next_slot(&self) -> i64 {
        self.next
    }

    /// Who filled the last slot.
    pub(crate) fn side(&self) -> Side {
        match self.state {
            State::Host { .. } => Side::Host,
            State::New | State::Bus { .. } => Side::Bus,
        }
    }

    /// Replaces the last of what was fed by what the host sounds like there, on both lines.
    pub(crate) fn feed_again(&mut self, host: &[Frame]) {
        let from = self.fed - i64::try_from(host.len()).unwrap_or_default();
        for line in [&mut self.host, &mut self.mix] {
            *line = History::new(from);
            line.push(from, host);
        }
    }

    /// Fills the next slot, from the side that is wanted if a joint can be made there. `host` gives the host's unit of a
    /// slot, where it lies exactly on the grid.
    pub(crate) fn next_unit(
        &mut self,
        codecs: &dyn Codecs,
        want: Side,
        host: &dyn Fn(i64) -> Option<Bytes>,
    ) -> Unit {
        let slot = self.next;
        let (side, data, joint) = match (&self.state, host(slot)) {
            (State::New | State::Host { .. }, Some(unit)) if want == Side::Host => {
                self.pass(unit, 0)
            }
            (State::New, _) => self.begin(codecs),
            (State::Host { last, tries }, unit) => {
                let (last, tries) = (*last, *tries);
                self.leave_host(codecs, last, tries, unit)
            }
            (State::Bus { .. }, unit) => self.on_bus(want, unit, host),
        };
        self.next += 1;
        self.forget();
        Unit {
            slot,
            side,
            data,
            joint,
        }
    }

    /// The host's unit as it is.
    fn pass(&mut self, unit: Bytes, tries: u32) -> Filled {
        if tries == 0 {
            self.scout = None;
        }
        let last = peek(&unit, self.settings.channels);
        self.state = State::Host { last, tries };
        (Side::Host, unit, None)
    }

    /// The first unit of all, from the bus.
    fn begin(&mut self, codecs: &dyn Codecs) -> Filled {
        let data = self.join(codecs, Crossfade::ALWAYS, None);
        (Side::Bus, data, None)
    }

    /// At a slot of a host that is to be left, or whose unit is missing.
    fn leave_host(
        &mut self,
        codecs: &dyn Codecs,
        last: Option<Window>,
        tries: u32,
        unit: Option<Bytes>,
    ) -> Filled {
        let start = self.next * UNIT;
        let fade_samples = self.fade_samples();
        let Some(unit) = unit else {
            // The fade ends where the host's sound does.
            let fade = Crossfade {
                start: self.host.end().min(start + UNIT) - fade_samples,
                samples: fade_samples,
            };
            let data = self.join(codecs, fade, None);
            return (
                Side::Bus,
                data,
                Some(self.joint(Side::Bus, Method::Cut, tries, fade)),
            );
        };
        // One block later than the alias asks for, where the host's sound is there: what enters might make the encoder
        // choose short windows, and in its first unit those would not meet the host's.
        let later = self.host.covers(start, start + 2 * UNIT + fade_samples);
        let fade = Crossfade {
            start: match (self.techniques.duplicate, later) {
                (true, true) => start + 2 * UNIT,
                (true, false) => start + UNIT,
                (false, _) => start - fade_samples,
            },
            samples: fade_samples,
        };
        let ready = self.host.covers(start, start + UNIT);
        let checked = self.techniques.window && self.techniques.priming;
        let last_try = tries >= MAX_TRIES || !checked;
        let worth_it = last_try || (ready && self.promises(codecs, last, tries));
        if !worth_it {
            return self.pass(unit, tries + 1);
        }
        let found = match self.attempt(codecs, fade, last) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "no encoder for a joint: the host's units go on");
                return self.pass(unit, tries);
            }
        };
        let method = match found.fit {
            Some(Fit::Whole) if ready => Method::Spliced,
            Some(Fit::OtherShape) if ready => Method::Refolded,
            _ if !last_try => return self.pass(unit, tries + 1),
            _ => Method::Forced,
        };
        let data = self.enter_bus(found.encoder, found.first);
        (
            Side::Bus,
            data,
            Some(self.joint(Side::Bus, method, tries, fade)),
        )
    }

    /// Whether a try at this slot may succeed: the first is made blindly, because it mostly does.
    fn promises(&mut self, codecs: &dyn Codecs, last: Option<Window>, tries: u32) -> bool {
        let Some(last) = last else { return false };
        if tries == 0 {
            return true;
        }
        let heard = |position| Crossfade::NEVER.between(&self.host, &self.mix, position);
        let looked = match self.scout.take() {
            Some(mut scout) if scout.slot() + 1 == self.next => {
                scout.advance(heard).map(|()| scout)
            }
            _ => codecs
                .aac_encoder(self.settings)
                .and_then(|encoder| Scout::new(encoder, self.settings.channels, self.next, heard)),
        };
        let Ok(scout) = looked else { return true };
        let windows = scout.windows();
        self.scout = Some(scout);
        windows.is_some_and(|(before, first)| fits(last, before, first) != Fit::None)
    }

    fn joint(&self, to: Side, method: Method, tries: u32, fade: Crossfade) -> Joint {
        Joint {
            slot: self.next,
            to,
            method,
            tries,
            fade_start: fade.start,
            fade_samples: fade.samples,
        }
    }

    /// An encoder that is ready for this slot, whether it meets the host's last unit or not.
    fn join(&mut self, codecs: &dyn Codecs, fade: Crossfade, last: Option<Window>) -> Bytes {
        match self.attempt(codecs, fade, last) {
            Ok(Attempt { encoder, first, .. }) => self.enter_bus(encoder, first),
            Err(error) => self.failed(&error),
        }
    }

    fn enter_bus(&mut self, encoder: Box<dyn Encode>, first: Bytes) -> Bytes {
        self.scout = None;
        self.state = State::Bus {
            encoder,
            last: peek(&first, self.settings.channels),
            hears: Hears::Mix,
            tries: 0,
        };
        first
    }

    /// Primes an encoder for this slot, and looks how its unit meets the host's `last` one.
    fn attempt(
        &mut self,
        codecs: &dyn Codecs,
        fade: Crossfade,
        last: Option<Window>,
    ) -> Result<Attempt, Error> {
        let found = self.primed(codecs, fade, None)?;
        let (Some(last), Some((before, first))) = (last, found.windows) else {
            return Ok(found);
        };
        let fit = fits(last, before, first);
        if fit != Fit::OtherShape {
            return Ok(Attempt {
                fit: Some(fit),
                ..found
            });
        }
        let fold = Fold {
            short: first.rises_short(),
            own: before.shape,
            wanted: last.shape,
        };
        let folded = self.primed(codecs, fade, Some(fold))?;
        // The encoder hears something else than before, and may decide otherwise.
        let same = folded.windows.is_some_and(|(before, first)| {
            before.shape == fold.own && first.rises_short() == fold.short
        });
        Ok(Attempt {
            fit: Some(if same { Fit::OtherShape } else { Fit::None }),
            ..folded
        })
    }

    fn primed(
        &mut self,
        codecs: &dyn Codecs,
        fade: Crossfade,
        fold: Option<Fold>,
    ) -> Result<Attempt, Error> {
        let mut encoder = match self.spare.take() {
            Some(encoder) => encoder,
            None => codecs.aac_encoder(self.settings)?,
        };
        let units = if self.techniques.priming {
            PRIMING_UNITS
        } else {
            0
        };
        let start = self.next * UNIT;
        let heard = |position| fade.between(&self.host, &self.mix, position);
        let folded: Option<Vec<Frame>> = fold.map(|fold| {
            let mut block: Vec<Frame> = (start..start + UNIT).map(heard).collect();
            refold(&mut block, fold.short, fold.own, fold.wanted);
            block
        });
        let sound = |position: i64| {
            let inside = usize::try_from(position - start).ok();
            folded
                .as_ref()
                .and_then(|block| block.get(inside?).copied())
                .unwrap_or_else(|| heard(position))
        };
        let Primed { before, first } = prime(encoder.as_mut(), self.next, units, sound)?;
        let channels = self.settings.channels;
        let before = before.and_then(|unit| peek(&unit, channels));
        Ok(Attempt {
            windows: before.zip(peek(&first, channels)),
            fit: None,
            encoder,
            first,
        })
    }

    /// At a slot of the bus.
    fn on_bus(
        &mut self,
        want: Side,
        unit: Option<Bytes>,
        host: &dyn Fn(i64) -> Option<Bytes>,
    ) -> Filled {
        if want == Side::Host
            && let Some(unit) = unit
            && let Some(joint) = self.hand_over(&unit, host(self.next - 1))
        {
            let (side, data, _) = self.pass(unit, 0);
            return (side, data, Some(joint));
        }
        (Side::Bus, self.encode(want), None)
    }

    /// Whether the host's `unit` can follow the encoder's last one.
    fn hand_over(&mut self, unit: &[u8], previous: Option<Bytes>) -> Option<Joint> {
        let start = self.next * UNIT;
        let State::Bus {
            last, hears, tries, ..
        } = &mut self.state
        else {
            return None;
        };
        let Hears::Host { fade_start, since } = *hears else {
            return None;
        };
        let previous = previous?;
        if since > start - SETTLED_SAMPLES {
            return None;
        }
        let channels = self.settings.channels;
        let peeked = (*last)
            .zip(peek(&previous, channels))
            .zip(peek(unit, channels));
        let fit = peeked.map(|((last, previous), first)| fits(last, previous, first));
        if fit != Some(Fit::Whole) && self.techniques.window {
            *tries += 1;
            return None;
        }
        let tries = *tries;
        let fade = Crossfade {
            start: fade_start,
            samples: since - fade_start,
        };
        let method = match fit {
            Some(Fit::Whole) => Method::Spliced,
            _ => Method::Forced,
        };
        Some(self.joint(Side::Host, method, tries, fade))
    }

    /// One more unit of the encoder.
    fn encode(&mut self, want: Side) -> Bytes {
        let from = self.next * UNIT + self.delay;
        let fade_samples = self.fade_samples();
        let whole = self.host.covers(from, from + UNIT);
        let State::Bus { encoder, hears, .. } = &mut self.state else {
            return Bytes::from_static(silence(self.settings.channels));
        };
        let fade_from = |start, samples| Crossfade { start, samples };
        let (old, new, fade) = match (*hears, want) {
            (Hears::Mix, Side::Host) if whole => {
                let since = from + fade_samples;
                *hears = Hears::Host {
                    fade_start: from,
                    since,
                };
                (&self.mix, &self.host, fade_from(from, fade_samples))
            }
            (Hears::Host { .. }, Side::Host) if whole => (&self.host, &self.mix, Crossfade::NEVER),
            (Hears::Host { .. }, _) => {
                *hears = Hears::Mix;
                let end = self.host.end().clamp(from, from + fade_samples);
                (&self.host, &self.mix, fade_from(from, end - from))
            }
            (Hears::Mix, _) => (&self.mix, &self.host, Crossfade::NEVER),
        };
        let block: Vec<Frame> = (from..from + UNIT)
            .map(|at| fade.between(old, new, at))
            .collect();
        let encoded = encoder.encode(&block);
        if let State::Bus { last, .. } = &mut self.state {
            let unit = encoded.as_ref().ok();
            *last = unit.and_then(|unit| peek(unit, self.settings.channels));
        }
        encoded.unwrap_or_else(|error| self.failed(&error))
    }

    fn failed(&self, error: &Error) -> Bytes {
        tracing::error!(%error, "audio unit replaced by silence");
        metrics::counter!("anchornet_program_encoder_errors_total").increment(1);
        Bytes::from_static(silence(self.settings.channels))
    }

    /// 10 ms.
    fn fade_samples(&self) -> i64 {
        i64::from(self.settings.sample_rate_hz) / 100
    }

    /// Drops sound that no later slot needs.
    fn forget(&mut self) {
        let encoded = self.next * UNIT + self.delay;
        // Without a host nothing is going to be joined.
        let keep = if self.host.is_empty() {
            encoded
        } else {
            priming::start(self.next, self.delay, PRIMING_UNITS)
        };
        let keep = if matches!(self.state, State::New) {
            keep.min(self.next * UNIT)
        } else {
            keep
        };
        self.host.forget_before(keep);
        self.mix.forget_before(keep);
    }
}

/// A slot's side, unit and joint.
type Filled = (Side, Bytes, Option<Joint>);

#[derive(Debug)]
struct Attempt {
    encoder: Box<dyn Encode>,
    first: Bytes,
    /// Of the unit before, and of the first.
    windows: Option<(Window, Window)>,
    fit: Option<Fit>,
}

/// How the overlapped block is folded.
#[derive(Clone, Copy, Debug)]
struct Fold {
    short: bool,
    own: window::Shape,
    wanted: window::Shape,
}
