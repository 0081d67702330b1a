//! A simulated channel: units arrive by a script, time jumps from event to event, and codecs that pass PCM through make
//! every published sample tell which captured sample it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use media::{AccessUnit, Clock, Config as Codec, Rate, Timestamp, Track, TrackId, h264, opus};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::{Config, Input, Output, Program, SourceId};
use crate::Error;
use crate::audio::codec::{AacSettings, Codecs, Decode, Encode, EncodePacket, Frame, UNIT_SAMPLES};

pub(super) const SOURCE: SourceId = SourceId(1);
pub(super) const DELAY_NS: i64 = 300_000_000;
pub(super) const EPOCH_NS: i64 = 5_000_000_123;
pub(super) const PACKET_SAMPLES: i64 = 960;

/// The ramp wraps after this many samples, a power of two; its slope is exact in single precision.
const RAMP: i64 = 8_192;

/// The value of a captured sample.
pub(super) fn ramp(index: i64) -> f32 {
    ((index & (RAMP - 1)) * 4 - 2 * RAMP) as f32
}

/// Which captured sample a value is, given one that is less than half a ramp away. `None` near a wrap, where a
/// resampler rings.
pub(super) fn unramp(value: f32, near: f64) -> Option<f64> {
    let within = (f64::from(value) + 2.0 * RAMP as f64) / 4.0;
    let laps = ((near - within) / RAMP as f64).round();
    (500.0..RAMP as f64 - 500.0)
        .contains(&near.rem_euclid(RAMP as f64))
        .then_some(within + laps * RAMP as f64)
}

/// Codecs that pass the ramp through. A packet holds the index of its first sample.
#[derive(Debug)]
pub(super) struct RampCodecs;

impl Codecs for RampCodecs {
    fn opus_decoder(&self) -> Result<Box<dyn Decode>, Error> {
        Ok(Box::new(RampDecoder { next: 0 }))
    }

    fn aac_decoder(&self, _: &media::aac::Config) -> Result<Box<dyn Decode>, Error> {
        Ok(Box::new(RampDecoder { next: 0 }))
    }

    fn aac_encoder(&self, _: AacSettings) -> Result<Box<dyn Encode>, Error> {
        Ok(Box::new(RampEncoder {
            previous: vec![vec![[0.0; 2]; UNIT_SAMPLES / 64]; 2],
        }))
    }

    fn opus_encoder(&self, _: u32) -> Result<Box<dyn EncodePacket>, Error> {
        Ok(Box::new(RampPackets))
    }
}

#[derive(Debug)]
struct RampDecoder {
    next: i64,
}

impl RampDecoder {
    fn ramp(&mut self, samples: i64, out: &mut Vec<Frame>) {
        out.extend((self.next..self.next + samples).map(|n| [ramp(n), 1.0]));
        self.next += samples;
    }
}

impl Decode for RampDecoder {
    fn decode(&mut self, packet: &[u8], out: &mut Vec<Frame>) -> Result<(), Error> {
        let Some(index) = packet.get(1..9) else {
            return Err(Error::Protocol("not a ramp".to_owned()));
        };
        self.next = i64::from_be_bytes(index.try_into().unwrap());
        self.ramp(opus::duration_samples(packet)?.into(), out);
        Ok(())
    }

    fn recover(&mut self, _: &[u8], samples: usize, out: &mut Vec<Frame>) -> Result<(), Error> {
        self.conceal(samples, out)
    }

    fn conceal(&mut self, samples: usize, out: &mut Vec<Frame>) -> Result<(), Error> {
        self.ramp(samples as i64, out);
        Ok(())
    }

    fn delay_samples(&self) -> u32 {
        0
    }
}

/// Delays by two units, like fdk-aac; a unit holds every 64th frame.
#[derive(Debug)]
struct RampEncoder {
    previous: Vec<Vec<Frame>>,
}

impl Encode for RampEncoder {
    fn encode(&mut self, pcm: &[Frame]) -> Result<Bytes, Error> {
        self.previous
            .push(pcm.iter().step_by(64).copied().collect());
        let delayed = self.previous.remove(0);
        let mut out = BytesMut::new();
        for frame in &delayed {
            out.put_f32(frame[0]);
            out.put_f32(frame[1]);
        }
        Ok(out.freeze())
    }

    fn delay_samples(&self) -> u32 {
        2_048
    }

    fn config(&self) -> Bytes {
        media::aac::Config::lc(48_000, 2).unwrap().asc
    }
}

/// A packet holds every 64th frame, undelayed.
#[derive(Debug)]
struct RampPackets;

impl EncodePacket for RampPackets {
    fn encode(&mut self, pcm: &[Frame]) -> Result<Bytes, Error> {
        let mut out = BytesMut::new();
        for frame in pcm.iter().step_by(64) {
            out.put_f32(frame[0]);
            out.put_f32(frame[1]);
        }
        Ok(out.freeze())
    }
}

/// Every 64th sample of a unit or packet of [`RampCodecs`].
pub(super) fn ramp_frames(unit: &AccessUnit) -> Vec<Frame> {
    let value = |at: &[u8]| f32::from_be_bytes(at.try_into().unwrap());
    let frames = unit.data.chunks_exact(8);
    frames
        .map(|at| [value(&at[..4]), value(&at[4..])])
        .collect()
}

pub(super) fn video_track(size: u8) -> Arc<Track> {
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
    // 640x360 and 1280x720, constrained baseline.
    let sps: &[u8] = match size {
        0 => &[
            0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03,
            0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
        ],
        _ => &[
            0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x6a, 0x02, 0x02, 0x02,
            0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x1e, 0x07, 0x8c, 0x18, 0xcb,
        ],
    };
    let config = h264::Config::new(Bytes::from_static(sps), vec![Bytes::from_static(PPS)]);
    Arc::new(Track {
        id: TrackId(0),
        config: Codec::H264(config.unwrap()),
        rate: Rate::NANOS,
    })
}

pub(super) fn opus_track() -> Arc<Track> {
    Arc::new(Track {
        id: TrackId(1),
        config: Codec::Opus(opus::Config { channels: 2 }),
        rate: Rate::NANOS,
    })
}

/// A unit captured at `capture_ns` of program time.
pub(super) fn unit(track: &Arc<Track>, capture_ns: i64, keyframe: bool, data: Bytes) -> AccessUnit {
    let at = Timestamp::from_nanos(EPOCH_NS + capture_ns);
    AccessUnit {
        track: Arc::clone(track),
        pts: at,
        dts: at,
        keyframe,
        discontinuity: false,
        data,
    }
}

/// A picture of one slice that holds its number.
pub(super) fn picture(
    track: &Arc<Track>,
    capture_ns: i64,
    keyframe: bool,
    number: u32,
) -> AccessUnit {
    let mut nal = vec![if keyframe { 0x65 } else { 0x41 }];
    nal.extend(number.to_be_bytes());
    unit(track, capture_ns, keyframe, h264::to_avcc([nal.as_slice()]))
}

/// The number in a picture's slice.
pub(super) fn picture_number(unit: &AccessUnit) -> u32 {
    let slice = h264::avcc_nals(&unit.data)
        .map(Result::unwrap)
        .find(|nal| matches!(h264::nal_unit_type(nal), 1 | 5))
        .unwrap();
    u32::from_be_bytes(slice[1..5].try_into().unwrap())
}

/// A packet of the ramp.
pub(super) fn packet(track: &Arc<Track>, capture_ns: i64, index: i64) -> AccessUnit {
    let mut data = vec![0xfc];
    data.extend(index.to_be_bytes());
    unit(track, capture_ns, true, Bytes::from(data))
}

/// The channel.
pub(super) struct Sim {
    pub(super) program: Program,
    pub(super) origin: Instant,
    script: BTreeMap<(i64, u64), Input>,
    scripted: u64,
    pub(super) rng: StdRng,
}

impl Sim {
    pub(super) fn new(codecs: Box<dyn Codecs>, seed: u64) -> Self {
        Self::configured(&Config::default(), codecs, seed)
    }

    pub(super) fn configured(config: &Config, codecs: Box<dyn Codecs>, seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do in a test")]
        let origin = Instant::now();
        let clock = Clock::new(origin);
        let epoch = Timestamp::from_nanos(EPOCH_NS);
        Self {
            program: Program::with_codecs(config, clock, epoch, codecs).unwrap(),
            origin,
            script: BTreeMap::new(),
            scripted: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn ramp() -> Self {
        Self::new(Box::new(RampCodecs), 1)
    }

    /// An instant, by nanoseconds of program time.
    pub(super) fn at(&self, program_ns: i64) -> Instant {
        self.origin + Duration::from_nanos(u64::try_from(EPOCH_NS + program_ns).unwrap())
    }

    /// `input` at this program time.
    pub(super) fn script(&mut self, at_ns: i64, input: Input) {
        self.scripted += 1;
        self.script.insert((at_ns, self.scripted), input);
    }

    /// `source` is attached and shown.
    pub(super) fn on_air(&mut self, at_ns: i64, source: SourceId) {
        self.script(at_ns, Input::Attach { source, gain: 1.0 });
        self.script(
            at_ns,
            Input::Show {
                source,
                gains: Vec::new(),
                not_before: None,
            },
        );
    }

    /// `unit` arrives `after_ns` after its capture.
    pub(super) fn arrives(&mut self, source: SourceId, unit: AccessUnit, after_ns: i64) {
        let at = unit.dts.as_nanos() - EPOCH_NS + after_ns;
        self.script(at, Input::Unit { source, unit });
    }

    /// Up to `after_ns` of random delay.
    pub(super) fn jitter(&mut self, after_ns: i64) -> i64 {
        self.rng.random_range(0..=after_ns)
    }

    /// A source that delivers 30 pictures per second with an IDR every second, and the ramp, from `from_ns` on. Returns
    /// the capture time of its first sample, which is number 0 of the ramp.
    pub(super) fn host(&mut self, source: SourceId, from_ns: i64, seconds: i64, jitter_ns: i64) {
        let (video, audio) = (video_track(0), opus_track());
        self.on_air(from_ns, source);
        for n in 0..seconds * 30 {
            let unit = picture(
                &video,
                from_ns + n * 1_000_000_000 / 30,
                n % 30 == 0,
                n as u32,
            );
            let after = 5_000_000 + self.jitter(jitter_ns) / 2;
            self.arrives(source, unit, after);
        }
        for n in 0..seconds * 50 {
            let index = n * PACKET_SAMPLES;
            let unit = packet(&audio, from_ns + n * 20_000_000, index);
            let after = 5_000_000 + self.jitter(jitter_ns);
            self.arrives(source, unit, after);
        }
    }

    /// Runs until `until_ns`, handing every output with its program time to `each`.
    pub(super) fn run(&mut self, until_ns: i64, mut each: impl FnMut(i64, Output)) {
        let mut last_timeout = None;
        loop {
            let timeout = self.program.poll_timeout().map(|at| {
                let since = at.saturating_duration_since(self.origin).as_nanos();
                i64::try_from(since).unwrap() - EPOCH_NS
            });
            let input = self.script.keys().next().map(|(at, _)| *at);
            let now_ns = [timeout, input].into_iter().flatten().min();
            let Some(now_ns) = now_ns.filter(|now| *now <= until_ns) else {
                return;
            };
            let now = self.at(now_ns);
            if input == Some(now_ns) {
                let (_, input) = self.script.pop_first().unwrap();
                let _ = self.program.handle(now, input);
            } else {
                assert_ne!(last_timeout, Some(now_ns), "the timeout does not advance");
                last_timeout = Some(now_ns);
                self.program.handle_timeout(now);
            }
            while let Some(output) = self.program.poll_output() {
                each(now_ns, output);
            }
        }
    }

    /// Runs and collects, with the release times.
    pub(super) fn collect(&mut self, until_ns: i64) -> Published {
        let mut published = Published::default();
        self.run(until_ns, |now, output| published.add(now, output));
        published
    }
}

/// What came out, with release times in nanoseconds of program time.
#[derive(Default)]
pub(super) struct Published {
    pub(super) video: Vec<(i64, AccessUnit)>,
    pub(super) audio: Vec<(i64, AccessUnit)>,
    pub(super) keyframe_requests: Vec<(i64, SourceId)>,
    pub(super) cuts: Vec<(i64, SourceId, Timestamp)>,
    pub(super) live: Vec<(i64, AccessUnit)>,
}

impl Published {
    fn add(&mut self, now: i64, output: Output) {
        match output {
            Output::Unit(unit) => match unit.kind() {
                media::Kind::Video => self.video.push((now, unit)),
                media::Kind::Audio => self.audio.push((now, unit)),
            },
            Output::Cut {
                source, audio_at, ..
            } => {
                self.cuts.push((now, source, audio_at));
            }
            Output::LiveSound(unit) => self.live.push((now, unit)),
            Output::RequestKeyframe { source } => self.keyframe_requests.push((now, source)),
        }
    }

    /// What holds for every program, whatever comes in.
    pub(super) fn assert_invariants(&self) {
        for pair in self.video.windows(2) {
            let [before, after] = [&pair[0].1, &pair[1].1];
            assert!(after.dts.as_millis() > before.dts.as_millis());
            assert!(after.pts >= after.dts);
            assert!(after.track.config == before.track.config || after.keyframe);
        }
        assert!(self.video.first().is_none_or(|(_, unit)| unit.keyframe));
        for pair in self.audio.windows(2) {
            let [before, after] = [&pair[0].1, &pair[1].1];
            assert_eq!(after.dts.ticks() - before.dts.ticks(), 1_024);
        }
        for (_, unit) in &self.audio {
            assert_eq!(unit.dts.ticks() % 1_024, 0);
            assert_eq!(unit.dts.rate(), Rate::AUDIO);
        }
    }
}
