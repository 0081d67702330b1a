//! The sound of the program: when it starts, whose units are published, and what the bus reads.

use std::time::Instant;

use media::{Rate, Timestamp};

use super::source::Source;
use super::{Output, Program, START_WAIT, SourceId, nanos};
use crate::audio::bus::Bus;
use crate::audio::codec::AacSettings;
use crate::audio::live::Live;
use crate::audio::splice::Side;

/// Of a source that is not decoded otherwise, so many units of each period are, for its level: twice a second.
const LEVEL_UNITS: i64 = 6;
const LEVEL_PERIOD_UNITS: i64 = 24;

/// Rates at which a host's AAC passes through: those that every player and destination takes.
const HOST_RATES_HZ: [u32; 2] = [44_100, 48_000];

impl Program {
    /// Makes sound for viewers in real time, from the next block on, or stops making it.
    pub(super) fn set_live_sound(&mut self) {
        let Some(bus) = &mut self.bus else {
            return;
        };
        let (position, rate) = (bus.position(), bus.rate());
        let live = bus.live_mut();
        if !self.wants_live_sound {
            *live = None;
        } else if live.is_none() {
            match self.codecs.opus_encoder(self.opus_bitrate_bps) {
                Ok(encoder) => *live = Some(Box::new(Live::new(encoder, position, rate))),
                Err(error) => tracing::error!(%error, "viewers in real time have no sound"),
            }
        }
    }

    /// Starts the sound when its first picture is due, or when waiting for one has been long enough.
    pub(super) fn start(&mut self, now: Instant, horizon: i64) {
        if self.bus.is_some() {
            return;
        }
        let source = self.sources.iter().find(|s| Some(s.id) == self.wanted);
        let picture = source.and_then(|s| s.video.next_due_ns());
        let sound = source.and_then(Source::first_sound_ns);
        let waited = sound.is_some_and(|at| at.saturating_add(nanos(START_WAIT)) <= horizon);
        let start = match picture {
            Some(at) if at <= horizon => at,
            _ if waited => horizon,
            _ => return,
        };
        let host = source.and_then(Source::aac);
        let host = host.filter(|config| {
            config.is_plain_lc() && HOST_RATES_HZ.contains(&config.sample_rate_hz)
        });
        let grid_ns = host.and(sound).unwrap_or_default();
        let settings = host.map_or(self.settings, |host| AacSettings {
            sample_rate_hz: host.sample_rate_hz,
            channels: host.channels,
            ..self.settings
        });
        let rate = Rate::new(settings.sample_rate_hz).unwrap_or(Rate::AUDIO);
        let samples = |ns| Timestamp::from_nanos(ns).rescale(rate).ticks();
        let (start, grid) = (samples(start), samples(grid_ns));
        let bus = Bus::new(self.codecs.as_ref(), settings, host, start, grid);
        match bus {
            Ok(bus) => {
                for source in &mut self.sources {
                    source.set_bus_rate(bus.rate());
                }
                self.bus = Some(Box::new(bus));
                self.set_live_sound();
                self.meters.stats.started = true;
                tracing::debug!(start, ?settings, at = ?now, "program starts");
            }
            Err(error) => tracing::error!(%error, "program has no sound"),
        }
    }

    /// Samples of program time per second of the bus.
    pub(super) fn rate(&self) -> Rate {
        self.bus.as_ref().map_or(Rate::AUDIO, |bus| bus.rate())
    }

    pub(super) fn next_sound_ns(&self) -> Option<i64> {
        let bus = self.bus.as_ref()?;
        Some(Timestamp::new(bus.next_start(), bus.rate()).as_nanos())
    }

    pub(super) fn first_sound_ns(&self) -> Option<i64> {
        self.source(self.wanted)?.first_sound_ns()
    }

    /// The source whose own AAC units sound exactly like what is to be heard.
    pub(super) fn passable(&self) -> Option<SourceId> {
        self.alone(Source::has_sound)
    }

    /// The same when gains that move now have arrived.
    pub(super) fn soon_passable(&self) -> Option<SourceId> {
        self.alone(Source::stays_heard)
    }

    /// The one source that `is_heard`, if its own units can be published.
    fn alone(&self, is_heard: impl Fn(&Source) -> bool) -> Option<SourceId> {
        let Some(bus) = &self.bus else {
            return None;
        };
        let mut heard = self.sources.iter().filter(|source| is_heard(source));
        let source = heard.next().filter(|_| heard.next().is_none())?;
        let fits = source.aac().is_some_and(|config| bus.takes(config));
        (fits && source.is_unchanged()).then_some(source.id)
    }

    /// Chooses whose units may pass. Whose units do pass stays until the splicer has left them.
    fn choose_passing(&mut self) {
        let passes = matches!(&self.bus, Some(bus) if bus.passes());
        let passing = if passes {
            self.passing
        } else {
            self.passable()
        };
        for source in &mut self.sources {
            source.set_locked(Some(source.id) == passing);
        }
        self.passing = passing;
    }

    /// Whether the source whose units pass need not be decoded: nobody hears the bus, and nobody else is on it. Now and
    /// then it is decoded all the same, for its level.
    fn lets_sleep(&mut self) -> bool {
        let Some(bus) = &mut self.bus else {
            return false;
        };
        let passes = bus.passes() && bus.live_mut().is_none();
        let measured = bus.slot().rem_euclid(LEVEL_PERIOD_UNITS) < LEVEL_UNITS;
        let voices = self.sources.iter().filter(|source| source.is_audible());
        let asleep = passes && !measured && voices.count() == 1;
        let unchanged = self.passable() == self.passing;
        let asleep = asleep && unchanged;
        for source in &mut self.sources {
            source.set_asleep(asleep);
        }
        asleep
    }

    /// An encoder is about to take over from a source that may have slept.
    fn recall(&mut self) {
        let Some(bus) = &mut self.bus else {
            return;
        };
        let samples = bus.forgotten_samples();
        let passing = self.sources.iter_mut().find(|s| Some(s.id) == self.passing);
        if let Some(source) = passing.filter(|_| samples > 0) {
            bus.tell_again(&source.recall(samples));
        }
    }

    fn read_block(&mut self, asleep: bool) {
        let passing = self.passing;
        let Some(bus) = &mut self.bus else {
            return;
        };
        let (sources, heard) = (&mut self.sources, &mut self.meters.heard);
        let mut silent = usize::MAX;
        bus.read(asleep, |position, mix, host| {
            for source in sources.iter_mut() {
                silent = silent.min(source.read(position, !asleep, mix));
                if Some(source.id) == passing && source.is_locked() {
                    host.extend_from_slice(source.last_read());
                }
            }
            silent = silent.min(mix.len());
            *heard |= silent == 0;
        });
        if self.meters.heard && silent > 0 {
            self.meters.stats.audio.silence_inserted_samples += silent as u64;
            metrics::counter!("anchornet_program_silence_samples_total").increment(silent as u64);
        }
    }

    pub(super) fn publish_sound(&mut self, now: Instant) {
        self.choose_passing();
        let asleep = self.lets_sleep();
        while matches!(&self.bus, Some(bus) if bus.wants_block()) {
            self.read_block(asleep);
        }
        let unchanged = self.passing.is_some() && self.passable() == self.passing;
        if !unchanged {
            self.recall();
        }
        let Some(bus) = &mut self.bus else {
            return;
        };
        let passing = self.sources.iter().find(|s| Some(s.id) == self.passing);
        let want = match unchanged && passing.is_some_and(Source::is_locked) {
            true => Side::Host,
            false => Side::Bus,
        };
        let (unit, joint) = bus.next_unit(self.codecs.as_ref(), want, |before| {
            passing.and_then(|source| source.unit_at(before))
        });
        bus.follow(passing.map_or(0.0, Source::error_samples));
        if let Some(joint) = joint {
            self.meters.joint(&joint);
        }
        metrics::counter!("anchornet_program_audio_units_total").increment(1);
        self.meters.audio.add(now, unit.data.len());
        self.meters.stats.audio.units += 1;
        self.outputs.push_back(Output::Unit(unit));
    }
}
