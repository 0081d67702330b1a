//! AAC of a broadcaster as Opus for those who listen in real time (RFC 7587).
//!
//! What comes out of the decoder belongs to the timestamp of its unit; it is converted to 48 kHz and cut into packets of
//! 20 ms. Packets follow each other without a gap as long as the units do. A unit that is elsewhere than expected by
//! more than [`TOLERANCE`] begins anew: what was left over is at most one packet, and is dropped.

use media::{AccessUnit, Rate, aac};

use super::codec::{Codecs, Decode, Frame, RealCodecs, UNIT_SAMPLES};
use super::packets::Packets;
use super::resampler::Converter;
use crate::Error;

/// Samples at 48 kHz by which units may be off before they begin anew: 10 ms. Clocks that are slewed are followed so.
const TOLERANCE: i64 = 480;

/// The way of one track.
#[derive(Debug)]
pub struct Transcoder {
    config: aac::Config,
    decoder: Box<dyn Decode>,
    packets: Packets,
    decoded: Vec<Frame>,
    /// The rate of the decoded sound, and the way from there to 48 kHz where that is another.
    rate: Rate,
    converter: Option<Converter>,
    converted: Vec<Frame>,
    /// Where the next unit is expected, in samples at 48 kHz.
    next: Option<f64>,
}

impl Transcoder {
    /// Listens to AAC of this configuration.
    ///
    /// # Errors
    /// [`Error::Codec`] when a library refuses.
    pub fn new(config: &aac::Config, bitrate_bps: u32) -> Result<Self, Error> {
        Ok(Self {
            decoder: RealCodecs.aac_decoder(config)?,
            packets: Packets::new(RealCodecs.opus_encoder(bitrate_bps)?, 0),
            config: config.clone(),
            decoded: Vec::with_capacity(2 * UNIT_SAMPLES),
            rate: Rate::AUDIO,
            converter: None,
            converted: Vec::new(),
            next: None,
        })
    }

    /// Whether units of this configuration can be taken.
    #[must_use]
    pub fn takes(&self, config: &aac::Config) -> bool {
        self.config == *config
    }

    /// Takes a unit and appends the packets that it completes, in samples at 48 kHz.
    ///
    /// # Errors
    /// [`Error::Codec`] when it cannot be decoded; the next one can be taken.
    pub fn push(&mut self, unit: &AccessUnit, out: &mut Vec<AccessUnit>) -> Result<(), Error> {
        self.decoded.clear();
        self.decoder.decode(&unit.data, &mut self.decoded)?;
        let samples = self.decoded.len();
        if samples == 0 {
            return Ok(());
        }
        let rate = self.rate_of(samples);
        let at = unit.pts.rescale(Rate::AUDIO).ticks();
        let expected = self.next.filter(|_| rate == self.rate);
        let off = expected.map(|next| next - at as f64);
        if off.is_none_or(|off| off.abs() > TOLERANCE as f64) {
            self.restart(at, rate);
        }
        let length = samples as f64 * 48_000.0 / f64::from(rate.hz());
        self.next = Some(self.next.unwrap_or(at as f64) + length);
        self.converted.clear();
        match &mut self.converter {
            Some(converter) => converter.push(&self.decoded, &mut self.converted),
            None => self.converted.extend_from_slice(&self.decoded),
        }
        self.packets.push(&self.converted, |unit| out.push(unit))
    }

    /// The rate at which a unit comes out as so many samples: HE-AAC has twice those of its core, in the same time.
    fn rate_of(&self, samples: usize) -> Rate {
        let units = u32::try_from(samples).unwrap_or_default();
        let factor = (units / self.config.frame_samples.max(1)).max(1);
        Rate::new(self.config.sample_rate_hz.saturating_mul(factor)).unwrap_or(Rate::AUDIO)
    }

    fn restart(&mut self, at: i64, rate: Rate) {
        self.rate = rate;
        self.converter = (rate != Rate::AUDIO).then(|| Converter::new(rate, Rate::AUDIO));
        self.packets.restart(at);
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use media::{Config, Timestamp, Track, TrackId};

    use super::*;
    use crate::audio::codec::{AacEncoder, AacSettings, Encode};

    fn tone(n: usize, hz: u32) -> Frame {
        let t = n as f64 / f64::from(hz);
        let value = 8_000.0 * (std::f64::consts::TAU * 440.0 * t).sin();
        #[expect(clippy::cast_possible_truncation, reason = "16 bits are plenty")]
        let value = value as f32;
        [value, value]
    }

    fn units(hz: u32, count: usize) -> Vec<AccessUnit> {
        let settings = AacSettings {
            sample_rate_hz: hz,
            channels: 2,
            bitrate_bps: 128_000,
            afterburner: false,
        };
        let mut encoder = AacEncoder::new(settings).expect("an encoder");
        let config = aac::Config::parse(encoder.config()).expect("valid");
        let rate = Rate::new(hz).expect("not zero");
        let track = Arc::new(Track {
            id: TrackId(1),
            config: Config::Aac(config),
            rate,
        });
        let unit = |n: usize| {
            let sound: Vec<Frame> = (0..UNIT_SAMPLES)
                .map(|at| tone(n * UNIT_SAMPLES + at, hz))
                .collect();
            let pts = Timestamp::new((n * UNIT_SAMPLES) as i64 + 777, rate);
            AccessUnit {
                track: Arc::clone(&track),
                pts,
                dts: pts,
                keyframe: true,
                discontinuity: false,
                data: encoder.encode(&sound).expect("encoded"),
            }
        };
        (0..count).map(unit).collect()
    }

    fn transcoder(units: &[AccessUnit]) -> Transcoder {
        let Config::Aac(config) = &units[0].track.config else {
            panic!("AAC");
        };
        Transcoder::new(config, 96_000).expect("codecs")
    }

    #[test]
    fn the_tone_is_there_and_packets_follow_each_other() {
        for hz in [44_100, 48_000, 32_000] {
            let units = units(hz, 100);
            let mut transcoder = transcoder(&units);
            let mut packets = Vec::new();
            for unit in &units {
                transcoder.push(unit, &mut packets).expect("decoded");
            }
            let seconds = 100.0 * 1_024.0 / f64::from(hz);
            let expected = seconds * 50.0;
            assert!((expected - packets.len() as f64).abs() <= 2.0, "{hz}");
            let first = units[0].pts.rescale(Rate::AUDIO).ticks();
            for (n, packet) in (0..).zip(&packets) {
                assert_eq!(packet.pts.ticks(), first + n * 960);
            }
            let mut decoder = RealCodecs.opus_decoder().expect("a decoder");
            let mut heard = Vec::new();
            for packet in &packets {
                decoder.decode(&packet.data, &mut heard).expect("Opus");
            }
            let tail = &heard[heard.len() / 2..];
            let mean = tail
                .iter()
                .map(|frame| f64::from(frame[0]).powi(2))
                .sum::<f64>()
                / tail.len() as f64;
            let expected = 8_000.0 / std::f64::consts::SQRT_2;
            assert!(
                (mean.sqrt() / expected - 1.0).abs() < 0.05,
                "{hz}: {}",
                mean.sqrt()
            );
            // 440 Hz: two changes of sign in each period.
            let crossings = tail
                .windows(2)
                .filter(|w| (w[0][0] < 0.0) != (w[1][0] < 0.0));
            let heard_hz = crossings.count() as f64 / 2.0 / (tail.len() as f64 / 48_000.0);
            assert!((heard_hz - 440.0).abs() < 2.0, "{hz}: {heard_hz}");
        }
    }

    #[test]
    fn a_gap_begins_anew_and_slewing_does_not() {
        let mut units = units(48_000, 60);
        for (n, unit) in (0..).zip(units.iter_mut()).skip(20) {
            // A sample per unit is 1000 ppm.
            let moved = if n < 40 { n - 20 } else { 50_000 };
            unit.pts = Timestamp::new(unit.pts.ticks() + moved, Rate::AUDIO);
        }
        let mut transcoder = transcoder(&units);
        let mut packets = Vec::new();
        for unit in &units {
            transcoder.push(unit, &mut packets).expect("decoded");
        }
        let steps = packets
            .windows(2)
            .map(|w| w[1].pts.ticks() - w[0].pts.ticks());
        assert_eq!(steps.filter(|step| *step != 960).count(), 1);
    }

    #[test]
    fn noise_is_no_unit_and_does_no_harm() {
        let units = units(48_000, 10);
        let mut transcoder = transcoder(&units);
        let mut packets = Vec::new();
        for unit in &units {
            let mut broken = unit.clone();
            broken.data = bytes::Bytes::from_static(&[0xff; 40]);
            let _ = transcoder.push(&broken, &mut packets);
        }
        for unit in &units {
            let _ = transcoder.push(unit, &mut packets);
        }
        assert!(packets.len() >= 5);
    }
}
