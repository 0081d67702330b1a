//! Co-broadcasters see and hear each other by WHEP: browsers, an independent stack, and a participant who comes back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::analysis::pictures::follow;
use e2e::analysis::{rtp, sync, tone};
use e2e::clip::{self, Clip};
use e2e::interop::{self, Case, Direction, Outcome};
use e2e::run::anchor::{Anchor, Options};
use e2e::run::browser::Browser;
use e2e::run::process::{Process, report};
use e2e::run::{eventually, rude, tools, whip};
use serde_json::Value;

use crate::clients::aiortc_version;
use crate::collab::{CLIP_S, FPS, Show};
use crate::support::{SOON, median, samples};

pub(crate) const SECONDS: u32 = 12;

/// A test picture with drawn numbers and a tone, at a size that leaves room for two browsers on two cores.
pub(crate) fn studio(anchor: &Anchor, participant: &str, role: &str) -> String {
    anchor.url(&format!(
        "/studio/demo?source=pattern&size=320x180&fps=15&kbps=400&sound=tone&participant={participant}&role={role}"
    ))
}

#[tokio::test]
async fn two_browsers_see_and_hear_each_other() -> anyhow::Result<()> {
    let version = interop::version(&tools::system("chromium")?, "--version");
    let begin = |direction| Case::begin("Chromium", &version, direction);
    let (publish, play) = (begin(Direction::Publish)?, begin(Direction::Play)?);
    let anchor = Anchor::start().await?;
    let whep = |participant: &str| anchor.url(&format!("/whep/demo/{participant}"));
    let ann = Browser::talk(&studio(&anchor, "ann", "host"), &whep("bob"), SECONDS)?;
    let bob = Browser::talk(&studio(&anchor, "bob", "guest"), &whep("ann"), SECONDS)?;
    for (name, browser) in [("ann", ann), ("bob", bob)] {
        sees_and_hears(browser, 0).await.context(name)?;
    }
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    let detail = "the studio page, in two browsers that see and hear each other";
    publish.end(Outcome::Works, format!("{detail}; nothing of it is broken"))?;
    let detail = "two browsers see and hear each other for 12 s; every number drawn into the pictures is read, none steps back";
    play.end(Outcome::Works, detail)
}

/// What a browser that talks ([`Browser::talk`], for [`SECONDS`]) gets of the other, who draws numbers and sends a tone. The
/// numbers may begin anew so often.
pub(crate) async fn sees_and_hears(mut browser: Browser, restarts: usize) -> anyhow::Result<()> {
    browser.playing().await?;
    let report = browser.report(SECONDS).await?;
    let numbers = follow(&report.numbers());
    let shown = report.frames.len();
    let said = || format!("{shown} frames, {numbers:?}, {:?}", report.sound.rms);
    // Two encoders, two decoders and the node share the machine: pictures may be left out, none may be broken.
    ensure!(shown > 12 * 5, "{}", said());
    ensure!(
        numbers.unreadable == 0 && numbers.backwards <= restarts,
        "{}",
        said()
    );
    ensure!(report.sound.rms > 0.1, "the other is not heard, {}", said());
    browser.stop().await
}

/// How much the subscriber has decoded so far: pictures and sounds.
fn decoded(viewer: &Process) -> anyhow::Result<(u32, u32)> {
    let said = viewer.output();
    let mut lines = said.iter().rev();
    let last = lines.find_map(|line| line.strip_prefix("decoded "));
    let mut numbers = last.context("nothing decoded")?.split(' ');
    let mut next = || -> anyhow::Result<u32> { Ok(numbers.next().context("a number")?.parse()?) };
    Ok((next()?, next()?))
}

#[tokio::test]
async fn a_participant_who_comes_back_is_seen_again_by_the_same_subscriber() -> anyhow::Result<()> {
    let case = Case::begin("aiortc", aiortc_version()?, Direction::Play)?;
    let anchor = Anchor::start().await?;
    let file = clip::clip(&Clip::default())?;
    let publish = format!("{}?participant=ann", anchor.whip("demo"));
    let first = whip::ffmpeg(&publish, &file, true)?;
    anchor.wait_for_state("demo", "live", SOON).await?;
    let mut viewer = whip::aiortc_viewer(&anchor.url("/whep/demo/ann"), 25)?;
    let told = |error: anyhow::Error, viewer: &Process| {
        error.context(format!("{}\n{}", viewer.tail(), anchor.process.tail()))
    };
    let grows = async |from: (u32, u32), viewer: &Process| {
        eventually("more pictures and sounds", SOON, async || {
            let (pictures, sounds) = decoded(viewer)?;
            ensure!(
                pictures >= from.0 + 45 && sounds >= from.1 + 75,
                "{pictures} {sounds}"
            );
            Ok((pictures, sounds))
        })
        .await
        .map_err(|error| told(error, viewer))
    };
    let before = grows((0, 0), &viewer).await?;
    // It vanishes without a word; its successor is the same participant.
    drop(first);
    let second = whip::ffmpeg(&publish, &file, true)?;
    grows(before, &viewer).await?;
    let ended = viewer.end(Duration::from_secs(40)).await?;
    ensure!(ended.success(), "{}", viewer.tail());
    drop(second);
    ensure!(anchor.panics().is_empty(), "{:?}", anchor.panics());
    let detail = "it decodes a participant, who vanishes and comes back, in one session";
    case.end(Outcome::Works, detail)
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_in_clear_words() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let post = async |path: &str, body: &str| -> anyhow::Result<(u16, Value)> {
        let request = reqwest::Client::new().post(anchor.url(path));
        let request = request.header("content-type", "application/sdp");
        let answer = request.body(body.to_owned()).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    const VP8: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
        a=rtpmap:96 VP8/90000\r\n";
    let (status, problem) = post("/whep/demo/ann", VP8).await?;
    ensure!(status == 422, "{problem}");
    let detail = problem["detail"].as_str().context("a detail")?;
    ensure!(
        detail.contains("VP8") && detail.contains("H.264"),
        "{detail}"
    );
    ensure!(post("/whep/nope/ann", VP8).await?.0 == 404);
    let (status, problem) = post(
        "/whep/demo/ann",
        &rude::offer(1).replace("sendonly", "recvonly"),
    )
    .await?;
    ensure!(status == 404, "{problem}");
    Ok(())
}

/// Waits until the recorder has said something.
pub(crate) async fn said(recorder: &Process, what: &str) -> anyhow::Result<()> {
    eventually(what, SOON, async || {
        let said = recorder.output();
        ensure!(said.iter().any(|line| line.starts_with(what)), "not yet");
        Ok(())
    })
    .await
    .map_err(|error| error.context(recorder.tail()))
}

/// How the drawn numbers of a clip that is sent in a loop go on: skipped and repeated ones. None may step back.
fn assert_advances(numbers: impl Iterator<Item = Option<u32>>) -> anyhow::Result<(usize, usize)> {
    let frames = CLIP_S * FPS;
    let (mut skipped, mut repeated) = (0, 0);
    let mut last: Option<u32> = None;
    for (at, number) in numbers.enumerate() {
        let number = number.with_context(|| format!("picture {at} is unreadable"))?;
        if let Some(last) = last {
            let step = (number + frames - last) % frames;
            ensure!(step <= 2, "picture {at} shows {number} after {last}");
            skipped += usize::from(step == 2);
            repeated += usize::from(step == 0);
        }
        last = Some(number);
    }
    Ok((skipped, repeated))
}

/// The program by WebRTC, judged by an independent receiver to the sample.
#[tokio::test]
async fn viewers_in_real_time_do_not_notice_ten_toggles() -> anyhow::Result<()> {
    let show = Show::start(Options::default(), &[]).await?;
    let folder = tempfile::tempdir()?;
    let url = show.anchor.url("/whep/demo");
    let mut viewer = whip::aiortc_recorder(&url, folder.path())?;
    said(&viewer, "playing").await?;
    let channel = show.anchor.get("/api/v1/channels/demo").await?;
    ensure!(channel["viewers"]["whep"] == 1, "{channel}");
    // Receivers find the length of their jitter buffers.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..5 {
        for mode in ["collab", "solo"] {
            show.switch(mode).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let ended = viewer.stop(SOON).await?;
    ensure!(ended.success(), "{}", viewer.tail());

    let recording = rtp::Recording::read(folder.path())?;
    let pictures = &recording.pictures;
    let (skipped, repeated) = assert_advances(pictures.iter().map(|picture| picture.number))?;
    let steps = |time: fn(&rtp::Picture) -> f64| {
        let pairs = pictures.windows(2);
        pairs
            .map(|pair| time(&pair[1]) - time(&pair[0]))
            .fold(0.0, f64::max)
    };
    let (shown, decoded) = (steps(|p| p.at), steps(|p| p.decoded));
    // What lies between two pictures at the joint of the clip is the host's own.
    ensure!(shown <= 0.055, "pictures {shown:.3} s apart");

    let left = recording.channel(0);
    let defects = tone::listen(&left, samples(0.5));
    ensure!(
        recording.sound_breaks == 0,
        "{} breaks",
        recording.sound_breaks
    );
    let worst = defects
        .gaps
        .iter()
        .map(|(_, length)| *length)
        .fold(0.0, f64::max);

    let lit: Vec<bool> = pictures.iter().map(|picture| picture.is_lit).collect();
    let times: Vec<f64> = pictures.iter().map(|picture| picture.at).collect();
    let flashes = sync::onsets(&lit, &times);
    let beeps = sync::beeps(&recording.channel(1), recording.sound_start);
    let offsets = sync::offsets(&flashes, &beeps);
    let offset = median(offsets.clone());
    report(&format!(
        "{} pictures, at most {:.0} ms apart ({:.0} ms when decoded), {skipped} skipped, {repeated} repeated; \
         sound: {} clicks, largest gap {:.1} ms; {} beeps, sound {:.1} ms after picture",
        pictures.len(),
        1_000.0 * shown,
        1_000.0 * decoded,
        defects.clicks.len(),
        1_000.0 * worst,
        offsets.len(),
        1_000.0 * offset,
    ));
    ensure!(decoded <= 0.2, "a freeze of {decoded:.3} s");
    ensure!(
        offsets.len() >= 8 && offset.abs() <= 0.040,
        "{offsets:?} of flashes {flashes:?} and beeps {beeps:?}"
    );
    ensure!(defects.none(), "{defects:?}");
    ensure!(
        show.anchor.panics().is_empty(),
        "{:?}",
        show.anchor.panics()
    );
    Ok(())
}

/// The watch page by WebRTC: a browser shows every cut without a freeze.
#[tokio::test]
async fn a_browser_in_real_time_does_not_freeze_at_ten_toggles() -> anyhow::Result<()> {
    const SECONDS: u32 = 13;
    let show = Show::start(Options::default(), &[]).await?;
    let mut viewer = Browser::watch(&show.anchor.url("/watch/demo"), "webrtc", SECONDS)?;
    viewer.playing().await?;
    let mut pace = tokio::time::interval(Duration::from_millis(1_600));
    for _ in 0..5 {
        for mode in ["collab", "solo"] {
            pace.tick().await;
            show.switch(mode).await?;
        }
    }
    let seen = viewer.report(SECONDS).await?;
    let said = || format!("{seen:?}\n{}", viewer.log().join("\n"));
    let times = seen.frames.windows(2).map(|pair| pair[1].now - pair[0].now);
    let freeze = times.fold(0.0, f64::max);
    let frames = CLIP_S * FPS;
    let numbers: Option<Vec<u32>> = seen.frames.iter().map(|frame| frame.number).collect();
    let numbers = numbers.with_context(|| format!("unreadable, {}", said()))?;
    let back = numbers
        .windows(2)
        .filter(|pair| (pair[1] + frames - pair[0]) % frames > frames / 2);
    let back = back.count();
    report(&format!(
        "{} frames, at most {freeze:.0} ms apart, {back} back; sound: rms {:.3}, {} gaps, {} clicks",
        seen.frames.len(),
        seen.sound.rms,
        seen.sound.gaps.len(),
        seen.sound.clicks.len()
    ));
    ensure!(freeze <= 200.0, "a freeze of {freeze:.0} ms, {}", said());
    ensure!(back == 0, "{back} frames back, {}", said());
    ensure!(seen.frames.len() > 13 * 20, "frames, {}", said());
    ensure!(seen.sound.gaps.is_empty(), "gaps, {}", said());
    ensure!((seen.sound.rms - 0.28).abs() < 0.03, "level, {}", said());
    Ok(())
}

#[tokio::test]
async fn a_viewer_may_come_before_the_show() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    anchor.create_channel("demo", &[]).await?;
    let mut viewer = whip::aiortc_viewer(&anchor.url("/whep/demo"), 60)?;
    said(&viewer, "decoded 0 0").await?;
    let file = clip::clip(&Clip::default())?;
    let host = whip::ffmpeg(&anchor.whip("demo"), &file, true)?;
    said(&viewer, "playing").await?;
    eventually("sound", SOON, async || {
        let (_, sounds) = decoded(&viewer)?;
        ensure!(sounds >= 50, "{sounds}");
        Ok(())
    })
    .await?;
    viewer.kill().await?;
    drop(host);
    Ok(())
}

#[tokio::test]
async fn a_program_with_too_many_viewers_says_when_to_come_again() -> anyhow::Result<()> {
    let options = Options::default().set("webrtc", "max_viewers_per_channel = 1");
    let anchor = Anchor::start_with(options).await?;
    anchor.create_channel("demo", &[]).await?;
    let watch = async |number: usize| -> anyhow::Result<reqwest::Response> {
        let request = reqwest::Client::new().post(anchor.url("/whep/demo"));
        let request = request.header("content-type", "application/sdp");
        let offer = rude::offer(number).replace("sendonly", "recvonly");
        Ok(request.body(offer).send().await?)
    };
    let first = watch(1).await?;
    ensure!(first.status() == 201, "{}", first.text().await?);
    let second = watch(2).await?;
    ensure!(second.status() == 503 && second.headers().contains_key("retry-after"));
    // Whoever leaves makes room.
    let location = first.headers().get("location").context("a location")?;
    let session = anchor.url(location.to_str()?);
    ensure!(
        reqwest::Client::new()
            .delete(session)
            .send()
            .await?
            .status()
            == 200
    );
    ensure!(watch(3).await?.status() == 201);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_by_its_own_door_only() -> anyhow::Result<()> {
    let anchor = Anchor::start().await?;
    let client = reqwest::Client::new();
    let offer = client.post(anchor.whip("demo"));
    let offer = offer.header("content-type", "application/sdp");
    let answer = offer.body(rude::offer(1)).send().await?;
    ensure!(answer.status() == 201, "{}", answer.status());
    let location = answer.headers().get("location").context("a location")?;
    let own = anchor.url(location.to_str()?);
    let other = own.replace("/whip/", "/whep/");
    ensure!(client.delete(other).send().await?.status() == 404);
    ensure!(client.delete(own).send().await?.status() == 200);
    Ok(())
}
