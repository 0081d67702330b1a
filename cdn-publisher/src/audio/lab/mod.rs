//! A workbench for the splicer: two sounds in, one AAC stream out, spliced exactly as the program does it.
//!
//! `anchornet splice-lab` and the tests of the splicer are built on this. Sound is stereo at the stream's own rate, with
//! full scale at ±32768.

pub mod adts;
pub mod experiment;
pub mod file;
pub mod judge;
pub mod picture;
pub mod sounds;

use bytes::Bytes;
use media::aac;

use super::codec::{AacEncoder, AacSettings, Codecs, Encode, RealCodecs, UNIT_SAMPLES};
use super::resampler::{HALF, TAPS, interpolate};
use super::splice::Splicer;
use super::splice::rescale::Rescale;
pub use super::splice::{Joint, Method, Side, Techniques};
use crate::Error;

/// One moment of sound: left and right.
pub type Frame = [f32; 2];

/// Samples per channel in one unit.
pub const UNIT: usize = UNIT_SAMPLES;

/// An AAC bitstream. Unit `n` presents samples `n·1024 ..` of [`Stream::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What is in its header.
    pub config: aac::Config,
    /// Its access units.
    pub units: Vec<Bytes>,
}

impl Stream {
    /// Decodes it; nothing is cut off at the start.
    ///
    /// # Errors
    /// [`Error::Codec`] at the first unit that cannot be decoded.
    pub fn decode(&self) -> Result<Vec<Frame>, Error> {
        let mut decoder = RealCodecs.aac_decoder(&self.config)?;
        let mut out = Vec::with_capacity(self.units.len() * UNIT);
        for unit in &self.units {
            decoder.decode(unit, &mut out)?;
        }
        Ok(out)
    }

    /// Encodes `sound` as the program would, without any joint: decoded, it lies where `sound` lies.
    ///
    /// # Errors
    /// [`Error::Codec`] when the encoder refuses the settings.
    pub fn encode(sound: &[Frame], settings: Settings) -> Result<Self, Error> {
        let mut encoder = AacEncoder::new(settings.for_encoder())?;
        let config = aac::Config::parse(encoder.config())?;
        let delay = usize::try_from(encoder.delay_samples()).unwrap_or_default();
        let late = delay.div_ceil(UNIT);
        let ahead = late * UNIT - delay;
        let mut units = Vec::new();
        let mut block = [Frame::default(); UNIT];
        for unit in 0..sound.len() / UNIT + late {
            for (at, frame) in (unit * UNIT..).zip(&mut block) {
                let at = at.checked_sub(ahead);
                *frame = at.and_then(|at| sound.get(at)).copied().unwrap_or_default();
            }
            let data = encoder.encode(&block)?;
            if unit >= late {
                units.push(data);
            }
        }
        Ok(Self { config, units })
    }
}

/// What the encoder on the bus makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// In Hz.
    pub sample_rate_hz: u32,
    /// 1 or 2.
    pub channels: u8,
    /// In bits per second.
    pub bitrate_bps: u32,
}

impl Settings {
    fn for_encoder(self) -> AacSettings {
        AacSettings {
            sample_rate_hz: self.sample_rate_hz,
            channels: self.channels,
            bitrate_bps: self.bitrate_bps,
            afterburner: true,
        }
    }
}

/// From this slot on, this side is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Slot `n` presents samples `n·1024 ..`.
    pub slot: usize,
    /// Who should be heard.
    pub side: Side,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Spliced {
    /// The joined stream.
    pub stream: Stream,
    /// Who filled each slot.
    pub sides: Vec<Side>,
    /// Where and how it was joined.
    pub joints: Vec<Joint>,
}

impl Spliced {
    /// The mix's share of what is meant to be heard at sample `position`: 0 where only the host is.
    #[must_use]
    pub fn share(&self, position: i64) -> f32 {
        let mut share = 0.0;
        for joint in &self.joints {
            let progress = joint.progress(position);
            share = match joint.to {
                Side::Bus if progress > 0.0 => progress,
                Side::Host if progress > 0.0 => 1.0 - progress,
                Side::Bus | Side::Host => share,
            };
        }
        share
    }
}

/// Splices: begins with the host and follows the wishes as soon as it can. `mix` is what is heard from the bus, on the host's
/// timeline.
///
/// # Errors
/// [`Error::Codec`] when the host cannot be decoded or the encoder refuses the settings.
pub fn splice(
    host: &Stream,
    mix: &[Frame],
    settings: Settings,
    wishes: &[Wish],
    techniques: Techniques,
) -> Result<Spliced, Error> {
    let sound = host.decode()?;
    let mut splicer = Splicer::new(&RealCodecs, settings.for_encoder(), 0)?.with(techniques);
    let own = aac::Config::parse(splicer.config())?;
    if !host.config.splices_with(&own) {
        return Err(media::Error::Unsupported {
            what: "this host's AAC",
            why: "only AAC-LC in units of 1024 samples, of the same rate and channels as the encoder's, can be spliced",
        }
        .into());
    }
    let mut joined = Spliced {
        stream: Stream {
            config: host.config.clone(),
            units: Vec::with_capacity(host.units.len()),
        },
        sides: Vec::with_capacity(host.units.len()),
        joints: Vec::new(),
    };
    let unit_of = |slot: i64| host.units.get(usize::try_from(slot).ok()?).cloned();
    for slot in 0..host.units.len() {
        let from = usize::try_from(splicer.position()).unwrap_or_default();
        let to = usize::try_from(splicer.needs()).unwrap_or_default();
        let own = sound.get(from..to);
        let heard: Vec<Frame> = (from..to)
            .map(|at| mix.get(at).copied().unwrap_or_default())
            .collect();
        splicer.feed(own, &heard);
        let wanted = wishes.iter().rev().find(|wish| wish.slot <= slot);
        let want = wanted.map_or(Side::Host, |wish| wish.side);
        let unit = splicer.next_unit(&RealCodecs, want, &unit_of);
        debug_assert_eq!(usize::try_from(unit.slot), Ok(slot));
        joined.stream.units.push(unit.data);
        joined.sides.push(unit.side);
        joined.joints.extend(unit.joint);
    }
    Ok(joined)
}

/// What one gets without any of this: at `slot` the host's units end, and those of an encoder that starts with `mix` there
/// follow as they come.
///
/// # Errors
/// [`Error::Codec`] when the encoder refuses the settings.
pub fn join_naively(
    host: &Stream,
    mix: &[Frame],
    settings: Settings,
    slot: usize,
) -> Result<Stream, Error> {
    let mut encoder = AacEncoder::new(settings.for_encoder())?;
    let mut units: Vec<Bytes> = host.units.iter().take(slot).cloned().collect();
    let rest = mix.get(slot * UNIT..).unwrap_or_default();
    for block in rest.chunks_exact(UNIT) {
        units.push(encoder.encode(block)?);
    }
    units.truncate(host.units.len());
    let config = host.config.clone();
    Ok(Stream { config, units })
}

/// Moves a sound that begins at a fraction or multiple of a sample off the grid onto it, from sample `from` on: the way the
/// program reads a host before it takes the host's own units again. Gives the sound, and the sample from which on it lies
/// `offset_samples` earlier than before.
#[must_use]
pub fn rescale(sound: &[Frame], from: usize, offset_samples: f64) -> (Vec<Frame>, usize) {
    let mut plan = Rescale::new(Rescale::to_grid(offset_samples));
    let done = from + usize::try_from(plan.samples_left()).unwrap_or_default();
    let mut out: Vec<Frame> = sound.iter().take(from).copied().collect();
    loop {
        let at = out.len() as f64 + plan.taken_up();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "positions stay far below 2^52"
        )]
        let whole = at.floor() as i64;
        if usize::try_from(whole).is_ok_and(|at| at >= sound.len()) {
            return (out, done);
        }
        let mut window = [Frame::default(); TAPS];
        for (at, frame) in (whole + 1 - HALF..).zip(&mut window) {
            let sample = usize::try_from(at).ok().and_then(|at| sound.get(at));
            *frame = sample.copied().unwrap_or_default();
        }
        out.push(interpolate(&window, at - at.floor()));
        plan.step();
    }
}
