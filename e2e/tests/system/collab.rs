//! Solo to collab and back, again and again: one publisher for the whole show, and nothing but the picture changes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use e2e::analysis::pictures::follow;
use e2e::analysis::tracks::{self, Tracks};
use e2e::analysis::{decode, sync, tone};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip, GUEST_HZ, PictureSize, SAMPLE_RATE, Sound, read_code};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::browser::Browser;
use e2e::run::destination::NginxRtmp;
use e2e::run::process::{Process, report};
use e2e::run::rtmp::{self, Encoding};
use e2e::run::rtmp_tap::RtmpTap;
use e2e::run::{eventually, ports, tools, whip};
use media::h264::{self, nal_type};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Recording, SOON, largest_step_ms, median, samples};

/// Toggles there and back; `ANCHORNET_TOGGLES` sets another number.
const TOGGLES: usize = 200;
/// Length of the clips; they are sent in a loop.
pub(crate) const CLIP_S: u32 = 60;
pub(crate) const FPS: u32 = 30;

pub(crate) fn host_clip() -> anyhow::Result<PathBuf> {
    clip::clip(&Clip {
        seconds: CLIP_S,
        // ffmpeg sends keyframes when the clip has them, not when it is asked: the way back need not wait long.
        gop: 6,
        ..Clip::default()
    })
}

pub(crate) fn guest_clip() -> anyhow::Result<PathBuf> {
    clip::clip(&Clip {
        size: PictureSize {
            width: 320,
            height: 180,
        },
        seconds: CLIP_S,
        video_kbps: 300,
        sound: Sound::GuestTone,
        ..Clip::default()
    })
}

/// How the host comes, and thereby what its sound is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostBy {
    /// Opus, which is decoded and encoded for the program.
    Whip,
    /// AAC of ffmpeg's own encoder, which passes through.
    Rtmp,
}

/// A show with a host and a guest, in a layout that leaves the host's picture where it is alone.
pub(crate) struct Show {
    pub(crate) anchor: Anchor,
    viewer: FlvViewer,
    host: Process,
    guest: Process,
}

impl Show {
    pub(crate) async fn start(options: Options, destinations: &[String]) -> anyhow::Result<Self> {
        Self::start_by(HostBy::Whip, options, destinations).await
    }

    async fn start_by(
        by: HostBy,
        options: Options,
        destinations: &[String],
    ) -> anyhow::Result<Self> {
        // What is judged is what viewers see and hear. A machine that stands still for a moment shall not be.
        let options = options
            .set("mixer", "latency_ms = 600")
            .set("mixer", "stall_timeout_ms = 1500")
            .set("mixer", "names = false");
        let anchor = Anchor::start_with(options).await?;
        anchor.create_channel("demo", destinations).await?;
        let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
        let who = "demo?participant=host&role=host";
        let host = match by {
            HostBy::Whip => whip::ffmpeg(&anchor.whip(who), &host_clip()?, true)?,
            HostBy::Rtmp => {
                let file = rtmp::encoded(&host_clip()?, Encoding::default())?;
                rtmp::ffmpeg(&anchor.rtmp(who), &file, true)?
            }
        };
        viewer.wait_for_pictures(30, SOON).await?;
        let guest = anchor.whip("demo?participant=guest&role=guest");
        let guest = whip::ffmpeg(&guest, &guest_clip()?, true)?;
        let show = Self {
            anchor,
            viewer,
            host,
            guest,
        };
        show.wait_for_participants(2).await?;
        let layout = json!({ "name": "pip" });
        let path = "/api/v1/channels/demo/layout";
        let (status, answer) = show.anchor.send(Method::PUT, path, &layout).await?;
        ensure!(status == 200, "{status} {answer}");
        // A mixer that was started ahead has the tiles in place by then.
        let seen = show.viewer.pictures();
        show.viewer.wait_for_pictures(seen + 30, SOON).await?;
        Ok(show)
    }

    async fn wait_for_participants(&self, count: usize) -> anyhow::Result<()> {
        eventually("live participants", SOON, async || {
            let all = self.anchor.participants("demo").await?;
            let live = all.iter().filter(|p| p["state"] == "live");
            ensure!(live.count() == count, "{all:?}");
            Ok(())
        })
        .await
    }

    /// Switches, and gives how long the answer says it took.
    pub(crate) async fn switch(&self, mode: &str) -> anyhow::Result<f64> {
        let (status, answer) = self.anchor.switch("demo", mode).await?;
        ensure!(
            status == 200 && answer["mode"] == mode && answer["changed"] == true,
            "{status} {answer}\n{}",
            self.anchor.process.tail()
        );
        answer["cut"]["waited_ms"].as_f64().context("a cut")
    }

    async fn stats(&self) -> anyhow::Result<Value> {
        self.anchor.get("/api/v1/channels/demo/stats").await
    }

    async fn wait_for_source(&self, source: &str, limit: Duration) -> anyhow::Result<()> {
        eventually(&format!("program from {source}"), limit, async || {
            let stats = self.stats().await?;
            ensure!(stats["program"]["source"] == source, "{stats}");
            Ok(())
        })
        .await
        .map_err(|error| error.context(self.anchor.process.tail()))
    }

    /// The sound has followed a switch, which it does at its own best place.
    async fn wait_for_joint(&self, passes: bool) -> anyhow::Result<()> {
        eventually("a joint of the sound", SOON, async || {
            let stats = self.stats().await?;
            ensure!(stats["program"]["audio_passes"] == passes, "{stats}");
            Ok(())
        })
        .await
    }

    /// The mixer's process: the anchor's only child.
    fn mixer_pid(&self) -> anyhow::Result<i32> {
        let anchor = self.anchor.process.id();
        let children = format!("/proc/{anchor}/task/{anchor}/children");
        let mut pids = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{anchor}/task"))? {
            let listed = std::fs::read_to_string(task?.path().join("children"))?;
            pids.extend(listed.split_whitespace().map(str::to_owned));
        }
        ensure!(pids.len() == 1, "{children}: {pids:?}");
        Ok(pids.first().context("a mixer")?.parse()?)
    }
}

fn percentile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len().saturating_sub(1)) as f64 * at;
    values
        .get(samples(index / 48_000.0))
        .copied()
        .unwrap_or(f64::NAN)
}

/// What is drawn in a recording, picture by picture.
struct Drawn {
    numbers: Vec<Option<u32>>,
    flashes: Vec<f64>,
}

fn drawn(recording: &Recording) -> anyhow::Result<Drawn> {
    let size = Clip::default().size;
    let (mut numbers, mut lit) = (Vec::new(), Vec::new());
    decode::each_luma(&recording.file, size, |luma| {
        numbers.push(read_code(luma, size.width));
        lit.push(sync::is_lit(luma, size));
    })?;
    let times: Vec<f64> = recording
        .tracks
        .video
        .iter()
        .map(tracks::Unit::pts_s)
        .collect();
    Ok(Drawn {
        numbers,
        flashes: sync::onsets(&lit, &times),
    })
}

/// What there is around a picture: number, time, and whether it is an IDR.
fn around(found: &Tracks, numbers: &[Option<u32>], at: usize) -> Vec<(Option<u32>, i64, bool)> {
    let units = found.video.iter().zip(numbers);
    let near = units.skip(at.saturating_sub(15)).take(20);
    near.map(|(unit, number)| (*number, unit.dts_ms, unit.keyframe))
        .collect()
}

/// Nothing but the picture changed: every number in its place, the host's tone without a click, sound and picture together.
fn assert_nobody_noticed(recording: &Recording, by: HostBy) -> anyhow::Result<()> {
    let found = &recording.tracks;
    tracks::strictly_increasing(&found.video)?;
    match by {
        HostBy::Whip => {
            tracks::on_the_sample_clock(&found.audio)?;
            tracks::contiguous(&found.audio)?;
        }
        // The program follows the host's clock, and the clip jumps a little where it starts over: by a sample per unit.
        HostBy::Rtmp => {
            let steps = found.audio.windows(2).map(|at| at[1].dts_ms - at[0].dts_ms);
            ensure!(
                steps.clone().all(|step| (21..=22).contains(&step)),
                "{steps:?}"
            );
        }
    }
    decode::without_errors(&recording.file)?;
    let drawn = drawn(recording)?;
    // The clip's sound is longer than its picture, by 7 ms of Opus or 31 of AAC: where the host starts over while it is shown
    // alone, the step is the host's own.
    let own_step_ms = match by {
        HostBy::Whip => 42,
        HostBy::Rtmp => 65,
    };
    let starts_over = |at: usize| drawn.numbers.get(at + 1) < drawn.numbers.get(at);
    for (at, pair) in found.video.windows(2).enumerate() {
        let step_ms = pair[1].dts_ms - pair[0].dts_ms;
        assert!(
            step_ms <= 35 || (starts_over(at) && step_ms <= own_step_ms),
            "a gap of {step_ms} ms before picture {}: {:?}",
            at + 1,
            around(found, &drawn.numbers, at)
        );
    }
    let frames = CLIP_S * FPS;
    let (mut unreadable, mut skipped, mut repeated) = (0, 0, 0);
    let mut last: Option<u32> = None;
    for (at, number) in drawn.numbers.iter().enumerate() {
        let Some(number) = *number else {
            unreadable += 1;
            continue;
        };
        if let Some(last) = last {
            // The clip starts over; back by more than half of it is ahead.
            let step = (number + frames - last) % frames;
            assert!(
                step <= 2,
                "picture {at} shows frame {number} after frame {last}: {:?}",
                around(found, &drawn.numbers, at)
            );
            skipped += usize::from(step == 2);
            repeated += usize::from(step == 0);
        }
        last = Some(number);
    }
    report(&format!(
        "{} pictures: {unreadable} unreadable, {skipped} frames skipped, {repeated} repeated",
        drawn.numbers.len()
    ));
    assert_eq!(unreadable, 0, "every picture carries a number");
    // The mix lies on the host's pictures: a cut repeats none and skips none, but for a busy machine.
    let allowed = 4 + drawn.numbers.len() / 200;
    assert!(
        skipped + repeated <= allowed,
        "{skipped} skipped and {repeated} repeated, of which {allowed} are allowed"
    );

    let sound = recording.sound(0)?;
    let start = recording.sound_start_s()?;
    let first = found.video.first().context("a picture")?.pts_s();
    let last = found.video.last().context("a picture")?.pts_s();
    let index = |at: f64| samples(at - start).min(sound.len());
    let defects = tone::listen(&sound[..index(last - 0.5)], index(first + 0.5));
    // Where the clip starts over the tone is the host's own business: its encoder begins anew.
    let loops: Vec<f64> = found
        .video
        .iter()
        .zip(drawn.numbers.windows(2))
        .filter(|(_, pair)| pair[1] < pair[0])
        .map(|(unit, _)| unit.pts_s())
        .collect();
    let near_loop = |at: f64| loops.iter().any(|l| (at + start - l).abs() < 0.3);
    let clicks: Vec<f64> = defects
        .clicks
        .into_iter()
        .filter(|at| !near_loop(*at))
        .collect();
    let gaps: Vec<_> = defects
        .gaps
        .into_iter()
        .filter(|(at, _)| !near_loop(*at))
        .collect();
    assert!(
        clicks.is_empty() && gaps.is_empty(),
        "clicks {clicks:?}, gaps {gaps:?}"
    );

    let beeps = sync::beeps(&recording.sound(1)?, start);
    let moved = moved_s(&drawn.flashes, &beeps)?;
    report(&format!("A/V offset moved by {moved:.4} s"));
    assert!(moved.abs() <= 0.010, "A/V offset moved by {moved:.4} s");
    Ok(())
}

/// By how much beeps have moved against flashes from the first quarter of a show to its last, in seconds.
fn moved_s(flashes: &[f64], beeps: &[f64]) -> anyhow::Result<f64> {
    let offsets = sync::offsets(flashes, beeps);
    let quarter = offsets.len() / 4;
    ensure!(
        quarter >= 2,
        "{} flashes, {} beeps",
        flashes.len(),
        beeps.len()
    );
    let before = median(offsets[..quarter].to_vec());
    let after = median(offsets[offsets.len() - quarter..].to_vec());
    Ok(after - before)
}

/// How often another encoder's pictures follow, by the parameter sets in the keyframes.
fn changes_of_parameter_sets(recording: &Recording) -> anyhow::Result<usize> {
    let mut sets: Vec<Bytes> = Vec::new();
    for picture in recording.tracks.video.iter().filter(|u| u.keyframe) {
        for nal in h264::avcc_nals(&picture.data) {
            sets.extend(Some(nal?).filter(|nal| h264::nal_unit_type(nal) == nal_type::SPS));
        }
    }
    sets.dedup();
    // The first are the mix's: until then the host's come in the sequence header.
    Ok(sets.len())
}

/// How loud the guest's tone is over 20 ms, at these seconds of the recording.
pub(crate) fn guest_level(right: &[f64], at: f64) -> f64 {
    let window = right.get(samples(at)..).unwrap_or_default();
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (n, sample) in window.iter().take(960).enumerate() {
        let phase = std::f64::consts::TAU * GUEST_HZ * n as f64 / f64::from(SAMPLE_RATE);
        sine += sample * phase.sin();
        cosine += sample * phase.cos();
    }
    sine.hypot(cosine) / 480.0
}

#[tokio::test]
async fn toggling_again_and_again_is_not_noticed() -> anyhow::Result<()> {
    toggle(HostBy::Whip).await
}

/// Two bitstreams are joined at each toggle.
#[tokio::test]
async fn toggling_with_a_host_who_sends_aac_is_not_noticed() -> anyhow::Result<()> {
    toggle(HostBy::Rtmp).await
}

async fn toggle(by: HostBy) -> anyhow::Result<()> {
    let toggles = std::env::var("ANCHORNET_TOGGLES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(TOGGLES);
    let nginx = NginxRtmp::start().await?;
    let tap = RtmpTap::start(nginx.port()).await?;
    let mut show = Show::start_by(by, Options::default(), &[tap.url("demo")]).await?;

    let (mut there, mut back) = (Vec::new(), Vec::new());
    let mut resident = Vec::new();
    for _ in 0..toggles / 2 {
        for (mode, times) in [("collab", &mut there), ("solo", &mut back)] {
            times.push(show.switch(mode).await?);
            if by == HostBy::Rtmp {
                show.wait_for_joint(mode == "solo").await?;
            }
        }
        resident.push(show.anchor.resident_kib()? as f64);
    }
    let seen = show.viewer.pictures();
    show.viewer.wait_for_pictures(seen + 30, SOON).await?;
    report(&format!(
        "{toggles} toggles; to collab p50 {:.0} ms p95 {:.0} ms; to solo p50 {:.0} ms p95 {:.0} ms",
        percentile(there.clone(), 0.5),
        percentile(there, 0.95),
        percentile(back.clone(), 0.5),
        percentile(back, 0.95)
    ));

    let connections = tap.connections();
    assert_eq!(
        connections.len(),
        1,
        "one publisher for life: {connections:?}"
    );
    assert!(connections[0].open && show.viewer.ended().is_none());
    let stats = show.stats().await?;
    assert_eq!(stats["program"]["switches"], toggles / 2 * 2);
    if by == HostBy::Rtmp {
        let count = |name: &str| stats["program"][name].as_u64().context("a count");
        let (splices, forced) = (count("splices")?, count("forced_splices")?);
        report(&format!("{splices} joints, {forced} where nothing fitted"));
        let said = show.anchor.process.output();
        let rough = |line: &&String| line.contains("joined") && !line.contains("Spliced");
        said.iter().filter(rough).for_each(|line| report(line));
        // Where the clip starts over, the host's sound may have a hole.
        ensure!(splices >= u64::try_from(toggles)?, "{stats}");
        ensure!(forced <= 2 + splices / 200, "{stats}");
    }
    show.host.kill().await?;
    show.guest.kill().await?;

    let recording = Recording::of(&show.viewer.tags())?;
    assert_nobody_noticed(&recording, by)?;
    // The same size and profile: players are not set up anew, the keyframes carry the parameter sets.
    assert_eq!(recording.tracks.video_headers.len(), 1, "sequence headers");
    let changes = changes_of_parameter_sets(&recording)?;
    assert!(changes >= toggles / 2 * 2, "{changes} changes of encoder");

    // Memory does not grow with the number of switches.
    let half = resident.len() / 2;
    let (first, second) = (
        median(resident[half..half + half / 2].to_vec()),
        median(resident[half + half / 2..].to_vec()),
    );
    report(&format!("resident: {first:.0} KiB, then {second:.0} KiB"));
    assert!(
        (second / first - 1.0).abs() < 0.05,
        "{first} → {second} KiB"
    );
    show.anchor.process.stop(SOON).await?;
    Ok(())
}

/// Browsers have their own idea of what is seamless.
#[tokio::test]
async fn viewers_in_browsers_do_not_notice_twenty_toggles() -> anyhow::Result<()> {
    const SECONDS: u32 = 24;
    let show = Show::start(Options::default(), &[]).await?;
    for player in ["flv", "hls"] {
        let mut viewer = Browser::watch(&show.anchor.url("/watch/demo"), player, SECONDS)?;
        viewer.playing().await?;
        // The page judges from a little later on: the toggles are spread over the time in which it does.
        let mut pace = tokio::time::interval(Duration::from_millis(1_250));
        for _ in 0..10 {
            for mode in ["collab", "solo"] {
                pace.tick().await;
                show.switch(mode).await?;
            }
        }
        let report = viewer.report(SECONDS).await?;
        let said = || format!("{player}: {report:?}\n{}", viewer.log().join("\n"));
        assert_eq!(report.stalls(), 0, "stalls, {}", said());
        assert!((report.pace() - 1.0).abs() < 0.01, "pace, {}", said());
        assert!(report.sound.clicks.is_empty(), "clicks, {}", said());
        assert!(report.sound.gaps.is_empty(), "gaps, {}", said());
        let numbers = follow(&report.numbers());
        assert_eq!(numbers.unreadable, 0, "unreadable, {}", said());
    }
    Ok(())
}

#[tokio::test]
async fn the_guest_is_heard_in_collab_and_only_there() -> anyhow::Result<()> {
    let show = Show::start(Options::default(), &[]).await?;
    let mut cuts = Vec::new();
    for mode in ["collab", "solo"] {
        let (status, answer) = show.anchor.switch("demo", mode).await?;
        assert_eq!(status, 200, "{answer}");
        cuts.push(answer["cut"]["audio_dts_ms"].as_f64().context("a cut")? / 1_000.0);
        let seen = show.viewer.pictures();
        show.viewer.wait_for_pictures(seen + 45, SOON).await?;
    }
    // Muted, the guest is seen and not heard; heard again at half the volume.
    let path = "/api/v1/channels/demo/participants/guest";
    let patch = json!({ "volume": 0.5 });
    let (status, answer) = show.anchor.send(Method::PATCH, path, &patch).await?;
    assert_eq!((status, &answer["volume"]), (200, &json!(0.5)));
    let (_, answer) = show.anchor.switch("demo", "collab").await?;
    cuts.push(answer["cut"]["audio_dts_ms"].as_f64().context("a cut")? / 1_000.0);
    let seen = show.viewer.pictures();
    show.viewer.wait_for_pictures(seen + 45, SOON).await?;

    let recording = Recording::of(&show.viewer.tags())?;
    let start = recording.sound_start_s()?;
    let right = recording.sound(1)?;
    let level = |at: f64| guest_level(&right, at - start);
    let [there, back, again] = cuts[..] else {
        anyhow::bail!("{cuts:?}")
    };
    for (at, expected) in [
        (there - 0.1, 0.0),
        (there + 0.05, 0.2),
        (back - 0.1, 0.2),
        (back + 0.05, 0.0),
        (again - 0.1, 0.0),
        (again + 0.05, 0.1),
    ] {
        let found = level(at);
        assert!(
            (found - expected).abs() < 0.03,
            "at {at:.3} s: {found:.3}, not {expected}"
        );
    }
    Ok(())
}

/// Clocks that are a second apart: everybody's lips fit their own voice in the mix.
#[tokio::test]
async fn lips_stay_in_sync_whatever_a_guests_clock_says() -> anyhow::Result<()> {
    let options = Options::default().set("mixer", "latency_ms = 600");
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    // The flashes and beeps are the guest's; the host has another tone and is not in the picture.
    let host = clip::clip(&Clip {
        seconds: CLIP_S,
        sound: Sound::GuestTone,
        ..Clip::default()
    })?;
    let url = anchor.whip("demo?participant=host&role=host");
    let _host = whip::ffmpeg(&url, &host, true)?;
    viewer.wait_for_pictures(30, SOON).await?;
    let url = anchor.whip("demo?participant=guest&role=guest");
    let _guest = whip::anchornet_ahead(&url, &host_clip()?, 1)?;
    let layout = json!({
        "name": "custom",
        "tiles": [{ "participant": "guest", "x": 0, "y": 0, "width": 1, "height": 1 }],
    });
    let path = "/api/v1/channels/demo/layout";
    eventually("the guest", SOON, async || {
        let (status, answer) = anchor.send(Method::PUT, path, &layout).await?;
        ensure!(status == 200, "{status} {answer}");
        let (status, answer) = anchor.switch("demo", "collab").await?;
        ensure!(status == 200, "{status} {answer}");
        Ok(())
    })
    .await?;
    let seen = viewer.pictures();
    viewer
        .wait_for_pictures(seen + 10 * FPS as usize, SOON)
        .await?;

    let recording = Recording::of(&viewer.tags())?;
    let drawn = drawn(&recording)?;
    let beeps = sync::beeps(&recording.sound(1)?, recording.sound_start_s()?);
    let offsets = sync::offsets(&drawn.flashes, &beeps);
    report(&format!("sound after picture: {offsets:.3?} s"));
    ensure!(offsets.len() >= 6, "{} beeps", offsets.len());
    let worst = offsets
        .iter()
        .fold(0.0, |worst: f64, offset| worst.max(offset.abs()));
    assert!(worst <= 0.040, "{offsets:?}");
    Ok(())
}

#[tokio::test]
async fn a_guest_who_comes_before_the_host_is_heard() -> anyhow::Result<()> {
    let options = Options::default().set("mixer", "latency_ms = 600");
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let guest = anchor.whip("demo?participant=guest&role=guest");
    let guest = whip::ffmpeg(&guest, &guest_clip()?, true)?;
    let host = anchor.whip("demo?participant=host&role=host");
    eventually("guest", SOON, async || {
        let guest = anchor.get("/api/v1/channels/demo/participants").await?;
        ensure!(guest["items"][0]["state"] == "live", "{guest}");
        Ok(())
    })
    .await?;
    let host = whip::ffmpeg(&host, &host_clip()?, true)?;
    viewer.wait_for_pictures(30, SOON).await?;
    let show = Show {
        anchor,
        viewer,
        host,
        guest,
    };
    show.switch("collab").await?;
    let seen = show.viewer.pictures();
    show.viewer.wait_for_pictures(seen + 45, SOON).await?;
    let recording = Recording::of(&show.viewer.tags())?;
    let last = recording.tracks.audio.last().context("sound")?.pts_s();
    let start = recording.sound_start_s()?;
    let level = guest_level(&recording.sound(1)?, last - start - 0.5);
    assert!((level - 0.2).abs() < 0.03, "{level:.3}");
    Ok(())
}

#[tokio::test]
async fn a_mixer_that_dies_or_stalls_leaves_the_host_on_air() -> anyhow::Result<()> {
    let show = Show::start(Options::default(), &[]).await?;
    show.switch("collab").await?;
    for signal in ["KILL", "STOP"] {
        show.wait_for_source("mix", SOON).await?;
        let pid = show.mixer_pid()?.to_string();
        let seen = show.viewer.last_ms()?;
        let sent = std::process::Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status()?;
        ensure!(sent.success(), "kill -{signal} {pid}");
        // Another mixer; the host is shown alone until it delivers, if that takes longer than the program delay.
        eventually("another mixer", SOON, async || {
            let found = show.mixer_pid()?.to_string();
            ensure!(found != pid, "still {pid}");
            Ok(())
        })
        .await?;
        let pictures = show.viewer.pictures();
        show.viewer.wait_for_pictures(pictures + 60, SOON).await?;
        show.wait_for_source("mix", SOON).await?;
        let arrived = show.viewer.tags();
        let video: Vec<i64> = arrived
            .iter()
            .filter(|tag| tag.kind == media::flv::TagKind::Video && tag.timestamp_ms > seen)
            .map(|tag| i64::from(tag.timestamp_ms))
            .collect();
        let gap = video
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default();
        report(&format!(
            "after SIG{signal}: the picture stood still for {gap} ms"
        ));
        // The stall timeout of this test, a keyframe interval of the host, and a slow machine.
        assert!(gap <= 3_000, "{gap} ms after SIG{signal}");
    }
    let channel = show.anchor.get("/api/v1/channels/demo").await?;
    assert_eq!(channel["mode"], "collab", "the mode is the producer's");
    assert!(show.viewer.ended().is_none());
    let recording = Recording::of(&show.viewer.tags())?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    tracks::contiguous(&recording.tracks.audio)?;
    decode::without_errors(&recording.file)?;
    Ok(())
}

/// The mixer on another machine: the link by TCP, with a secret that does not travel.
#[tokio::test]
async fn a_mixer_elsewhere_serves_whoever_knows_its_secret() -> anyhow::Result<()> {
    const SECRET: &str = "ANCHORNET_E2E_MIXER_SECRET";
    let address = format!("127.0.0.1:{}", ports::free()?);
    let mut command = Command::new(tools::anchornet()?.with_file_name("anchornet-mixer"));
    command.args(["--listen", &address, "--secret-env", SECRET]);
    command.env(SECRET, "sixteen or more characters");
    let mixers = Process::start("mixers", &mut command)?;
    let options = |secret: &str| {
        let mut options = Options::default()
            .set("mixer", format!("address = \"{address}\""))
            .set("mixer", format!("secret_env = \"{SECRET}\""));
        options.environment.push((SECRET, secret.to_owned()));
        options
    };
    let show = Show::start(options("sixteen or more characters"), &[]).await?;
    for mode in ["collab", "solo", "collab"] {
        show.switch(mode).await?;
    }
    let seen = show.viewer.pictures();
    show.viewer.wait_for_pictures(seen + 60, SOON).await?;
    assert!(show.mixer_pid().is_err(), "no mixer is the anchor's child");
    // The machine is gone: the host stays on air.
    drop(mixers);
    show.wait_for_source("host", SOON).await?;
    let recording = Recording::of(&show.viewer.tags())?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    decode::without_errors(&recording.file)?;
    drop(show);

    let _mixers = Process::start("mixers", &mut command)?;
    let show = Show::start(options("another secret of some length"), &[]).await?;
    let (status, problem) = show.anchor.switch("demo", "collab").await?;
    assert_eq!(status, 503, "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("the secret is wrong"), "{detail}");
    Ok(())
}

#[tokio::test]
async fn a_silent_host_is_replaced_by_the_slate_until_it_is_back() -> anyhow::Result<()> {
    let mut show = Show::start(Options::default(), &[]).await?;
    show.guest.kill().await?;
    let guest = "/api/v1/channels/demo/participants/guest";
    show.anchor
        .send(Method::DELETE, guest, &Value::Null)
        .await?;
    show.host.kill().await?;
    show.wait_for_source("slate", SOON).await?;
    let pictures = show.viewer.pictures();
    show.viewer.wait_for_pictures(pictures + 45, SOON).await?;
    let host = show.anchor.whip("demo?participant=host&role=host");
    let _host = whip::ffmpeg(&host, &host_clip()?, true)?;
    show.wait_for_source("host", SOON).await?;
    let pictures = show.viewer.pictures();
    show.viewer.wait_for_pictures(pictures + 45, SOON).await?;

    assert!(show.viewer.ended().is_none());
    let recording = Recording::of(&show.viewer.tags())?;
    tracks::strictly_increasing(&recording.tracks.video)?;
    tracks::contiguous(&recording.tracks.audio)?;
    decode::without_errors(&recording.file)?;
    // The picture stands still from two seconds after the last arrival on, less what the host was ahead, and for as long as a new
    // mixer and the returning host need.
    let still = largest_step_ms(&recording.tracks.video);
    assert!((1_000..6_000).contains(&still), "{still} ms");
    Ok(())
}

#[tokio::test]
async fn switches_that_cannot_be_say_why_and_change_nothing() -> anyhow::Result<()> {
    let mut show = Show::start(
        Options::default().set("mixer", "command = \"/nonexistent/mixer\""),
        &[],
    )
    .await?;
    let (status, problem) = show.anchor.switch("demo", "collab").await?;
    assert_eq!(status, 503, "{problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("/nonexistent/mixer"), "{detail}");

    let path = "/api/v1/channels/demo/mode";
    let unknown = json!({ "mode": "collab", "participants": ["host", "nobody"] });
    let (status, problem) = show.anchor.send(Method::PUT, path, &unknown).await?;
    assert_eq!((status, &problem["field"]), (422, &json!("participants")));

    // The last guest off program, and then gone: nobody to collaborate with.
    let guest = "/api/v1/channels/demo/participants/guest";
    let off = json!({ "on_program": false });
    show.anchor.send(Method::PATCH, guest, &off).await?;
    let (status, _) = show.anchor.switch("demo", "collab").await?;
    assert_eq!(status, 409);
    show.guest.kill().await?;
    show.anchor
        .send(Method::DELETE, guest, &Value::Null)
        .await?;
    show.wait_for_participants(1).await?;
    let (status, problem) = show.anchor.switch("demo", "collab").await?;
    assert_eq!(status, 409, "{problem}");
    let (status, same) = show.anchor.switch("demo", "solo").await?;
    assert_eq!((status, &same["changed"]), (200, &json!(false)));
    let before = show.viewer.pictures();
    show.viewer.wait_for_pictures(before + 30, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_hundred_switches_at_once_are_answered_one_by_one() -> anyhow::Result<()> {
    let show = Show::start(Options::default(), &[]).await?;
    show.switch("collab").await?;
    let modes = (0..100).map(|n| if n % 2 == 0 { "solo" } else { "collab" });
    let asked = modes.map(|mode| show.anchor.switch("demo", mode));
    let answers = futures_util::future::join_all(asked).await;
    let (mut done, mut busy) = (0, 0);
    for answer in answers {
        match answer? {
            (200, _) => done += 1,
            (503, problem) => {
                busy += 1;
                assert!(problem["detail"].is_string());
            }
            (status, problem) => anyhow::bail!("{status} {problem}"),
        }
    }
    report(&format!("{done} done, {busy} told to come back"));
    assert!(done >= 10 && done + busy == 100);
    let recording = Recording::of(&show.viewer.tags())?;
    assert!(largest_step_ms(&recording.tracks.video) <= 35);
    Ok(())
}
