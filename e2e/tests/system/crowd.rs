//! Guests who come, go, stall, are muted and change their size in random order, while the producer changes everything:
//! the host's program is unharmed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::{decode, tone, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip, PictureSize, Sound};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::process::{Process, report};
use e2e::run::whip;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::collab::host_clip;
use crate::support::{Recording, SOON, largest_step_ms, samples};

/// How long it goes on; `ANCHORNET_CROWD_S` sets another number, `ANCHORNET_SEED` another order of events.
const SECONDS: u64 = 40;
const GUESTS: usize = 3;
/// The host's clip starts over after so many seconds: what its tone does there is its own business.
const HOST_CLIP_S: f64 = 60.0;

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A guest's clip in one of two sizes; its tone is in the right channel only.
fn guest_clip(wide: bool) -> anyhow::Result<PathBuf> {
    let (width, height) = if wide { (320, 180) } else { (480, 270) };
    clip::clip(&Clip {
        size: PictureSize { width, height },
        seconds: 60,
        video_kbps: 300,
        sound: Sound::GuestTone,
        ..Clip::default()
    })
}

struct Guest {
    name: String,
    process: Option<Process>,
    stalled: bool,
}

struct Crowd {
    anchor: Anchor,
    guests: Vec<Guest>,
    random: StdRng,
    /// What was done, for the message of a failure.
    done: Vec<String>,
}

impl Crowd {
    /// Does something that guests and producers do.
    async fn act(&mut self) -> anyhow::Result<()> {
        let at = self.random.random_range(0..GUESTS);
        let choice = self.random.random_range(0..10);
        let on = self.random.random_bool(0.6);
        let wide = self.random.random_bool(0.5);
        let guest = self.guests.get_mut(at).context("a guest")?;
        let name = guest.name.clone();
        let said = match (choice, guest.process.is_some()) {
            (0..=3, false) => {
                let url = format!("demo?participant={name}&role=guest");
                let process = whip::ffmpeg(&self.anchor.whip(&url), &guest_clip(wide)?, true)?;
                guest.process = Some(process);
                guest.stalled = false;
                format!("{name} comes, wide {wide}")
            }
            (0, true) => {
                guest.process = None;
                format!("{name} is gone")
            }
            // Whoever returns in another size does so without having left.
            (1, true) => {
                let url = format!("demo?participant={name}&role=guest");
                let process = whip::ffmpeg(&self.anchor.whip(&url), &guest_clip(wide)?, true)?;
                guest.process = Some(process);
                guest.stalled = false;
                format!("{name} comes again, wide {wide}")
            }
            (2 | 3, true) => {
                guest.stalled = !guest.stalled;
                let signal = if guest.stalled {
                    Signal::STOP
                } else {
                    Signal::CONT
                };
                if let Some(process) = &guest.process {
                    process.signal(signal)?;
                }
                format!("{name} stalls: {}", guest.stalled)
            }
            (4, _) => self.patch(&name, &json!({ "muted": on })).await?,
            (5, _) => self.patch(&name, &json!({ "on_program": on })).await?,
            (6, _) => {
                let layouts = ["grid", "side-by-side", "speaker", "pip"];
                let layout = layouts[self.random.random_range(0..layouts.len())];
                let body = json!({ "name": layout });
                self.ask(Method::PUT, "/api/v1/channels/demo/layout", &body)
                    .await?
            }
            _ => {
                let mode = if on { "collab" } else { "solo" };
                let (status, answer) = self.anchor.switch("demo", mode).await?;
                // 409: no guest is on program at the moment; 504: those there are do not move.
                ensure!([200, 409, 504].contains(&status), "{status} {answer}");
                format!("{mode}: {status}")
            }
        };
        self.done.push(said);
        Ok(())
    }

    async fn patch(&self, name: &str, body: &serde_json::Value) -> anyhow::Result<String> {
        let path = format!("/api/v1/channels/demo/participants/{name}");
        self.ask(Method::PATCH, &path, body).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<String> {
        let (status, answer) = self.anchor.send(method, path, body).await?;
        // 404: whoever it is about is not there.
        ensure!([200, 404].contains(&status), "{path}: {status} {answer}");
        Ok(format!("{path} {body}: {status}"))
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test that lasts for a while")]
async fn a_restless_crowd_harms_nobody() -> anyhow::Result<()> {
    let seconds = setting("ANCHORNET_CROWD_S", SECONDS);
    let seed = setting("ANCHORNET_SEED", 7);
    let options = Options::default()
        .set("mixer", "latency_ms = 600")
        .set("mixer", "stall_timeout_ms = 1500");
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let url = anchor.whip("demo?participant=host&role=host");
    let mut host = whip::ffmpeg(&url, &host_clip()?, true)?;
    viewer.wait_for_pictures(30, SOON).await?;
    let guest = |n: usize| Guest {
        name: format!("guest-{n}"),
        process: None,
        stalled: false,
    };
    let mut crowd = Crowd {
        anchor,
        guests: (0..GUESTS).map(guest).collect(),
        random: StdRng::seed_from_u64(seed),
        done: Vec::new(),
    };
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        let pause_ms = crowd.random.random_range(200..1_200);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let done = crowd.done.join("\n");
        crowd.act().await.context(done)?;
    }
    let seen = viewer.pictures();
    viewer.wait_for_pictures(seen + 30, SOON).await?;
    host.kill().await?;
    report(&format!("seed {seed}: {} events", crowd.done.len()));

    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    tracks::strictly_increasing(&found.video)?;
    tracks::on_the_sample_clock(&found.audio)?;
    tracks::contiguous(&found.audio)?;
    decode::without_errors(&recording.file)?;
    let step_ms = largest_step_ms(&found.video);
    let said = || crowd.done.join("\n");
    // A picture of the mix may be missing where a busy machine starts decoders; no more than that.
    assert!(step_ms <= 200, "{step_ms} ms without a picture\n{}", said());

    // The host's tone, which is in the left channel alone, went through all of it.
    let sound = recording.sound(0)?;
    let start = recording.sound_start_s()?;
    let first = found.video.first().context("a picture")?.pts_s();
    let last = found.video.last().context("a picture")?.pts_s();
    let index = |at: f64| samples(at - start).min(sound.len());
    let defects = tone::listen(&sound[..index(last - 0.7)], index(first + 0.5));
    let own = |at: f64| {
        let since = (at + start - first).rem_euclid(HOST_CLIP_S);
        at > 30.0 && !(1.0..HOST_CLIP_S - 1.0).contains(&since)
    };
    let clicks: Vec<f64> = defects.clicks.into_iter().filter(|at| !own(*at)).collect();
    let gaps: Vec<_> = defects
        .gaps
        .into_iter()
        .filter(|(at, _)| !own(*at))
        .collect();
    assert!(
        clicks.is_empty() && gaps.is_empty(),
        "clicks {clicks:?}, gaps {gaps:?}\n{}",
        said()
    );
    assert!(crowd.anchor.panics().is_empty());
    Ok(())
}
