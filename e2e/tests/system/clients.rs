//! WHIP and WHEP clients of independent make. ffmpeg and Chromium are in every other test.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::{decode, pictures, tracks};
use e2e::capture::FlvViewer;
use e2e::clip::{self, Clip};
use e2e::interop::{self, Case, Direction, Outcome};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::{eventually, ports, tools, whip};
use serde_json::Value;

use crate::support::{Recording, SOON, largest_step_ms};

pub(crate) fn aiortc_version() -> anyhow::Result<String> {
    let mut python = std::process::Command::new(tools::python()?);
    let output = python.args(["-c", "import aiortc; print(aiortc.__version__)"]);
    Ok(String::from_utf8(output.output()?.stdout)?
        .trim()
        .to_owned())
}

fn ffmpeg_version() -> anyhow::Result<String> {
    Ok(interop::version(&tools::ffmpeg9()?, "-version"))
}

#[tokio::test]
async fn aiortc_publishes() -> anyhow::Result<()> {
    let case = Case::begin("aiortc", aiortc_version()?, Direction::Publish)?;
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = clip::clip(&Clip::default())?;
    let mut host = whip::aiortc(&anchor.whip("demo"), &clip::transport_stream(&file)?, 6)?;
    let ended = host.end(Duration::from_secs(40)).await?;
    ensure!(
        ended.success(),
        "{}\n{}",
        host.tail(),
        anchor.process.tail()
    );

    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    assert!(
        found.video.len() >= 150,
        "{} pictures of 6 s",
        found.video.len()
    );
    pictures::is_contiguous_run(
        &pictures::slices(&found.video)?,
        &decode::coded_pictures(&file)?,
    )?;
    tracks::strictly_increasing(&found.video)?;
    tracks::on_the_sample_clock(&found.audio)?;
    decode::without_errors(&recording.file)?;
    let detail = "6 s of coded packets; the program has every picture byte for byte, and sound without a hole";
    case.end(Outcome::Works, detail)
}

/// GStreamer's whipsink is built by `make interop`: its plugin is in no Debian package.
#[tokio::test]
async fn gstreamer_publishes() -> anyhow::Result<()> {
    let case = Case::begin("GStreamer", gstreamer_version()?, Direction::Publish)?;
    let Some(mut command) = whip::gstreamer_command()? else {
        let why = "its whipsink, which no package of Debian has, is not built: make interop";
        whip::skipped(why);
        return case.end(Outcome::NotTried, why);
    };
    let anchor = open_anchor().await?;
    let token = anchor.token("publish")?;
    let host = whip::gstreamer(&mut command, &anchor.whip("demo"), &token)?;
    let viewer = eventually("stream of the new channel", SOON, async || {
        FlvViewer::connect(&anchor.flv("demo")).await
    });
    let viewer = viewer
        .await
        .map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))?;
    let got = viewer.wait_for_pictures(150, Duration::from_secs(30)).await;
    got.map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))?;
    let recording = Recording::of(&viewer.tags())?;
    let found = &recording.tracks;
    tracks::strictly_increasing(&found.video)?;
    tracks::on_the_sample_clock(&found.audio)?;
    assert!(largest_step_ms(&found.video) <= 200);
    decode::without_errors(&recording.file)?;
    let detail = "`whipsink` of gst-plugin-webrtchttp, 5 s of x264 and Opus; the program decodes without an error, no two pictures \
                  more than 200 ms apart";
    case.end(Outcome::Works, detail)
}

fn gstreamer_version() -> anyhow::Result<String> {
    let launch = tools::system("gst-launch-1.0");
    Ok(launch.map_or_else(
        |_| String::new(),
        |launch| interop::version(&launch, "--version"),
    ))
}

/// Its ICE agent passes over loopback: the WebRTC port is open to all addresses, which takes a secret.
async fn open_anchor() -> anyhow::Result<Anchor> {
    let mut options = Options::default().set("channels", "auto_create = true");
    options.webrtc = Some(format!("0.0.0.0:{}", ports::free()?));
    options.environment.push((
        "ANCHORNET_AUTH_SECRET",
        "a secret of this test and nobody else".to_owned(),
    ));
    Anchor::start_with(options).await
}

/// Built together with whipsink.
#[tokio::test]
async fn gstreamer_plays() -> anyhow::Result<()> {
    let case = Case::begin("GStreamer", gstreamer_version()?, Direction::Play)?;
    let Some(mut command) = whip::gstreamer_command()? else {
        let why = "its whepsrc, which no package of Debian has, is not built: make interop";
        whip::skipped(why);
        return case.end(Outcome::NotTried, why);
    };
    let anchor = open_anchor().await?;
    let token = anchor.token("publish")?;
    let file = clip::clip(&Clip::default())?;
    let host = format!("demo?participant=ann&token={token}");
    let host = whip::ffmpeg(&anchor.whip(&host), &file, true)?;
    let ann = anchor.url("/whep/demo/ann");
    eventually("participant", SOON, async || {
        let path = format!("/api/v1/channels/demo/participants?token={token}");
        let people = anchor.get(&path).await?;
        ensure!(people["items"][0]["state"] == "live", "{people}");
        Ok(())
    })
    .await
    .map_err(|error| error.context(host.tail()))?;
    let viewer = whip::gstreamer_viewer(&mut command, &ann, &token)?;
    let decoded = |name: &str| {
        let said = viewer.output();
        let name = format!("GstIdentity:{name}: last-message = chain");
        said.iter().filter(|line| line.contains(&name)).count()
    };
    eventually("pictures and sounds", Duration::from_secs(30), async || {
        let (one, other) = (decoded("one"), decoded("other"));
        ensure!(
            one.min(other) >= 90 && one.max(other) >= 150,
            "{one} {other}"
        );
        Ok(())
    })
    .await
    .map_err(|error| error.context(format!("{}\n{}", viewer.tail(), anchor.process.tail())))?;
    let detail =
        "`whepsrc` of gst-plugin-webrtchttp decodes 3 s of a participant's pictures and sound";
    case.end(Outcome::Works, detail)
}

/// ffmpeg has a muxer for WHIP, and nothing for WHEP.
#[tokio::test]
async fn ffmpeg_plays_by_other_ways() -> anyhow::Result<()> {
    let case = Case::begin("ffmpeg", ffmpeg_version()?, Direction::Play)?;
    let mut command = std::process::Command::new(tools::ffmpeg9()?);
    let output = command.args(["-hide_banner", "-formats"]).output()?;
    let formats = String::from_utf8(output.stdout)?.to_lowercase();
    ensure!(formats.contains("whip"), "{formats}");
    let (outcome, detail) = match formats.contains("whep") {
        false => (
            Outcome::Cannot,
            "it has no WHEP; it plays HTTP-FLV, HLS and RTMP",
        ),
        true => (Outcome::NotTried, "this version has a WHEP of its own"),
    };
    case.end(outcome, detail)
}

/// Firefox codes H.264 with a plugin that it downloads; without it, it must be told what is missing.
#[tokio::test]
async fn firefox_is_told_what_it_lacks() -> anyhow::Result<()> {
    let cases = [Direction::Publish, Direction::Play]
        .map(|direction| Case::begin("Firefox", "", direction));
    let [publish, play] = cases;
    let (publish, play) = (publish?, play?);
    let Ok(firefox) = tools::system("firefox-esr") else {
        let why = "firefox-esr is not installed: make interop";
        whip::skipped(why);
        publish.end(Outcome::NotTried, why)?;
        return play.end(Outcome::NotTried, why);
    };
    let said = whip::firefox_offers(&firefox)?;
    let version = said["version"].as_str().context("a version")?;
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let cases = [
        (publish, "publish", "/whip/demo"),
        (play, "play", "/whep/demo"),
    ];
    for (case, way, path) in cases {
        let case = case.of_version(version)?;
        let offer = said[way].as_str().context("an offer")?;
        let codecs = offer
            .lines()
            .filter_map(|line| line.strip_prefix("a=rtpmap:"));
        let codecs = codecs.filter_map(|line| line.split([' ', '/']).nth(1));
        let video: Vec<&str> = codecs
            .filter(|name| ["H264", "VP8", "VP9", "AV1"].contains(name))
            .collect();
        if video.contains(&"H264") {
            case.end(
                Outcome::NotTried,
                format!("this one offers {}", video.join(", ")),
            )?;
            continue;
        }
        let request = reqwest::Client::new().post(anchor.url(path));
        let request = request.header("content-type", "application/sdp");
        let answer = request.body(offer.to_owned()).send().await?;
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(
            status == 422 && detail.contains("H.264"),
            "{status} {problem}"
        );
        let offers = video.join(", ");
        let detail = format!(
            "it offers {offers} and no H.264, for which it downloads a plugin (OpenH264) that Debian does not have; it is told so by \
             a 422"
        );
        case.end(Outcome::Cannot, detail)?;
    }
    Ok(())
}

#[tokio::test]
async fn ffmpeg_publishes_over_ipv6() -> anyhow::Result<()> {
    let case = Case::begin("ffmpeg", ffmpeg_version()?, Direction::Publish)?;
    let options = Options {
        webrtc: Some(format!("[::1]:{}", ports::free()?)),
        ..Options::default()
    };
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let viewer = FlvViewer::connect(&anchor.flv("demo")).await?;
    let file = clip::clip(&Clip::default())?;
    let host = whip::ffmpeg(&anchor.whip("demo?participant=ann"), &file, true)?;
    let got = viewer.wait_for_pictures(60, SOON).await;
    got.map_err(|error| error.context(format!("{}\n{}", host.tail(), anchor.process.tail())))?;
    decode::without_errors(&Recording::of(&viewer.tags())?.file)?;
    let detail = "its `whip` muxer, over IPv6; the program decodes without an error";
    case.end(Outcome::Works, detail)
}
