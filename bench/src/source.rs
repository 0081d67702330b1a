//! The stream that every server gets: 720p30 at 2.5 Mb/s with an IDR per second and 128 kb/s of sound, pushed by RTMP.
//!
//! The payload is noise in the right sizes: servers do not decode. Each picture carries its number in its first bytes,
//! and the time it was handed to the publisher is kept, so that a viewer in this process can tell how long it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use cdn_publisher::publisher::{Destination, DestinationState, Publisher, PublisherConfig};
use media::{AccessUnit, Config, Rate, Timestamp, Track, TrackId, aac, h264};
use rand::RngCore as _;

pub(crate) const FPS: u64 = 30;
const VIDEO_BPS: u64 = 2_500_000;
const AUDIO_FRAME_BYTES: usize = 341; // 128 kb/s in frames of 1024 samples
/// Keyframes take a quarter of the second's bytes.
const KEYFRAME_SHARE: u64 = 4;
/// Pictures whose sending time is kept: an hour.
const KEPT: usize = 108_000;
/// Where the number lies in an FLV video tag: behind tag (5), NAL length (4) and NAL header (1).
pub(crate) const NUMBER_AT: usize = 10;

/// 1280x720, constrained baseline, level 3.1.
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xec, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40,
    0x00, 0x00, 0x0f, 0x03, 0xc6, 0x0c, 0xa8,
];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

/// When each picture was sent.
#[derive(Clone)]
pub(crate) struct SendTimes {
    base: Instant,
    nanos: Arc<Vec<AtomicU64>>,
}

impl SendTimes {
    fn new() -> Self {
        let nanos = (0..KEPT).map(|_| AtomicU64::new(0)).collect();
        Self {
            base: Instant::now(),
            nanos: Arc::new(nanos),
        }
    }

    fn mark(&self, number: u64) {
        let slot = usize::try_from(number)
            .ok()
            .and_then(|number| self.nanos.get(number));
        if let Some(slot) = slot {
            let nanos = u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX);
            slot.store(nanos, Relaxed);
        }
    }

    /// How long picture `number` took until `now`.
    pub(crate) fn age(&self, number: u64, now: Instant) -> Option<Duration> {
        let slot = self.nanos.get(usize::try_from(number).ok()?)?;
        let sent = Duration::from_nanos(slot.load(Relaxed));
        now.duration_since(self.base)
            .checked_sub(sent)
            .filter(|_| !sent.is_zero())
    }
}

/// A running publisher.
pub(crate) struct Source {
    /// Sending time of each picture.
    pub(crate) times: SendTimes,
    publisher: Publisher,
    task: tokio::task::JoinHandle<()>,
}

impl Source {
    /// Publishes `live/bench` to an RTMP port of loopback.
    pub(crate) async fn start(rtmp: u16) -> anyhow::Result<Self> {
        Self::publish(format!("rtmp://127.0.0.1:{rtmp}/live/bench"), VIDEO_BPS).await
    }

    /// Publishes to a URL, with as many bits of video per second; returns when the server takes the stream.
    pub(crate) async fn publish(url: String, video_bps: u64) -> anyhow::Result<Self> {
        let publisher = Publisher::start("bench".into(), PublisherConfig::default());
        publisher.set_destinations(vec![Destination {
            name: "bench".into(),
            url,
        }]);
        let times = SendTimes::new();
        let task = tokio::spawn(feed(publisher.clone(), times.clone(), video_bps)?);
        let begun = Instant::now();
        while publisher
            .status()
            .iter()
            .all(|status| status.state != DestinationState::Publishing)
        {
            anyhow::ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "the server does not take the stream"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self {
            times,
            publisher,
            task,
        })
    }

    /// Ends the stream.
    pub(crate) async fn stop(self) {
        self.task.abort();
        self.publisher.shutdown(Duration::from_millis(200)).await;
    }
}

fn feed(
    publisher: Publisher,
    times: SendTimes,
    video_bps: u64,
) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let video = h264::Config::new(Bytes::from_static(SPS), vec![Bytes::from_static(PPS)])?;
    let video = track(1, Config::H264(video), Rate::VIDEO);
    let audio = track(2, Config::Aac(aac::Config::lc(48_000, 2)?), Rate::AUDIO);
    let per_second = video_bps / 8;
    let keyframe = usize::try_from(per_second / KEYFRAME_SHARE)?;
    let other = usize::try_from((per_second - per_second / KEYFRAME_SHARE) / (FPS - 1))?;
    let mut noise = vec![0; keyframe];
    rand::rng().fill_bytes(&mut noise);
    Ok(async move {
        let begun = tokio::time::Instant::now();
        let (mut pictures, mut sounds) = (0_u64, 0_u64);
        loop {
            let picture_at = Duration::from_nanos(pictures * 1_000_000_000 / FPS);
            let sound_at = Duration::from_nanos(sounds * 1_024 * 1_000_000_000 / 48_000);
            tokio::time::sleep_until(begun + picture_at.min(sound_at)).await;
            if picture_at <= sound_at {
                let is_key = pictures.is_multiple_of(FPS);
                let size = if is_key { keyframe } else { other };
                let data = picture(pictures, is_key, noise.get(..size).unwrap_or_default());
                let ticks = i64::try_from(pictures * 90_000 / FPS).unwrap_or(i64::MAX);
                let unit = unit(&video, Timestamp::new(ticks, Rate::VIDEO), is_key, data);
                times.mark(pictures);
                publisher.send(unit);
                pictures += 1;
            } else {
                let data =
                    Bytes::copy_from_slice(noise.get(..AUDIO_FRAME_BYTES).unwrap_or_default());
                let ticks = i64::try_from(sounds * 1_024).unwrap_or(i64::MAX);
                publisher.send(unit(&audio, Timestamp::new(ticks, Rate::AUDIO), true, data));
                sounds += 1;
            }
        }
    })
}

fn track(id: u32, config: Config, rate: Rate) -> Arc<Track> {
    Arc::new(Track {
        id: TrackId(id),
        config,
        rate,
    })
}

fn unit(track: &Arc<Track>, at: Timestamp, keyframe: bool, data: Bytes) -> AccessUnit {
    AccessUnit {
        track: Arc::clone(track),
        pts: at,
        dts: at,
        keyframe,
        discontinuity: false,
        data,
    }
}

/// One NAL unit in AVCC form: header, number, noise.
fn picture(number: u64, is_key: bool, noise: &[u8]) -> Bytes {
    let mut data = BytesMut::with_capacity(noise.len() + 13);
    data.put_u32(u32::try_from(noise.len() + 9).unwrap_or(u32::MAX));
    data.put_u8(if is_key { 0x65 } else { 0x41 });
    data.put_u64(number);
    data.put_slice(noise);
    data.freeze()
}
