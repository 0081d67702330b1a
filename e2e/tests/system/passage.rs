//! What a host sends is what a viewer gets: every picture byte for byte, the sound as good as a direct encode, both
//! as far apart as they were.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::{align, channel, codec, decode, pictures, sync, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip, PictureSize, Sound, read_code};
use e2e::run::anchor::Anchor;
use e2e::run::process::Process;
use e2e::run::whip;
use media::flv::Tag;

use crate::support::{Recording, SOON, largest_step_ms, median, signed_samples};

/// Publishes a clip once from beginning to end and gives what a viewer who came first has got.
async fn publish_once(
    sent: usize,
    start: impl FnOnce(&str) -> anyhow::Result<Process>,
) -> anyhow::Result<Vec<Tag>> {
    let mut anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let mut host = start(&anchor.whip("demo"))?;
    let ended = host.end(Duration::from_secs(40)).await?;
    ensure!(
        ended.success(),
        "{}\n{}",
        host.tail(),
        anchor.process.tail()
    );
    let all = viewer.wait_for_pictures(sent, Duration::from_secs(5)).await;
    ensure!(
        anchor.process.ended()?.is_none(),
        "{}",
        anchor.process.tail()
    );
    all.map_err(|error| error.context(anchor.process.tail()))?;
    Ok(viewer.tags())
}

#[tokio::test]
async fn every_picture_arrives_unchanged_and_in_time() -> anyhow::Result<()> {
    // Several slices to a picture: a unit must not be taken for complete after the first.
    let clip = Clip {
        seconds: 10,
        slices: 3,
        ..Clip::default()
    };
    let file = clip::clip(&clip)?;
    let sent = decode::coded_pictures(&file)?;
    let ffmpeg = |url: &str| whip::ffmpeg(url, &file, false);
    let recording = Recording::of(&publish_once(sent.len(), ffmpeg).await?)?;
    let found = &recording.tracks;

    let received = pictures::slices(&found.video)?;
    assert_eq!(
        pictures::is_contiguous_run(&received, &sent)?,
        0,
        "the first picture is the clip's first"
    );
    assert_eq!(received.len(), sent.len());
    decode::without_errors(&recording.file)?;

    tracks::strictly_increasing(&found.video)?;
    tracks::on_the_sample_clock(&found.audio)?;
    assert!(
        largest_step_ms(&found.video) <= 67,
        "pictures keep their distance"
    );

    let first = found.video.first().context("a picture")?.pts_s();
    let last = found.video.last().context("a picture")?.pts_s();
    let defects = recording.tone_between(first + 0.5..last - 0.5)?;
    assert!(defects.none(), "{defects:?}");

    let here = av_offset(&recording, clip.size)?;
    let there = source_av_offset(&file, clip.size)?;
    assert!(
        (here - there).abs() <= 0.020,
        "A/V offset {here:.4} s, at the source {there:.4} s"
    );
    Ok(())
}

/// By how much beeps come later than flashes in a recording, in seconds.
fn av_offset(recording: &Recording, size: PictureSize) -> anyhow::Result<f64> {
    let luma = decode::luma(&recording.file, size)?;
    let times: Vec<f64> = recording
        .tracks
        .video
        .iter()
        .map(tracks::Unit::pts_s)
        .collect();
    let numbers: Vec<_> = luma
        .iter()
        .map(|luma| read_code(luma, size.width))
        .collect();
    assert_eq!(
        pictures::follow(&numbers),
        pictures::Numbers::default(),
        "every drawn number is there"
    );
    let beeps = sync::beeps(&recording.sound(1)?, recording.sound_start_s()?);
    let offsets = sync::offsets(&sync::flashes(&luma, &times, size), &beeps);
    ensure!(offsets.len() >= 8, "beeps are missing: {offsets:?}");
    Ok(median(offsets))
}

/// The same for the clip as it was sent: by the times of its packets.
fn source_av_offset(file: &Path, size: PictureSize) -> anyhow::Result<f64> {
    let luma = decode::luma(file, size)?;
    let flashes = sync::flashes(&luma, &decode::packet_times(file, 'v')?, size);
    let start = *decode::packet_times(file, 'a')?.first().context("sound")?;
    let beeps = sync::beeps(&channel(&decode::sound(file)?, 1), start);
    Ok(median(sync::offsets(&flashes, &beeps)))
}

#[tokio::test]
async fn sound_is_as_good_as_a_direct_encode() -> anyhow::Result<()> {
    let clip = Clip {
        seconds: 10,
        sound: Sound::Music,
        ..Clip::default()
    };
    let file = clip::clip(&clip)?;
    let sent = decode::coded_pictures(&file)?.len();
    // Not ffmpeg: it sends its first half second at once, and the program follows its clock from then on.
    let steady = |url: &str| whip::anchornet(url, &file);
    let recording = Recording::of(&publish_once(sent, steady).await?)?;
    let program = recording.sound(0)?;
    let source = decode::sound(&file)?;
    let ideal = channel(&source, 0);

    // The source on the program's timeline: exactly as it was where the clocks agree, bent by no more than 0.1 % where
    // the program follows the host's clock.
    let picture = decode::packet_times(&file, 'v')?[0] - decode::packet_times(&file, 'a')?[0];
    let program_picture = recording.tracks.video[0].pts_s() - recording.sound_start_s()?;
    let anchors = align::follow(
        &ideal,
        &program,
        2 * 48_000,
        12_000,
        signed_samples(program_picture - picture),
    )?;
    ensure!(anchors.len() >= 20, "{anchors:?}");
    for pair in anchors.windows(2) {
        let slope = (pair[1].lag - pair[0].lag) / (pair[1].at - pair[0].at);
        assert!(
            slope.abs() < 1.1e-3,
            "samples were added or lost: {anchors:?}"
        );
    }
    let ideal = align::on_timeline(&ideal, &anchors, 0..program.len());

    // A direct encode of the same sound on the same grid of 1024 samples.
    let both: Vec<[f32; 2]> = ideal.iter().map(|sample| [single(*sample); 2]).collect();
    let direct = channel(&codec::round_trip(&both, 128)?, 0);
    // Where the lag stands still the reference is exact. Where the program follows the host's clock it is itself an
    // estimate (the lag is found to about a twentieth of a sample and taken as linear between anchors), so the two are
    // told apart; the bar is one. A whole sample costs more than 4 dB.
    let (mut still, mut bent) = (Excess::default(), Excess::default());
    for pair in anchors.windows(2) {
        let stands = (pair[1].lag - pair[0].lag).abs() < 0.15;
        let range = sample(pair[0].at)..sample(pair[1].at);
        let excess = if stands { &mut still } else { &mut bent };
        excess.add(&ideal, &program, &direct, range);
    }
    // Silence about the strict bar would be a pass for nothing.
    ensure!(
        still.samples >= 24_000,
        "the timeline stood still for {} samples only: {anchors:?}",
        still.samples
    );
    println!(
        "still: {} samples, {:.2} dB; followed: {} samples, {:.2} dB",
        still.samples,
        still.db(),
        bent.samples,
        bent.db()
    );
    assert!(
        still.db() <= 1.0 && bent.db() <= 1.0,
        "the worst 5 ms have {:.2} dB ({:.2} dB where the clock is followed) more error than a direct encode; {anchors:?}",
        still.db(),
        bent.db()
    );
    Ok(())
}

/// The worst 5 ms of error energy, of the program and of a direct encode, over the same stretches.
#[derive(Default)]
struct Excess {
    program: f64,
    direct: f64,
    samples: usize,
}

impl Excess {
    fn add(
        &mut self,
        ideal: &[f64],
        program: &[f64],
        direct: &[f64],
        range: std::ops::Range<usize>,
    ) {
        let worst = |sound: &[f64]| {
            let errors = sound[range.clone()].iter().zip(&ideal[range.clone()]);
            let errors: Vec<f64> = errors.map(|(a, b)| (a - b).powi(2)).collect();
            let windows = errors
                .chunks_exact(240)
                .map(|window| window.iter().sum::<f64>());
            windows.fold(0.0, f64::max)
        };
        self.samples += range.len();
        self.program = self.program.max(worst(program));
        self.direct = self.direct.max(worst(direct));
    }

    /// How much worse the program is; 0 where nothing was judged.
    fn db(&self) -> f64 {
        if self.direct > 0.0 {
            10.0 * (self.program / self.direct).log10()
        } else {
            0.0
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions lie in a recording of seconds"
)]
fn sample(at: f64) -> usize {
    at as usize
}

#[expect(clippy::cast_possible_truncation, reason = "samples lie in -1..1")]
fn single(sample: f64) -> f32 {
    sample as f32
}

#[tokio::test]
async fn a_viewer_who_comes_later_starts_at_a_keyframe_at_once() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let file = clip::clip(&Clip {
        seconds: 10,
        ..Clip::default()
    })?;
    let _host = whip::ffmpeg(&anchor.whip("demo"), &file, true)?;
    anchor.wait_for_state("demo", "live", SOON).await?;
    let first = FlvViewer::connect(&anchor.flv("demo")).await?;
    first.wait_for_pictures(20, SOON).await?;

    let second = FlvViewer::connect(&anchor.flv("demo")).await?;
    second.wait_for_pictures(1, Duration::from_secs(1)).await?;
    second.wait_for_pictures(60, SOON).await?;
    let found = tracks::Tracks::of(&second.tags())?;
    assert!(found.video[0].keyframe);
    let sent = decode::coded_pictures(&file)?;
    pictures::is_contiguous_run(&pictures::slices(&found.video)?, &sent)?;

    let unknown = reqwest::get(anchor.flv("nobody")).await?;
    assert_eq!(unknown.status(), 404);
    Ok(())
}
